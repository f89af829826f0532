"""Is a film like those that a model was trained on? Asked before a prediction is believed.

A film becomes a row of features: HOG of a thumbnail (where edges run), a coarse normalised picture (where it is
bright), the film's proportions, and how much of its contrast is coarse (noise and text have little). A film's
distance is the mean distance to its nearest training films; the limit is a high percentile of the training
films' own distances, each to the films of other patients.

Turned films and negatives are known by comparison: turned back they are much nearer than as they are. A mirrored
film is not known: a spine and ribs look alike from both sides, and the heart's shadow weighs too little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.floors.hog import hog

Kind = Literal["ok", "upside_down", "sideways", "negative", "unlike"]

_THUMBNAIL: geometry.Size = (128, 64)
_CELLS, _ORIENTATIONS = (8,), 9
_COARSE: geometry.Size = (16, 8)
# Weights of a feature's root mean square, HOG's being 1; chosen on films of the spine and of other body parts.
_BRIGHTNESS, _PROPORTIONS, _COARSENESS = 0.1, 0.2, 0.15
_ARRAYS = ("features", "limit", "neighbours", "nearer")


class LikenessSettings(BaseModel):
    """How a film is judged.

    Attributes:
        neighbours: nearest training films whose mean distance counts.
        percentile: of the training films' own distances that a film may reach; 99 flags about one film of the
            kind in a hundred.
        nearer: a film is turned, or a negative, if putting that right takes its distance below this share.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    neighbours: int = Field(default=5, ge=1)
    percentile: float = Field(default=99.0, gt=0, le=100)
    nearer: float = Field(default=0.85, gt=0, lt=1)


@dataclass(frozen=True)
class Verdict:
    """What a film looks like.

    Attributes:
        unlike: whether the model should not be trusted with it.
        kind: "ok"; "upside_down" (turned by 180 degrees), "sideways" (by 90 or 270) or "negative" (grey values
            reversed), where putting that right gives a film like the training set; else "unlike".
        distance: of the film as it is, in the unit of `limit`.
        limit: what the training set allows.
    """

    unlike: bool
    kind: Kind
    distance: float
    limit: float


@dataclass(frozen=True)
class Likeness:
    """A training set as a judge of films.

    Attributes:
        features: (n, D) float16, a row a training film: descriptors, from which no film can be read back in
            more than outlines.
        limit: distance above which a film is unlike.
        neighbours, nearer: see LikenessSettings.
    """

    features: np.ndarray
    limit: float
    neighbours: int
    nearer: float

    @classmethod
    def fit(
        cls,
        films: np.ndarray,
        sizes_raw: np.ndarray,
        patients: np.ndarray | None = None,
        settings: LikenessSettings | None = None,
    ) -> Likeness:
        """Learn what training films look like.

        Args:
            films: (N, H, W) uint8, stretched to one size.
            sizes_raw: (N, 2) width and height before that, for their proportions.
            patients: (N,) whose films they are; films of one patient do not vouch for each other. Default:
                each is a patient of its own.
            settings: default LikenessSettings().
        Raises:
            StageError: all films are one patient's, so that nothing says how far apart patients are.
        """
        settings = settings or LikenessSettings()
        patients = np.arange(len(films)) if patients is None else np.asarray(patients)
        if len(set(patients.tolist())) < 2:
            raise StageError(
                f"judging films takes training films of two patients or more, found {len(set(patients.tolist()))}"
            )
        features = np.empty((len(films), _n_features()), np.float16)
        for i, (film, (width, height)) in enumerate(zip(films, sizes_raw, strict=True)):
            features[i] = _features(_thumbnail(np.asarray(film))[None], height / width)[0]
        own = [
            _mean_of_nearest(_distances(features, row)[patients != patient], settings.neighbours)
            for row, patient in zip(features, patients, strict=True)
        ]
        return cls(
            features, float(np.percentile(own, settings.percentile)), settings.neighbours, settings.nearer
        )

    def judge(self, film: np.ndarray) -> Verdict:
        """Judge a film (H, W) uint8 in its own proportions, of any size."""
        upright = _thumbnail(film)
        across = geometry.resize(film, _THUMBNAIL[::-1])  # the thumbnail of the film on its side
        tall = film.shape[0] / film.shape[1]
        standing = _features(np.stack([upright, upright[::-1, ::-1], 255 - upright]), tall)
        lying = _features(np.stack([np.rot90(across, 1), np.rot90(across, 3)]), 1 / tall)
        distance, *others = (
            _mean_of_nearest(_distances(self.features, row), self.neighbours)
            for row in np.concatenate([standing, lying])
        )
        kinds: tuple[Kind, ...] = ("upside_down", "negative", "sideways", "sideways")
        nearest, kind = min(zip(others, kinds, strict=True))
        if nearest <= self.limit and nearest < self.nearer * distance:
            return Verdict(True, kind, distance, self.limit)
        unlike = distance > self.limit
        return Verdict(unlike, "unlike" if unlike else "ok", distance, self.limit)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for a weights file."""
        return {
            "features": self.features,
            "limit": np.array(self.limit, np.float64),
            "neighbours": np.array(self.neighbours, np.int64),
            "nearer": np.array(self.nearer, np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Likeness:
        """The inverse of `to_arrays`; other entries are ignored.

        Raises:
            StageError: arrays are missing, or of a shape that another version of this module wrote.
        """
        if missing := [name for name in _ARRAYS if name not in arrays]:
            raise StageError(f"no judge of films in these weights: {', '.join(missing)} missing; train again")
        features = np.asarray(arrays["features"])
        if features.ndim != 2 or features.shape[1] != _n_features():
            raise StageError(
                f"the judge of films has features {features.shape}, expected (films, {_n_features()}); train again"
            )
        limit, neighbours, nearer = (np.asarray(arrays[name]).item() for name in _ARRAYS[1:])
        return cls(features, float(limit), int(neighbours), float(nearer))


def _thumbnail(film: np.ndarray) -> np.ndarray:
    return geometry.resize(film, _THUMBNAIL)


def _n_features() -> int:
    return _features(np.zeros((1, *_THUMBNAIL), np.uint8), 1.0).shape[1]


def _features(thumbnails: np.ndarray, tall: float) -> np.ndarray:
    """Thumbnails (N, 128, 64) uint8 of films `tall` times as high as wide -> (N, D) float16."""
    edges = hog(thumbnails, _CELLS, _ORIENTATIONS)
    unit = np.sqrt(edges.shape[1])  # one number weighs as much as all of HOG
    rows = []
    for thumbnail, edge in zip(thumbnails, edges, strict=True):
        coarse = geometry.resize(np.ascontiguousarray(thumbnail).astype(np.float32), _COARSE)
        spread = coarse.std()
        bright = (coarse - coarse.mean()) / (spread + 4)  # a flat film must not become all noise
        share = (spread + 1) / (thumbnail.std() + 1)
        rest = [_PROPORTIONS * unit * np.log(tall), _COARSENESS * unit * np.log(share)]
        rows.append(
            np.concatenate([edge, bright.ravel() * (_BRIGHTNESS * unit / np.sqrt(bright.size)), rest])
        )
    return np.stack(rows).astype(np.float16)


def _distances(features: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(n,) root mean square differences, in the unit of HOG's values, between rows (n, D) and one (D,)."""
    difference = features.astype(np.float32) - row.astype(np.float32)
    return np.sqrt(np.square(difference, out=difference).mean(1))


def _mean_of_nearest(distances: np.ndarray, count: int) -> float:
    return float(np.sort(distances)[:count].mean())

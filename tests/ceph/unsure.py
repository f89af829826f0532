"""Film stores of drawn shapes, and a model that is wrong there as far as it was told to be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.ceph.schema import CEPH
from stages.ceph.scoring.evidence import Draws, Evidence
from stages.ceph.spacing import write_spacing
from stages.core.data import tables
from stages.core.data.films import film_schema
from stages.core.data.split import SPLIT_SCHEMA

K = CEPH.n_points
STORED = (48, 40)
RAW = (480, 400)
CELLS = (24, 20)
SIGMA_CELLS = 1.0
BAD = (9, 18, 3)


def shapes(count: int, seed: int) -> np.ndarray:
    """(count, 19, 2) raw px: one skull, its landmarks varying in three ways, turned, scaled and shifted."""
    fixed = np.random.default_rng(1)
    mean, ways = fixed.uniform(80, 320, (K, 2)), fixed.normal(0, 6, (3, K, 2))
    rng = np.random.default_rng(seed)
    varied = mean + np.tensordot(rng.normal(size=(count, 3)), ways, 1) + rng.normal(0, 1.0, (count, K, 2))
    angle, scale = rng.normal(0, 0.05, count), np.exp(rng.normal(0, 0.05, count))
    turn = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    centred = varied - mean.mean(0)
    return scale[:, None, None] * centred @ turn + mean.mean(0) + rng.normal(0, 5, (count, 1, 2))


@dataclass(frozen=True)
class Set:
    """Folders of a film store and its split; labels (N, 19, 2) in raw px, whether or not the store has them."""

    films: Path
    split: Path
    ids: np.ndarray
    truth: np.ndarray
    roles: np.ndarray


def write_set(
    folder: Path,
    name: str,
    roles: dict[str, int],
    seed: int,
    labelled: bool = True,
    spacing_mm: float = np.nan,
    missing: int | None = None,
) -> Set:
    """A store whose pictures are noise; the first pixels of each hold its number, which the model reads.

    Points scatter as far as the model errs, so that a shape tells little of an error.

    The val films have no label of the landmark `missing`.
    """
    count = sum(roles.values())
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *STORED), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count), seed
    ids = np.array([f"ceph-{name}{i:03d}" for i in range(count)])
    truth = shapes(count, seed) + rng.normal(0, 20.0, (count, K, 2))
    role = np.repeat(list(roles), list(roles.values()))
    labels = truth.copy() if labelled else np.full_like(truth, np.nan)
    if missing is not None:
        labels[role == "val", missing] = np.nan
    films = folder / name
    films.mkdir(parents=True)
    np.save(films / "images.npy", images)
    (films / "dataset.json").write_text(json.dumps({"name": name, "lane": "ceph", "frame": "raw"}))
    table = pd.DataFrame(
        {
            "id": ids,
            "patient": ids,
            "group": "",
            "width": RAW[1],
            "height": RAW[0],
            "landmarks": list(labels),
            "phantom": True,
        }
    )
    tables.write_table(films / "films.parquet", table, film_schema(K))
    write_spacing(films, ids, dict.fromkeys(ids, (spacing_mm, spacing_mm)))
    split = folder / f"{name}-split.parquet"
    tables.write_table(split, pd.DataFrame({"id": ids, "patient": ids, "role": role}), SPLIT_SCHEMA)
    return Set(films, split, ids, truth, role)


@dataclass(frozen=True)
class Answer:
    points: np.ndarray
    expected_error: np.ndarray
    peak: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class UnsureModel:
    """Errs by its `doubt` (N, 19), model px; only its augmented draws scatter accordingly.

    Its peaks know something of the doubt; spread and dropout scatter know nothing of it.

    Attributes:
        sets: by the seed that they were written with.
        bad: films, by seed and number, that are doubted ten times as much at the landmarks BAD.
    """

    sets: dict[int, Set]
    bad: frozenset[tuple[int, int]] = frozenset()
    stored_size: tuple[int, int] = STORED
    target_sigma_cells: float = SIGMA_CELLS

    def doubt(self, images: np.ndarray) -> np.ndarray:
        doubt = np.exp(0.5 * self._noise(images, 0, (K,)))
        for i, image in enumerate(images):
            if (int(image[0, 1]), int(image[0, 0])) in self.bad:
                doubt[i, list(BAD)] *= 10
        return doubt

    def predict(self, images: np.ndarray) -> Answer:
        doubt = self.doubt(images)
        points = self._truth(images) + doubt[..., None] * self._noise(images, 1, (K, 2))
        width = 1 + doubt * np.exp(self._noise(images, 2, (K,)))
        return Answer(points, doubt, 1 / width**2, np.exp(self._noise(images, 3, (K,))))

    def maps_and_members(self, images: np.ndarray, members: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        cells = self._truth(images) * np.array([CELLS[1] / STORED[1], CELLS[0] / STORED[0]])
        maps = np.stack([gaussians(c, np.full(K, SIGMA_CELLS), CELLS) for c in cells])
        scatter = self._noise(images, 20 + seed, (members, K, 2)).swapaxes(0, 1)
        return maps, self.predict(images).points + scatter

    def predict_augmented(self, images: np.ndarray, draws: int, seed: int) -> np.ndarray:
        noise = self._noise(images, 10 + seed, (draws, K, 2)).swapaxes(0, 1)
        return self.predict(images).points + self.doubt(images)[..., None] * noise

    def _truth(self, images: np.ndarray) -> np.ndarray:
        raw = np.stack([self.sets[int(i[0, 1])].truth[int(i[0, 0])] for i in images])
        return (raw + 0.5) * np.array([STORED[1] / RAW[1], STORED[0] / RAW[0]]) - 0.5

    def _noise(self, images: np.ndarray, stream: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.stack([self._rng(image, stream).normal(size=shape) for image in images])

    def _rng(self, image: np.ndarray, stream: int) -> np.random.Generator:
        return np.random.default_rng([int(image[0, 0]), int(image[0, 1]), stream])


def gaussians(centres: np.ndarray, sigmas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, 2) centres and (n,) deviations in cells -> (n, h, w) maps of height 1."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    apart = (columns - centres[:, 0, None, None]) ** 2 + (rows - centres[:, 1, None, None]) ** 2
    return np.exp(-apart / (2 * sigmas[:, None, None] ** 2))


def evidence(count: int, **changes: np.ndarray) -> Evidence:
    """Evidence on `count` films that leaves nothing in doubt, but for `changes`."""
    points = shapes(count, 3)
    nothing = np.zeros((count, K))
    plain: dict[str, np.ndarray] = {
        "points": points / 10,
        "points_raw": points,
        "expected_error": nothing,
        "peak": nothing + 1,
        "second_peak": nothing,
        "spread": nothing,
        "described": nothing,
        "augmented": np.stack([points / 10] * 3),
        "dropped": np.stack([points / 10] * 3),
        "shape": nothing,
    }
    return Evidence(**(plain | changes))


DRAWS = Draws(augmented=5, dropped=3)

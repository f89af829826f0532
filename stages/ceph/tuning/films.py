"""Reviewed films and films of the base as one training set.

A model that learns from the reviewed films alone forgets what it knew (in a small replication of the described
system the base's error grew from 0.9 to 13 px), so that at least half of every epoch are films of the base.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.ceph.schema import CEPH, INDEX
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import patient_folds
from stages.core.errors import StageError


@dataclass(frozen=True)
class TaughtFilms:
    """Films with what is known of their landmarks.

    Attributes:
        images: (N, H, W) uint8 in the model frame.
        points: (N, K, 2) float64 in model px, NaN where there is no label.
        weight: (N, K) float64, how much a landmark counts; 0 where there is no label.
        sizes_raw: (N, 2) width and height in raw px.
        patients: (N,) whom the films are of.
    """

    images: np.ndarray
    points: np.ndarray
    weight: np.ndarray
    sizes_raw: np.ndarray
    patients: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> TaughtFilms:
        """The films `rows`, which may repeat."""
        return TaughtFilms(
            self.images[rows], self.points[rows], self.weight[rows], self.sizes_raw[rows], self.patients[rows]
        )

    def followed_by(self, others: TaughtFilms) -> TaughtFilms:
        return TaughtFilms(
            *(np.concatenate([getattr(self, f), getattr(others, f)]) for f in self.__dataclass_fields__)
        )


def base_films(data: LabelledFilms, role: str) -> TaughtFilms:
    """The base's films of a role, every label with weight 1."""
    rows = data.trainable(role)
    weight = np.ones((len(rows), CEPH.n_points))
    return TaughtFilms(
        np.asarray(data.films.images[rows]),
        data.landmarks_model[rows],
        weight,
        data.films.sizes_raw[rows],
        data.patients[rows],
    )


def reviewed_films(store: FilmSet, labels: pd.DataFrame) -> TaughtFilms:
    """Films of the clinic with at least one landmark to learn, in the order of their ids.

    Args:
        labels: columns of `review.events.LABELS_SCHEMA`.
    Raises:
        StageError: labels of films that are not in the store.
    """
    learned = labels[labels["weight"] > 0]
    ids = sorted(set(learned["id"]))
    rows = store.rows(ids)
    points = np.full((len(ids), CEPH.n_points, 2), np.nan)
    weight = np.zeros((len(ids), CEPH.n_points))
    film = pd.Index(ids).get_indexer(pd.Index(learned["id"]))
    landmark = np.array([INDEX[name] for name in learned["landmark"]], int)
    points[film, landmark] = learned[["x", "y"]].to_numpy(np.float64)
    weight[film, landmark] = learned["weight"].to_numpy(np.float64)
    return TaughtFilms(
        np.asarray(store.images[rows]),
        store.to_model(points, rows),
        weight,
        store.sizes_raw[rows],
        store.table["patient"].to_numpy()[rows],
    )


def require_same_size(base: FilmSet, clinic: FilmSet) -> None:
    """Raise a StageError where the two stores hold pictures of different sizes."""
    if base.model_size != clinic.model_size:
        raise StageError(
            f"{base.folder} holds films of {base.model_size} px (height, width), {clinic.folder} of "
            f"{clinic.model_size}: ceph.convert.size and ceph.clinic.size must be equal"
        )


def hold_out(films: TaughtFilms, parts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to watch: one in `parts` patients is watched; none where there are fewer."""
    folds = patient_folds(films.patients, parts, seed)
    if len(set(films.patients)) < parts:
        return np.arange(len(films)), np.empty(0, np.int64)
    return np.flatnonzero(folds != 0), np.flatnonzero(folds == 0)


def with_replay(n_base: int, n_reviewed: int, replay: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one epoch: every film at least once, and the base's films a share `replay` of all, or a little more.

    Returns:
        Rows of the base's films and rows of the reviewed films; those of the rarer kind repeat evenly.
    """
    if not n_reviewed:
        return np.arange(n_base), np.empty(0, np.int64)
    reviewed = max(n_reviewed, int(n_base * (1 - replay) / replay))
    base = max(n_base, int(np.ceil(reviewed * replay / (1 - replay) - 1e-9)))
    return np.arange(base) % n_base, np.arange(reviewed) % n_reviewed


def balanced(base: TaughtFilms, reviewed: TaughtFilms) -> TaughtFilms:
    """Both kinds one after the other, the rarer one repeated, so that each is about half of a mean over films."""
    if not len(reviewed):
        return base
    longest = max(len(base), len(reviewed))
    parts = [
        part.take(np.arange(round(longest / len(part)) * len(part)) % len(part)) for part in (base, reviewed)
    ]
    return parts[0].followed_by(parts[1])

"""Films with their labels, roles and patients side by side: what floors, training and evaluation read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.split import ROLES, read_split
from stages.core.errors import StageError

SUSPECT = ("suspect", "dropped")
"""Audit verdicts of labels that evaluation also counts apart."""


@dataclass(frozen=True)
class LabelledFilms:
    """A film store joined with the audit of its labels and with its split; all arrays in the store's order.

    Attributes:
        films: the store.
        landmarks_raw: (N, K, 2) float32 labels after the audit's policy, raw px; NaN where a point has none.
        roles: (N,) train, val, gate or test.
        patients: (N,) pseudonyms, as the split has them.
        use: (N,) bool, False for labels that nothing may be trained on.
        suspect: (N,) bool, labels that the audit suspects or drops.
    """

    films: FilmSet
    landmarks_raw: np.ndarray
    roles: np.ndarray
    patients: np.ndarray
    use: np.ndarray
    suspect: np.ndarray

    @classmethod
    def open(cls, films: Path, split: Path, audit: Path | None = None) -> LabelledFilms:
        """Read a film store, its split.parquet and, where the lane has one, its audit folder.

        Raises:
            StageError: if the three do not hold the same films; the message names those that differ.
        """
        store = FilmSet.open(films)
        roles = read_split(split).set_index("id")
        _require_same_ids(store, roles.index, split)
        roles = roles.loc[store.ids]
        landmarks, use, suspect = store.landmarks_raw, np.ones(len(store), bool), np.zeros(len(store), bool)
        if audit is not None:
            labels = tables.read_table(audit / "labels.parquet").set_index("id")
            _require_same_ids(store, labels.index, audit / "labels.parquet")
            labels = labels.loc[store.ids]
            landmarks = tables.stack_points(labels["landmarks"])
            use = labels["use"].to_numpy(bool)
            suspect = labels["status"].isin(SUSPECT).to_numpy(bool)
        return cls(store, landmarks, roles["role"].to_numpy(), roles["patient"].to_numpy(), use, suspect)

    @property
    def landmarks_model(self) -> np.ndarray:
        """(N, K, 2) float64 labels in model px."""
        return self.films.to_model(self.landmarks_raw, np.arange(len(self.films)))

    def rows(self, *roles: str) -> np.ndarray:
        """Row numbers of every film of these roles, suspect ones too."""
        if unknown := sorted(set(roles) - set(ROLES)):
            raise ValueError(f"unknown roles {unknown}; there are {', '.join(ROLES)}")
        return np.flatnonzero(np.isin(self.roles, roles))

    def trainable(self, role: str = "train") -> np.ndarray:
        """Row numbers of the films of a role with a whole label that may be trained on."""
        rows = self.rows(role)
        return rows[self.use[rows] & np.isfinite(self.landmarks_raw[rows]).all((1, 2))]


def _require_same_ids(store: FilmSet, ids: object, where: Path) -> None:
    ours, theirs = set(store.ids), set(ids)  # type: ignore[call-overload]
    if ours != theirs:
        raise StageError(
            f"{store.folder} and {where} differ: films {sorted(ours - theirs)[:5]} only in the former, "
            f"{sorted(theirs - ours)[:5]} only in the latter; run `dvc repro` to make the latter again"
        )

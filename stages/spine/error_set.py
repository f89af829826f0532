"""The error set: points that may be wrong, from networks that had not seen the film and from corruption.

A row is an example. What the points should have been is not stored: it is the film's label.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError

OUT_OF_FOLD = "out_of_fold"
HELD_OUT = 0.15
"""Share of the error set's patients that its networks are validated on."""


def error_schema(n_points: int) -> pa.Schema:
    """Columns of errors.parquet for films with `n_points` landmarks."""
    return pa.schema(
        [
            tables.column("id", pa.string()),
            tables.column("source", pa.string()),
            tables.column("clicks", pa.int32()),
            tables.points_column("landmarks", n_points, "model px"),
            tables.column("error_raw_px", pa.list_(pa.float32(), n_points), "raw px"),
            tables.column("vertebra_height_raw_px", pa.float32(), "raw px"),
            tables.column("weight", pa.float32()),
        ]
    )


@dataclass(frozen=True)
class ErrorSet:
    """An error set joined with its films; arrays of one entry an example.

    Attributes:
        rows: (N,) the example's film, as a row number of the film store.
        sources: (N,) `out_of_fold` or the corruption's name.
        clicks: (N,) points that the network had been told.
        landmarks_model: (N, K, 2) float64, the possibly wrong points in model px.
        errors_raw: (N, K) float64, their distances from the label in raw px.
        weights: (N,) float64, adding up to 1.
        patients: (N,) whose film it is.
    """

    rows: np.ndarray
    sources: np.ndarray
    clicks: np.ndarray
    landmarks_model: np.ndarray
    errors_raw: np.ndarray
    weights: np.ndarray
    patients: np.ndarray

    @classmethod
    def open(cls, path: Path, data: LabelledFilms) -> ErrorSet:
        """Read errors.parquet.

        Raises:
            StageError: it is empty, or holds films that may not be trained on; they are named.
        """
        table = tables.read_table(path)
        if table.empty:
            raise StageError(f"{path} holds no examples; run `dvc repro spine-errors`")
        rows = data.films.rows(table["id"])
        if strange := sorted(set(rows) - set(data.trainable())):
            raise StageError(
                f"{path} holds films that may not be trained on: {', '.join(data.films.ids[strange][:10])}; "
                "run `dvc repro` to make it again from this split and audit"
            )
        weights = table["weight"].to_numpy(np.float64)
        return cls(
            rows,
            table["source"].to_numpy(),
            table["clicks"].to_numpy(),
            tables.stack_points(table["landmarks"]).astype(np.float64),
            np.stack([np.asarray(e, np.float64) for e in table["error_raw_px"]]),
            weights / weights.sum(),
            data.patients[rows],
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> ErrorSet:
        """The examples at these positions (or of this mask), their weights adding up to 1 again."""
        weights = self.weights[chosen]
        total = weights.sum() if len(weights) else 1.0
        return ErrorSet(
            self.rows[chosen],
            self.sources[chosen],
            self.clicks[chosen],
            self.landmarks_model[chosen],
            self.errors_raw[chosen],
            weights / total,
            self.patients[chosen],
        )

    def hold_out(self, seed: int) -> tuple[ErrorSet, ErrorSet]:
        """Examples to train on, and those of HELD_OUT of the patients: at least one, chosen by a hash.

        Raises:
            StageError: all films are of one patient.
        """
        patients = sorted(set(self.patients), key=lambda patient: _rank(patient, seed))
        if len(patients) < 2:
            raise StageError(
                f"the error set holds films of {len(patients)} patient, but needs two: one is held out. "
                "Add films, or give the role train a larger share of the split"
            )
        held = np.isin(self.patients, patients[: max(1, round(HELD_OUT * len(patients)))])
        return self[~held], self[held]

    def unassisted(self) -> ErrorSet:
        """What networks that had been told nothing said of films new to them; all examples where none is."""
        chosen = (self.sources == OUT_OF_FOLD) & (self.clicks == 0)
        return self[chosen] if chosen.any() else self

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n,) positions of examples, drawn by weight with replacement."""
        return rng.choice(len(self), n, p=self.weights)


def read_folds(path: Path) -> pd.DataFrame:
    """Out-of-fold predictions: columns id, fold, clicks, landmarks (model px) and hinted (K bool)."""
    return tables.read_table(path)


def _rank(patient: str, seed: int) -> bytes:
    return hashlib.sha256(f"held out:{seed}:{patient}".encode()).digest()

"""Made-up out-of-fold predictions and error sets of drawn spines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.spine import errors
from stages.spine.error_set import ErrorSet, error_schema

MIX = {"out_of_fold": 0.5, "shift": 0.15, "neighbours": 0.15, "sides": 0.1, "clean": 0.1}


def folds_of(data: LabelledFilms, seed: int = 0) -> pd.DataFrame:
    """Predictions at 0 and 2 clicks for the films to train on: the label, slipped by up to a vertebra or so."""
    rng = np.random.default_rng(seed)
    entries = []
    labels = data.landmarks_model
    pitch = np.ptp(labels[..., 1], axis=1).mean() / (labels.shape[1] // 4)
    for row in data.trainable():
        slip = np.array([0, rng.normal(0, 0.7 * pitch)])
        for clicks in (0, 2):
            hinted = np.zeros(labels.shape[1], bool)
            hinted[rng.choice(len(hinted), clicks, replace=False)] = True
            points = labels[row] + slip / (1 + clicks) + rng.normal(0, 0.3, labels[row].shape)
            entries.append((data.films.ids[row], 0, clicks, points, hinted))
    return pd.DataFrame(entries, columns=["id", "fold", "clicks", "landmarks", "hinted"])


def write_folds(path: Path, folds: pd.DataFrame) -> None:
    n_points = len(folds["hinted"].iloc[0])
    columns = [tables.column("id", pa.string())]
    columns += [tables.column(c, pa.int32()) for c in ("fold", "clicks")]
    columns += [tables.points_column("landmarks", n_points, "model px")]
    columns += [tables.column("hinted", pa.list_(pa.bool_(), n_points))]
    tables.write_table(path, folds, pa.schema(columns))


def write_errors(
    path: Path, data: LabelledFilms, schema: LandmarkSchema, mix: dict[str, float] = MIX
) -> ErrorSet:
    """Write the error set of made-up predictions, and open it."""
    params = errors.Params(seed=1, mix=mix, draws=4)
    table = errors.make_errors(data, schema, folds_of(data), params)
    tables.write_table(path, table, error_schema(schema.n_points))
    return ErrorSet.open(path, data)

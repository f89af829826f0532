"""The review queue of a film lane: which films a reviewer sees, in which order, and why.

One row is one film to open, with the points that a model puts on it; a `repeat` is a second row of a film that
stands further up. Kinds:

    uncertain      the model is least sure of it
    random_audit   drawn by chance from the whole pool, so that what reviewers do with it speaks for the pool
    repeat         a film again, for how far a reviewer agrees with himself

On a `blinded` row the prediction stays hidden until the reviewer has placed his own points.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.review.events import SHOWN, QueueKind

KINDS: tuple[QueueKind, ...] = get_args(QueueKind)
UNKNOWN_MODEL = "untracked"
"""`model_key` of predictions whose model has no DVC key."""

QUEUE_SCHEMA = pa.schema(
    [
        tables.column("rank", pa.int32()),
        tables.column("id", pa.string()),
        tables.column("kind", pa.string()),
        tables.column("blinded", pa.bool_()),
        tables.column("score", pa.float32()),
        tables.column("reason", pa.string()),
        tables.column("landmarks", pa.list_(pa.float32()), "raw px"),
        tables.column("expected_error", pa.list_(pa.float32()), "raw px"),
        tables.column("spacing_x_mm", pa.float64(), "mm per raw px"),
        tables.column("spacing_y_mm", pa.float64(), "mm per raw px"),
        tables.column("model_key", pa.string()),
    ]
)
"""Columns of queue.parquet. `rank` counts from 1, `landmarks` are x0, y0, x1, y1, ... as predicted, `score` is
higher for films more worth a reviewer's minute, and spacings are NaN where unknown."""


def write_queue(path: Path, queue: pd.DataFrame) -> None:
    """Write the columns of `QUEUE_SCHEMA`, sorted by rank.

    Args:
        queue: `landmarks` holds arrays (K, 2), `expected_error` (K,); `model_key` may be left out.
    Raises:
        StageError: naming every row that breaks a rule of the queue; see `broken_rules`.
    """
    if "model_key" not in queue:
        queue = queue.assign(model_key=UNKNOWN_MODEL)
    queue = queue.sort_values("rank", kind="stable")
    if broken := broken_rules(queue):
        raise StageError(f"{path.name} would be no review queue:\n  " + "\n  ".join(broken))
    queue = queue.assign(landmarks=_flat(queue["landmarks"]), expected_error=_flat(queue["expected_error"]))
    tables.write_table(path, queue, QUEUE_SCHEMA)


def read_queue(path: Path) -> pd.DataFrame:
    """Rows of queue.parquet by rank: `landmarks` as arrays (K, 2), `expected_error` as (K,), float32.

    Raises:
        StageError: there is no such file, or it is no queue; the message names what is wrong.
    """
    queue = tables.read_table(path)
    if wrong := sorted(set(queue.columns) ^ set(QUEUE_SCHEMA.names)):
        raise StageError(f"{path} is no review queue: columns {wrong} are extra or missing")
    queue["landmarks"] = pd.Series(
        [np.asarray(points, np.float32).reshape(-1, 2) for points in queue["landmarks"]], dtype=object
    )
    queue = queue.sort_values("rank", kind="stable", ignore_index=True)
    if broken := broken_rules(queue):
        raise StageError(f"{path} was changed by hand or damaged:\n  " + "\n  ".join(broken))
    return queue


def broken_rules(queue: pd.DataFrame) -> list[str]:
    """What keeps rows, sorted by rank, from being a queue: one sentence a rule, empty where all hold.

    Ranks are 1, 2, ..., kinds are known, a film comes once, its repeats come after it, and every row has as many
    finite points and expected errors as the first.
    """
    broken = []
    ids = queue["id"].to_numpy()
    if (queue["rank"].to_numpy() != np.arange(1, len(queue) + 1)).any():
        broken.append(f"ranks must be 1 to {len(queue)}, each once")
    if unknown := sorted(set(queue["kind"]) - set(KINDS)):
        broken.append(f"unknown kinds {unknown}; there are {', '.join(KINDS)}")
    first = ~queue["id"].duplicated().to_numpy()
    repeat = (queue["kind"] == "repeat").to_numpy()
    if (lost := first & repeat).any():
        broken.append(f"repeats of films that do not come before them: {_shown(ids[lost])}")
    if (doubled := ~first & ~repeat).any():
        broken.append(f"films that come twice without being repeats: {_shown(ids[doubled])}")
    points = [np.asarray(p, np.float64).reshape(-1, 2) for p in queue["landmarks"]]
    errors = [np.asarray(e, np.float64).ravel() for e in queue["expected_error"]]
    uneven = np.array(
        [len(p) != len(points[0]) or len(e) != len(p) for p, e in zip(points, errors, strict=True)], bool
    )
    if uneven.any():
        broken.append(
            f"another number of points or expected errors than the first film: {_shown(ids[uneven])}"
        )
    unplaced = np.array(
        [not (np.isfinite(p).all() and np.isfinite(e).all()) for p, e in zip(points, errors, strict=True)],
        bool,
    )
    if unplaced.any():
        broken.append(f"a prediction or an expected error is not a number: {_shown(ids[unplaced])}")
    return broken


def _flat(arrays: pd.Series) -> pd.Series:
    flat = [np.asarray(values, np.float32).ravel() for values in arrays]
    return pd.Series(flat, index=arrays.index, dtype=object)


def _shown(ids: np.ndarray) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(str, ids[:SHOWN])) + more

"""Radial errors of landmarks, their summaries, and the two tables that every film lane's evaluation writes.

A radial error is the Euclidean distance between a predicted and a labelled point. A film's error is the mean
over its labelled points, and the mean radial error (MRE) of a set is the mean over its films. Points without
a label (NaN) count nowhere. Every name says its unit: `raw_px` are pixels of the source film, `px224` pixels
of the film stretched to 224 x 224.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import geometry, tables
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError

PERCENTILES = (10, 25, 50, 75, 90, 95)


def radial_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, K) distances between points (N, K, 2) of one frame; NaN where `truth` has no label.

    Raises:
        ValueError: if shapes differ, or a labelled point has no finite prediction.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape or truth.ndim != 3 or truth.shape[-1] != 2:
        raise ValueError(f"expected two arrays (N, K, 2), got {predicted.shape} and {truth.shape}")
    labelled = np.isfinite(truth).all(-1)
    lost = labelled & ~np.isfinite(predicted).all(-1)
    if lost.any():
        raise ValueError(
            f"{lost.sum()} labelled points in films {np.flatnonzero(lost.any(1))[:10]} have no prediction"
        )
    difference = np.where(labelled[..., None], predicted - truth, np.nan)
    return np.hypot(difference[..., 0], difference[..., 1])


def scaled_errors(
    predicted_raw: np.ndarray, truth_raw: np.ndarray, sizes_raw: np.ndarray, frame: geometry.Size
) -> np.ndarray:
    """(N, K) distances in a fixed `frame` (height, width) that each film is stretched to.

    `sizes_raw` (N, 2) holds width, height; with `frame` (224, 224) the result is in px224.
    """
    scale = np.array([frame[1], frame[0]]) / np.asarray(sizes_raw, np.float64)  # (N, 2); offsets cancel
    return radial_errors(predicted_raw * scale[:, None], truth_raw * scale[:, None])


def film_errors(errors: np.ndarray) -> np.ndarray:
    """(N, K) radial errors -> (N,) means over labelled points; NaN for a film without any."""
    labelled = np.isfinite(errors)
    count = labelled.sum(1)
    total = np.where(labelled, errors, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def success_rate(errors: np.ndarray, threshold: float) -> float:
    """Successful detection rate: the share of labelled points, all films together, within `threshold`."""
    labelled = errors[np.isfinite(errors)]
    return float((labelled <= threshold).mean()) if labelled.size else float("nan")


def summarise(errors: np.ndarray, unit: str, thresholds: Sequence[float] = ()) -> dict[str, float]:
    """Flat summary of radial errors (N, K) in `unit`.

    Returns:
        n_films and, over films, mean_UNIT, median_UNIT, sd_UNIT (n - 1) and pNN_UNIT; over points,
        sdr_T_UNIT for every threshold T. NaN where nothing is labelled.
    """
    per_film = film_errors(errors)
    per_film = per_film[np.isfinite(per_film)]
    summary: dict[str, float] = {"n_films": len(per_film)}
    some = len(per_film) > 0
    summary[f"mean_{unit}"] = float(per_film.mean()) if some else float("nan")
    summary[f"median_{unit}"] = float(np.median(per_film)) if some else float("nan")
    summary[f"sd_{unit}"] = float(per_film.std(ddof=1)) if len(per_film) > 1 else float("nan")
    for percentile in PERCENTILES:
        if percentile != 50:
            summary[f"p{percentile}_{unit}"] = (
                float(np.percentile(per_film, percentile)) if some else float("nan")
            )
    for threshold in thresholds:
        summary[f"sdr_{threshold:g}_{unit}"] = success_rate(errors, threshold)
    return summary


def by_class(errors: np.ndarray, classes: Iterable[str], unit: str) -> dict[str, dict[str, float]]:
    """`summarise` of the films of each class, in the order of the classes' names."""
    labels = np.asarray(list(classes), dtype=object)
    return {name: summarise(errors[labels == name], unit) for name in sorted(set(labels))}


def point_table(
    films: LabelledFilms, rows: np.ndarray, method: str, predicted_raw: np.ndarray
) -> pd.DataFrame:
    """One row a film and point of the films `rows`, for `predicted_raw` (n, K, 2) of one method.

    The label stands beside the prediction, so that pictures and digests need no other table. `point` counts
    from 0 in the schema's order.
    """
    truth = films.landmarks_raw[rows]
    errors = radial_errors(predicted_raw, truth)
    n, k = errors.shape
    return pd.DataFrame(
        {
            "id": np.repeat(films.films.ids[rows], k),
            "role": np.repeat(films.roles[rows], k),
            "method": method,
            "point": np.tile(np.arange(k), n),
            "x_raw": predicted_raw[..., 0].ravel(),
            "y_raw": predicted_raw[..., 1].ravel(),
            "x_label_raw": truth[..., 0].ravel(),
            "y_label_raw": truth[..., 1].ravel(),
            "error_raw_px": errors.ravel(),
        }
    )


def film_table(
    films: LabelledFilms,
    rows: np.ndarray,
    method: str,
    predicted_raw: np.ndarray,
    frames: Mapping[str, geometry.Size] | None = None,
) -> pd.DataFrame:
    """One row a film of `rows`, for `predicted_raw` (n, K, 2) of one method.

    `frames` adds errors in fixed frames: {"px224": (224, 224)} gives a column `error_px224`. Lanes add
    columns of their own to the result and declare them to `write_tables`.
    """
    truth = films.landmarks_raw[rows]
    table = pd.DataFrame(
        {
            "id": films.films.ids[rows],
            "patient": films.patients[rows],
            "role": films.roles[rows],
            "method": method,
            "suspect": films.suspect[rows],
            "error_raw_px": film_errors(radial_errors(predicted_raw, truth)),
        }
    )
    for unit, frame in (frames or {}).items():
        scaled = scaled_errors(predicted_raw, truth, films.films.sizes_raw[rows], frame)
        table[f"error_{unit}"] = film_errors(scaled)
    return table


_FILM_COLUMNS = [
    *(tables.column(name, pa.string()) for name in ("id", "patient", "role", "method")),
    tables.column("suspect", pa.bool_()),
    tables.column("error_raw_px", pa.float32(), "raw px"),
]
_POINT_COLUMNS = [
    *(tables.column(name, pa.string()) for name in ("id", "role", "method")),
    tables.column("point", pa.int32()),
    *(
        tables.column(name, pa.float32(), "raw px")
        for name in ("x_raw", "y_raw", "x_label_raw", "y_label_raw", "error_raw_px")
    ),
]


def write_tables(
    folder: Path, per_film: pd.DataFrame, per_point: pd.DataFrame, film_columns: Sequence[pa.Field] = ()
) -> None:
    """Write per_film.parquet and per_point.parquet, sorted by method, role, id (and point).

    Args:
        folder: the evaluation folder; created.
        per_film: rows of `film_table`, with the lane's columns if it has any.
        per_point: rows of `point_table`.
        film_columns: `tables.column(...)` of every column beyond those of `film_table` without frames.
    """
    doubled = per_film[per_film.duplicated(["id", "method"])]
    if len(doubled):
        raise StageError(f"films judged twice by one method: {doubled['id'].tolist()[:10]}")
    schema = pa.schema([*_FILM_COLUMNS, *film_columns])
    tables.write_table(folder / "per_film.parquet", per_film.sort_values(["method", "role", "id"]), schema)
    per_point = per_point.sort_values(["method", "role", "id", "point"])
    tables.write_table(folder / "per_point.parquet", per_point, pa.schema(_POINT_COLUMNS))

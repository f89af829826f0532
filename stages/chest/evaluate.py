"""Stage chest-evaluate: the network's errors beside its floors', paired, with intervals over films."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_table, point_table, write_tables
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare_methods, write_comparison
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

METHOD = "regressor"
ERROR = "error_px224"
UNIT = "px224"
QUALITY_BINS = {
    "n_films_under_5_px224": (0.0, 5.0),
    "n_films_5_to_8.5_px224": (5.0, 8.5),
    "n_films_8.5_to_15_px224": (8.5, 15.0),
    "n_films_from_15_px224": (15.0, np.inf),
}
"""Bins of published figures, in films. No spacing is known, so they say nothing of clinical use."""
FILM_COLUMNS = [
    tables.column(ERROR, pa.float32(), "px at 224"),
    tables.column("group", pa.string()),
    tables.column("bias_x_px224", pa.float32(), "px at 224, mean of predicted - label"),
    tables.column("bias_y_px224", pa.float32(), "px at 224, mean of predicted - label"),
]


class Params(StageParams):
    section: ClassVar[str] = "chest.evaluate"
    seed: int
    threads: int
    bootstrap: Bootstrap


def run(
    params: Params,
    films: Path,
    split: Path,
    floors: Path,
    model: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the evaluation folder: per_film.parquet, per_point.parquet, comparison.csv.

    Every film of the roles val, gate and test is judged by every method. No patients are known, so that
    intervals are over films and may be too narrow.

    Returns:
        Metrics of the network on the test films, those of classes and landmarks with their names; those of
        val and gate with the role's name before them, and those of the floors with the floor's.
    """
    from stages.chest.regressor.inference import TrainedRegressor
    from stages.core.floors.stage import PREDICTED_ROLES, read_predictions
    from stages.core.train import runtime

    runtime.prepare("cpu", params.threads, params.seed)
    data = LabelledFilms.open(films, split)
    trained = TrainedRegressor.open(model)
    if trained.card.split_sha256 != split_digest(read_split(split)):
        raise StageError(
            f"{model} was trained on another split than {split}: run `dvc repro` to train it again"
        )
    rows = data.rows(*PREDICTED_ROLES)
    predicted = {METHOD: data.films.to_raw(trained.predict(data.films.images[rows]), rows)}
    observe.progress(len(rows), len(rows), "films")
    predicted |= read_predictions(floors, data, rows)

    per_film = pd.concat([judge(data, rows, method, points) for method, points in predicted.items()])
    per_point = pd.concat([point_table(data, rows, method, points) for method, points in predicted.items()])
    write_tables(output, per_film, per_point, FILM_COLUMNS)
    pairs = [(METHOD, floor) for floor in predicted if floor != METHOD]
    comparison = compare_methods(per_film, pairs, ERROR, PREDICTED_ROLES, params.bootstrap, params.seed)
    write_comparison(output / "comparison.csv", comparison)
    return {
        **role_metrics(per_film),
        **class_metrics(per_film, params),
        **landmark_metrics(data, rows, predicted[METHOD]),
    }


def judge(data: LabelledFilms, rows: np.ndarray, method: str, predicted_raw: np.ndarray) -> pd.DataFrame:
    """One row a film of `rows` with all measures of one method's points (n, 15, 2)."""
    table = film_table(data, rows, method, predicted_raw, frames={UNIT: REPORT_FRAME})
    table["group"] = data.films.table["group"].to_numpy()[rows]
    bias = (to_report_frame(data, rows, predicted_raw - data.landmarks_raw[rows])).mean(1)
    table["bias_x_px224"], table["bias_y_px224"] = bias[:, 0], bias[:, 1]
    return table


def to_report_frame(data: LabelledFilms, rows: np.ndarray, differences_raw: np.ndarray) -> np.ndarray:
    """Differences (n, 15, 2) between points, from raw px to px at 224."""
    scale = np.array(REPORT_FRAME[::-1]) / data.films.sizes_raw[rows]
    return differences_raw * scale[:, None]


def role_metrics(per_film: pd.DataFrame) -> dict[str, float]:
    """Summaries of the network by role (test without a prefix), and the floors' means."""
    metrics: dict[str, float] = {}
    for (method, role), table in per_film.groupby(["method", "role"]):
        prefix = "" if role == "test" else f"{role}_"
        if method == METHOD:
            metrics |= {f"{prefix}{name}": value for name, value in summarise_films(table[ERROR]).items()}
        else:
            metrics[f"{prefix}{method}_mean_{UNIT}"] = float(table[ERROR].mean())
    test = per_film[(per_film["method"] == METHOD) & (per_film["role"] == "test")]
    metrics["mean_raw_px"] = float(test["error_raw_px"].mean())
    metrics |= {f"bias_{axis}_{UNIT}": float(test[f"bias_{axis}_px224"].mean()) for axis in "xy"}
    return metrics


def summarise_films(errors: pd.Series | np.ndarray) -> dict[str, float]:
    """Flat summary of films' errors in px at 224: location, spread (n - 1), percentiles, quality bins."""
    errors = np.asarray(errors, np.float64)
    return {
        "n_films": len(errors),
        f"mean_{UNIT}": float(errors.mean()),
        f"median_{UNIT}": float(np.median(errors)),
        f"sd_{UNIT}": float(errors.std(ddof=1)) if len(errors) > 1 else float("nan"),
        **{f"p{p}_{UNIT}": float(np.percentile(errors, p)) for p in (10, 25, 75, 90, 95)},
        f"worst_{UNIT}": float(errors.max()),
        **{
            name: int(((errors >= low) & (errors < high)).sum()) for name, (low, high) in QUALITY_BINS.items()
        },
    }


def class_metrics(per_film: pd.DataFrame, params: Params) -> dict[str, float]:
    """Mean and interval of the network on the test films, of all and of each class."""
    test = per_film[(per_film["method"] == METHOD) & (per_film["role"] == "test")]
    metrics: dict[str, float] = {}
    for name, table in [("", test), *test.groupby("group")]:
        prefix = f"{name}_" if name else ""
        found = bootstrap_mean(table[ERROR], table["patient"], params.bootstrap, params.seed)
        metrics[f"{prefix}mean_{UNIT}"] = found.mean
        if name:
            metrics[f"{prefix}n_films"] = found.n_films
        if found.low is not None and found.high is not None:
            metrics |= {f"{prefix}mean_{UNIT}_low": found.low, f"{prefix}mean_{UNIT}_high": found.high}
    return metrics


def landmark_metrics(data: LabelledFilms, rows: np.ndarray, predicted_raw: np.ndarray) -> dict[str, float]:
    """Mean error of the network on the test films by landmark, px at 224."""
    test = data.roles[rows] == "test"
    difference = to_report_frame(data, rows, predicted_raw - data.landmarks_raw[rows])[test]
    means = np.hypot(difference[..., 0], difference[..., 1]).mean(0)
    return {f"mean_{name}_{UNIT}": float(mean) for name, mean in zip(CHEST.names, means, strict=True)}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

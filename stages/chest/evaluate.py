"""Stage chest-evaluate: the network's errors beside its floors', paired, with intervals over films.

`evaluate_folder` at the end judges a model outside DVC, on any folder in the raw layout.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.chest.raw.inventory import take_inventory
from stages.chest.raw.layout import DEFAULT_NAME, read_raw
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import tables
from stages.core.data.convert import ConvertSettings, FilmJob, convert_films
from stages.core.data.decode import decode_film
from stages.core.data.films import DatasetInfo, FilmSet, dataset_name
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, film_table, point_table, scaled_errors, write_tables
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare_methods, write_comparison
from stages.core.model.prediction import LIMITS
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

if TYPE_CHECKING:
    from stages.chest.regressor.inference import TrainedRegressor

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
TIMED_FILMS = 32
"""of a folder, to say how long one film takes"""
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


def evaluate_folder(model: Path, data: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Judge a model on the labelled films of `data`, labels taken as they come.

    Films that cannot be used are listed, not fatal; where none is left, StageError names them all.

    Args:
        model: folder of chest-train.
        data: a folder in the raw layout; a split.csv in it is not looked at.
        scratch: an empty folder for the converted films.
        threads: native threads.
    Returns:
        n_films, mean_px224 and median_px224 with their spread, the same by class, seconds_per_film from the
        file to the points, film by film, and `quarantined`: what was left out or noted, and why.
    """
    from stages.chest.regressor.inference import TrainedRegressor
    from stages.core.train import runtime

    runtime.prepare("cpu", threads, 0)
    trained = TrainedRegressor.open(model)
    inventory = take_inventory(read_raw(data))
    info = DatasetInfo(dataset_name(data, DEFAULT_NAME), CHEST.lane)
    # One worker: films are small, and forking a process that has used OpenCV's threads can hang its children.
    settings = ConvertSettings(trained.stored_size, 1, "quarantine", LIMITS)
    observe = Observer.quiet(scratch / "work")
    convert_films(
        inventory.jobs, inventory.refusals, scratch / "films", info, CHEST.n_points, settings, observe
    )
    films = FilmSet.open(scratch / "films")
    rows = np.arange(len(films))
    predicted = films.to_raw(trained.predict(films.images), rows)
    errors = scaled_errors(predicted, films.landmarks_raw, films.sizes_raw, REPORT_FRAME)
    per_film = film_errors(errors)
    classes = films.table["group"].to_numpy()
    with (scratch / "films" / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        quarantined = list(csv.DictReader(file))
    by_id = {job.id: job for job in inventory.jobs}
    return {
        "n_films": len(films),
        "n_quarantined": len({entry["file"] for entry in quarantined if entry["action"] != "kept"}),
        **_spread(per_film),
        "by_class": {
            name: {"n_films": int((classes == name).sum()), **_spread(per_film[classes == name])}
            for name in sorted(set(classes))
        },
        "mean_px224_by_landmark": dict(zip(CHEST.names, errors.mean(0).tolist(), strict=True)),
        "seconds_per_film": seconds_per_film(trained, [by_id[i] for i in films.ids[:TIMED_FILMS]]),
        "threads": threads,
        "data": info.name,
        "trained_on": trained.card.dataset,
        "model_key": trained.card.key,
        "quarantined": quarantined,
    }


def _spread(errors: np.ndarray) -> dict[str, float]:
    return {
        "mean_px224": float(errors.mean()),
        "median_px224": float(np.median(errors)),
        "p10_px224": float(np.percentile(errors, 10)),
        "p90_px224": float(np.percentile(errors, 90)),
    }


def seconds_per_film(trained: TrainedRegressor, jobs: list[FilmJob]) -> float:
    """Mean time from a film's file to its points in raw px, one film at a time, after one to warm up."""

    def once(job: FilmJob) -> np.ndarray:
        return trained.predict_film(decode_film(job.path, LIMITS).pixels)

    once(jobs[0])
    started = time.perf_counter()
    for job in jobs:
        once(job)
    return (time.perf_counter() - started) / len(jobs)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage NAME-evaluate: the network's errors beside the floors', paired, with intervals over patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, film_table, point_table, write_tables
from stages.core.evaluate.statistics import Bootstrap, compare_methods, write_comparison
from stages.core.params import StageParams
from stages.core.stage import Observer
from stages.custom.command import lane_main
from stages.custom.description import read_description
from stages.custom.measures import ERROR, METHOD, UNIT, errors_mm, errors_percent, figures
from stages.custom.shape import extents
from stages.custom.spacing import read_spacing

if TYPE_CHECKING:
    from stages.custom.locating.model import Answer, TrainedLane

FILM_COLUMNS = [
    tables.column(ERROR, pa.float32(), "percent of the extent of the label"),
    tables.column("error_mm", pa.float32(), "mm"),
    tables.column("extent_raw_px", pa.float32(), "raw px"),
]
RADIUS_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "patient", "role")),
        tables.column("point", pa.int32()),
        tables.column(ERROR, pa.float32(), "percent of the extent of the label"),
        tables.column(f"radius_{UNIT}", pa.float32(), "percent of the extent of the label"),
        tables.column("claimed", pa.float32(), "probability that the disc holds the label"),
    ]
)


class Params(StageParams):
    section: ClassVar[str] = "lane.evaluate"
    seed: int
    threads: int
    bootstrap: Bootstrap


def run(
    params: Params,
    lane: Path,
    films: Path,
    split: Path,
    floors: Path,
    model: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the evaluation folder: every film of the roles val, gate and test by network and floors.

    per_film.parquet, per_point.parquet, comparison.csv, and radius.parquet: each point's error beside its radius.

    Returns:
        `figures` of the test films (those of landmarks with their names), the means of the other roles and
        methods with their names before them.
    Raises:
        StageError: the model was trained on another split, or for another description of the lane.
    """
    from stages.core.floors.stage import PREDICTED_ROLES, read_predictions
    from stages.core.train import runtime
    from stages.custom.locating.model import TrainedLane

    runtime.prepare("cpu", params.threads, params.seed)
    data = LabelledFilms.open(films, split)
    trained = TrainedLane.open(model)
    if trained.card.split_sha256 != split_digest(read_split(split)):
        raise StageError(
            f"{model} was trained on another split than {split}: run `dvc repro` to train it again"
        )
    if trained.described != read_description(lane):
        raise StageError(f"{model} was trained for another description than {lane}: run `dvc repro`")
    rows = data.rows(*PREDICTED_ROLES)
    answer = trained.predict(np.asarray(data.films.images[rows]), data.films.sizes_raw[rows])
    observe.progress(len(rows), len(rows), "films")
    simple = read_predictions(floors, data, rows)
    spacing = read_spacing(films, data.films.ids[rows])
    truth = data.landmarks_raw[rows].astype(np.float64)

    def judge(method: str, points: np.ndarray) -> pd.DataFrame:
        table = film_table(data, rows, method, points)
        table[ERROR] = film_errors(errors_percent(points, truth, trained.mean_shape))
        table["error_mm"] = film_errors(errors_mm(points, truth, spacing))
        table["extent_raw_px"] = extents(truth, trained.mean_shape)
        return table

    predicted = {METHOD: answer.points, **simple}
    per_film = pd.concat([judge(method, points) for method, points in predicted.items()])
    per_point = pd.concat([point_table(data, rows, method, points) for method, points in predicted.items()])
    write_tables(output, per_film, per_point, FILM_COLUMNS)
    pairs = [(METHOD, floor) for floor in simple]
    compared = compare_methods(per_film, pairs, ERROR, PREDICTED_ROLES, params.bootstrap, params.seed)
    write_comparison(output / "comparison.csv", compared)
    discs = radius_table(data, rows, answer, trained)
    tables.write_table(output / "radius.parquet", discs, RADIUS_SCHEMA)

    test = data.roles[rows] == "test"
    told = figures(
        answer.points[test],
        truth[test],
        answer.radius[test],
        trained.mean_shape,
        spacing[test],
        trained.described.landmarks,
        data.patients[rows][test],
        params.bootstrap,
        params.seed,
    )
    by_landmark = told.pop("by_landmark")
    metrics = {name: np.nan if value is None else value for name, value in told.items()}
    metrics |= {f"{kind}_{name}": v for name, own in by_landmark.items() for kind, v in own.items()}
    for (method, role), table in per_film.groupby(["method", "role"]):
        if (method, role) != (METHOD, "test"):
            prefix = "" if role == "test" else f"{role}_"
            metrics[f"{prefix}{method}_mean_{UNIT}"] = float(table[ERROR].mean())
            metrics[f"{prefix}{method}_mean_raw_px"] = float(table["error_raw_px"].mean())
    return metrics | {"coverage_claimed": trained.radius.coverage}


def radius_table(data: LabelledFilms, rows: np.ndarray, answer: Answer, trained: TrainedLane) -> pd.DataFrame:
    """One row a film and point: error and radius (n, K) in percent of the extent."""
    truth = data.landmarks_raw[rows].astype(np.float64)
    n, k = answer.radius.shape
    extent = extents(truth, trained.mean_shape)[:, None]
    table = pd.DataFrame(
        {
            "id": np.repeat(data.films.ids[rows], k),
            "patient": np.repeat(data.patients[rows], k),
            "role": np.repeat(data.roles[rows], k),
            "point": np.tile(np.arange(k), n),
            ERROR: errors_percent(answer.points, truth, trained.mean_shape).ravel(),
            f"radius_{UNIT}": (100 * answer.radius / extent).ravel(),
            "claimed": trained.radius.coverage,
        }
    )
    return table.sort_values(["role", "id", "point"])


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()

"""Stage spine-evaluate: the system's errors beside its floors', with clicks and without, paired, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_table, point_table, write_tables
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare_methods, write_comparison
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.cobb import ANGLES, cobb_angles, cobb_smape
from stages.spine.measures import slips, vertebra_heights
from stages.spine.schema import LEVELS, SCHEMA

METHOD, FIRST = "system", "refiner"
"""The whole system's answer, and the Refiner's own before the loop"""
ERROR = "error_raw_px"
FILM_COLUMNS = [
    tables.column("error_model_px", pa.float32(), "model px"),
    tables.column("error_vertebra_heights", pa.float32(), "mean vertebra heights of the label"),
    tables.column("dx_raw_px", pa.float32(), "raw px, mean |dx|"),
    tables.column("dy_raw_px", pa.float32(), "raw px, mean |dy|"),
    tables.column("slip_vertebrae", pa.float32(), "vertebrae, + is too low"),
    *(tables.column(f"cobb_{angle}_degrees", pa.float32(), "degrees") for angle in ANGLES),
    *(tables.column(f"label_cobb_{angle}_degrees", pa.float32(), "degrees") for angle in ANGLES),
]


class Params(StageParams):
    section: ClassVar[str] = "spine.evaluate"
    seed: int
    threads: int
    clicks: int = Field(ge=0)
    targets_raw_px: tuple[float, ...]
    bootstrap: Bootstrap


def run(
    params: Params,
    films: Path,
    audit: Path,
    split: Path,
    floors: Path,
    model: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the evaluation folder.

    per_film.parquet, per_point.parquet, comparison.csv: every film of the roles val, gate and test by every
    method, without clicks. clicks.parquet: the test films after 0 to `clicks` clicks, by method.
    rounds.csv: what each round of the loop fixed and broke. risk.csv: how well the Detector and the Refiner's
    own confidence find wrong points.

    Returns:
        Metrics of the system on the test films; those of val and gate with the role's name before them, and
        those of other methods with the method's.
    """
    from stages.core.floors.stage import PREDICTED_ROLES, read_predictions
    from stages.core.train import runtime
    from stages.spine.looping.session import interactive, risk_table
    from stages.spine.looping.system import System

    runtime.prepare("cpu", params.threads, params.seed)
    data = LabelledFilms.open(films, split, audit)
    system = System.open(model, SCHEMA)
    if system.card.split_sha256 != split_digest(read_split(split)):
        raise StageError(
            f"{model} was trained on another split than {split}: run `dvc repro` to train it again"
        )
    rows = data.rows(*PREDICTED_ROLES)
    answer = system.predict(np.asarray(data.films.images[rows]))
    observe.progress(len(rows), len(rows), "films")
    predicted = {
        METHOD: data.films.to_raw(answer.points, rows),
        FIRST: data.films.to_raw(answer.first, rows),
    }
    predicted |= read_predictions(floors, data, rows)

    per_film = pd.concat([judge(data, rows, method, points) for method, points in predicted.items()])
    per_point = pd.concat([point_table(data, rows, method, points) for method, points in predicted.items()])
    write_tables(output, per_film, per_point, FILM_COLUMNS)
    pairs = [(METHOD, other) for other in predicted if other != METHOD]
    comparison = compare_methods(per_film, pairs, ERROR, PREDICTED_ROLES, params.bootstrap, params.seed)
    write_comparison(output / "comparison.csv", comparison)

    test = data.rows("test")
    session = interactive(system, data, test, params.clicks, params.targets_raw_px)
    session.write(output)
    risk = risk_table(system, data, test)
    risk.to_csv(output / "risk.csv", index=False, lineterminator="\n")
    return (
        summarise(per_film, per_point, params)
        | session.metrics
        | {f"risk_{name}": float(value) for name, value in risk.set_index("name")["value"].items()}
    )


def judge(data: LabelledFilms, rows: np.ndarray, method: str, predicted_raw: np.ndarray) -> pd.DataFrame:
    """One row a film of `rows` with all measures of one method's points (n, K, 2)."""
    truth = data.landmarks_raw[rows].astype(np.float64)
    heights = data.films.sizes_raw[rows][:, 1]
    table = film_table(data, rows, method, predicted_raw, frames={"model_px": data.films.model_size})
    table["error_vertebra_heights"] = table[ERROR] / vertebra_heights(truth)
    for axis, name in enumerate("xy"):
        table[f"d{name}_raw_px"] = np.abs(predicted_raw[..., axis] - truth[..., axis]).mean(-1)
    table["slip_vertebrae"] = slips(predicted_raw, truth)
    for prefix, points in (("", predicted_raw), ("label_", truth)):
        angles = cobb_angles(points, heights)
        for i, angle in enumerate(ANGLES):
            table[f"{prefix}cobb_{angle}_degrees"] = angles[:, i]
    return table


def summarise(per_film: pd.DataFrame, per_point: pd.DataFrame, params: Params) -> dict[str, float]:
    """Flat metrics without any click by a user."""
    metrics: dict[str, float] = {}
    for (method, role), table in per_film.groupby(["method", "role"]):
        own = summarise_films(table)
        prefix = "" if role == "test" else f"{role}_"
        if method == METHOD:
            metrics |= {f"{prefix}{name}": value for name, value in own.items()}
        else:
            metrics[f"{prefix}{method}_mre_raw_px"] = own["mre_raw_px"]
            metrics[f"{prefix}{method}_cobb_smape"] = own["cobb_smape"]
    test = per_film[(per_film["method"] == METHOD) & (per_film["role"] == "test")]
    interval = bootstrap_mean(test[ERROR], test["patient"], params.bootstrap, params.seed)
    if interval.low is not None and interval.high is not None:
        metrics |= {"mre_raw_px_low": interval.low, "mre_raw_px_high": interval.high}
    points = per_point[(per_point["method"] == METHOD) & (per_point["role"] == "test")]
    by_point = points.groupby("point")["error_raw_px"].mean()
    for level in LEVELS:
        metrics[f"mre_{level}_raw_px"] = float(by_point.loc[list(SCHEMA.groups[level])].mean())
    return metrics


def summarise_films(table: pd.DataFrame) -> dict[str, float]:
    """Flat metrics of one method on films of one role."""
    error, suspect = table[ERROR], table["suspect"]
    angles, label_angles = (
        table[[f"{prefix}cobb_{angle}_degrees" for angle in ANGLES]].to_numpy() for prefix in ("", "label_")
    )
    metrics = {
        "n_films": len(table),
        "mre_raw_px": error.mean(),
        "median_raw_px": error.median(),
        "p10_raw_px": error.quantile(0.1),
        "p90_raw_px": error.quantile(0.9),
        "mre_model_px": table["error_model_px"].mean(),
        "mre_vertebra_heights": table["error_vertebra_heights"].mean(),
        "dx_raw_px": table["dx_raw_px"].mean(),
        "dy_raw_px": table["dy_raw_px"].mean(),
        "slipped_share": (table["slip_vertebrae"].abs() > 0.5).mean(),
        "cobb_smape": cobb_smape(angles, label_angles),
        "cobb_major_mean_abs_degrees": np.abs(angles - label_angles)[:, 0].mean(),
        "n_suspect": int(suspect.sum()),
        "mre_without_suspects_raw_px": error[~suspect].mean(),
    }
    if suspect.any():
        metrics["mre_suspects_raw_px"] = error[suspect].mean()
    return {name: value if isinstance(value, int) else float(value) for name, value in metrics.items()}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

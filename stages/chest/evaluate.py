"""Stage chest-evaluate: the system's errors beside the phases' and the floors', paired, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.chest.curriculum import Phase, last_phase, read_phases, write_phases
from stages.chest.measures import (
    CONSTANT,
    ERROR,
    METHOD,
    UNIT,
    at_224,
    by_name,
    held,
    inconsistency,
    success_rates,
    summarise_films,
    widths,
)
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_table, point_table, radial_errors, write_tables
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare_methods, write_comparison
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

if TYPE_CHECKING:
    from stages.chest.system_model import TrainedSystem

SEEN = ("train", "val")
"""Roles whose films the system's networks were trained on: out of fold only are their points to be judged."""
FILM_COLUMNS = [
    tables.column(ERROR, pa.float32(), "px at 224"),
    tables.column("group", pa.string()),
    tables.column("bias_x_px224", pa.float32(), "px at 224, mean of predicted - label"),
    tables.column("bias_y_px224", pa.float32(), "px at 224, mean of predicted - label"),
    tables.column("error_widths", pa.float32(), "widths L14-L15 of the label"),
    tables.column("asymmetry_px224", pa.float32(), "px at 224, mean |asymmetry - that of the label|"),
    tables.column("distances_px224", pa.float32(), "px at 224, mean |distance - that of the label|"),
]
RADIUS_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "patient", "role")),
        tables.column("point", pa.int32()),
        tables.column(ERROR, pa.float32(), "px at 224"),
        tables.column("radius_px224", pa.float32(), "px at 224"),
    ]
)


class Params(StageParams):
    section: ClassVar[str] = "chest.evaluate"
    seed: int
    threads: int
    pairs: tuple[tuple[str, str], ...]  # methods to compare beyond those that are compared anyway
    discs_px224: tuple[float, ...] = Field(min_length=1)  # radii whose statements are counted
    bootstrap: Bootstrap


def run(
    params: Params,
    films: Path,
    split: Path,
    floors: Path,
    phases: Path,
    model: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the evaluation folder: every film of the roles val, gate and test by every method.

    per_film.parquet, per_point.parquet, comparison.csv; phases.csv: the curriculum, parents first;
    radius.parquet: each point's error beside the radius of its disc; calibration.csv: how often discs hold.
    No patients are known, so that intervals are over films and may be too narrow.

    Returns:
        Metrics of the system on the test films, those of classes and landmarks with their names; those of
        val (out of fold) and gate with the role's name before them, those of other methods with theirs.
    """
    from stages.chest.system_model import TrainedSystem
    from stages.core.floors.stage import PREDICTED_ROLES, read_predictions
    from stages.core.train import runtime

    runtime.prepare("cpu", params.threads, params.seed)
    data = LabelledFilms.open(films, split)
    digest = split_digest(read_split(split))
    system = TrainedSystem.open(model)
    if system.card.split_sha256 != digest:
        raise StageError(
            f"{model} was trained on another split than {split}: run `dvc repro` to train it again"
        )
    rows = data.rows(*PREDICTED_ROLES)
    trained = read_phases(phases, data, rows, digest)
    points, radii = answer(system, data, rows)
    observe.progress(len(rows), len(rows), "films")
    simple = read_predictions(floors, data, rows)
    predicted = {METHOD: points, **{p.name: p.points for p in trained}, **simple}

    per_film = pd.concat([judge(data, rows, method, found) for method, found in predicted.items()])
    per_point = pd.concat([point_table(data, rows, method, found) for method, found in predicted.items()])
    write_tables(output, per_film, per_point, FILM_COLUMNS)
    pairs = comparisons(trained, list(simple), params.pairs)
    compared = compare_methods(per_film, pairs, ERROR, PREDICTED_ROLES, params.bootstrap, params.seed)
    write_comparison(output / "comparison.csv", compared)
    write_phases(output / "phases.csv", trained)
    discs = radius_table(data, rows, points, radii)
    tables.write_table(output / "radius.parquet", discs, RADIUS_SCHEMA)
    calibration = calibrate(discs, float(system.card.params["coverage"]), params)
    calibration.to_csv(output / "calibration.csv", index=False, float_format="%.6g", lineterminator="\n")
    tested = discs[discs["role"] == "test"][ERROR].to_numpy().reshape(-1, CHEST.n_points)
    return {
        **role_metrics(per_film),
        **interval_metrics(per_film, [p.name for p in trained], params),
        **success_rates(tested),
        **by_name(CHEST.names, tested),
        **calibration_metrics(calibration),
    }


def answer(system: TrainedSystem, data: LabelledFilms, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The system's points (n, 15, 2) raw px and radii (n, 15) px at 224 for the films `rows`.

    Where its networks have seen a film, the answer is that of the fold that has not.

    Raises:
        StageError: if films that it was trained on have no such answer.
    """
    points, radii = np.empty((len(rows), CHEST.n_points, 2)), np.empty((len(rows), CHEST.n_points))
    seen = np.isin(data.roles[rows], SEEN)
    found = system.predict(np.asarray(data.films.images[rows[~seen]]))
    points[~seen], radii[~seen] = data.films.to_raw(found.points, rows[~seen]), found.radius
    if seen.any():
        ids, table = data.films.ids[rows[seen]], system.out_of_fold.set_index("id")
        if missing := sorted(set(ids) - set(table.index)):
            raise StageError(
                f"the system has no out-of-fold points of {len(missing)} films that it was trained on: "
                f"{', '.join(missing[:10])}; run `dvc repro` to make it again"
            )
        own = table.loc[ids]
        points[seen] = tables.stack_points(own["landmarks"])
        radii[seen] = np.stack([np.asarray(r, np.float64) for r in own["radius_px224"]])
    return points, radii


def comparisons(
    phases: Sequence[Phase], floors: Sequence[str], more: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Pairs of methods: the system with floors and the last phase, each phase with its parent, the last phase
    with floors, and `more`."""
    names = [p.name for p in phases]
    if unknown := sorted({name for pair in more for name in pair} - {METHOD, *names, *floors}):
        raise StageError(
            f"chest.evaluate.pairs names methods that are not there: {', '.join(unknown)}; there are "
            f"{', '.join([METHOD, *names, *floors])}"
        )
    last = last_phase({p.name: p.parent for p in phases})
    pairs = [(METHOD, other) for other in (*floors, *last)]
    pairs += [(p.name, p.parent) for p in phases if p.parent in names]
    pairs += [(name, floor) for name in last for floor in floors]
    return list(dict.fromkeys([*pairs, *more]))


def judge(data: LabelledFilms, rows: np.ndarray, method: str, predicted_raw: np.ndarray) -> pd.DataFrame:
    """One row a film of `rows` with all measures of one method's points (n, 15, 2)."""
    table = film_table(data, rows, method, predicted_raw, frames={UNIT: REPORT_FRAME})
    table["group"] = data.films.table["group"].to_numpy()[rows]
    sizes = data.films.sizes_raw[rows]
    predicted, truth = at_224(predicted_raw, sizes), at_224(data.landmarks_raw[rows], sizes)
    bias = (predicted - truth).mean(1)
    table["bias_x_px224"], table["bias_y_px224"] = bias[:, 0], bias[:, 1]
    table["error_widths"] = table[ERROR] / widths(truth)
    table["asymmetry_px224"], table["distances_px224"] = inconsistency(predicted, truth)
    return table


def radius_table(
    data: LabelledFilms, rows: np.ndarray, predicted_raw: np.ndarray, radii: np.ndarray
) -> pd.DataFrame:
    """One row a film and point: error and radius (n, 15), px at 224."""
    sizes, k = data.films.sizes_raw[rows], CHEST.n_points
    errors = radial_errors(at_224(predicted_raw, sizes), at_224(data.landmarks_raw[rows], sizes))
    return pd.DataFrame(
        {
            "id": np.repeat(data.films.ids[rows], k),
            "patient": np.repeat(data.patients[rows], k),
            "role": np.repeat(data.roles[rows], k),
            "point": np.tile(np.arange(k), len(rows)),
            ERROR: errors.ravel(),
            "radius_px224": radii.ravel(),
        }
    ).sort_values(["role", "id", "point"])


def calibrate(discs: pd.DataFrame, coverage: float, params: Params) -> pd.DataFrame:
    """How often labels lie where the discs say, by role; intervals over films.

    Returns:
        Columns role, limit_px224 (NaN: the point's own radius; see `measures.held`), n_points that the
        statement is made of, claimed (the least share that it should hold for), held, low, high.
    """
    found = []
    for role, own in discs.groupby("role", sort=True):
        errors, radii = own[ERROR].to_numpy(), own["radius_px224"].to_numpy()
        for limit in (None, *params.discs_px224):
            said, holds = held(errors, radii, limit)
            share = bootstrap_mean(holds[said], own["patient"][said], params.bootstrap, params.seed)
            bounds = {"held": share.mean, "low": share.low, "high": share.high}
            found.append(
                {"role": role, "limit_px224": limit, "n_points": said.sum(), "claimed": coverage, **bounds}
            )
    return pd.DataFrame(found).astype(dict.fromkeys(("limit_px224", "held", "low", "high"), float))


def role_metrics(per_film: pd.DataFrame) -> dict[str, float]:
    """Summaries of the system by role (test without a prefix), and the other methods' means."""
    metrics: dict[str, float] = {}
    for (method, role), table in per_film.groupby(["method", "role"]):
        prefix = "" if role == "test" else f"{role}_"
        if method == METHOD:
            own = summarise_films(table[ERROR].to_numpy())
            metrics |= {f"{prefix}{name}": value for name, value in own.items()}
        else:
            metrics[f"{prefix}{method}_mean_{UNIT}"] = float(table[ERROR].mean())
    test = per_film[per_film["role"] == "test"].set_index("method")
    metrics["mean_raw_px"] = float(test.loc[[METHOD], "error_raw_px"].mean())
    metrics["mean_widths"] = float(test.loc[[METHOD], "error_widths"].mean())
    metrics |= {
        f"bias_{axis}_{UNIT}": float(test.loc[[METHOD], f"bias_{axis}_px224"].mean()) for axis in "xy"
    }
    for method, prefix in ((METHOD, ""), (CONSTANT, f"{CONSTANT}_")):
        for measure in ("asymmetry_px224", "distances_px224"):
            metrics[f"{prefix}{measure}"] = float(test.loc[[method], measure].mean())
    return metrics


def interval_metrics(per_film: pd.DataFrame, phases: Sequence[str], params: Params) -> dict[str, float]:
    """Mean and interval on the test films: of the system, over all and by class, and of each phase."""
    test = per_film[per_film["role"] == "test"]
    own = test[test["method"] == METHOD]
    parts = {"": own, **{f"{name}_": part for name, part in own.groupby("group")}}
    parts |= {f"{name}_": test[test["method"] == name] for name in phases}
    metrics: dict[str, float] = {}
    for prefix, table in parts.items():
        found = bootstrap_mean(table[ERROR], table["patient"], params.bootstrap, params.seed)
        metrics |= {f"{prefix}mean_{UNIT}": found.mean, f"{prefix}n_films": found.n_films}
        metrics[f"{prefix}median_{UNIT}"] = float(table[ERROR].median())
        if found.low is not None and found.high is not None:
            metrics |= {f"{prefix}mean_{UNIT}_low": found.low, f"{prefix}mean_{UNIT}_high": found.high}
    return metrics


def calibration_metrics(calibration: pd.DataFrame) -> dict[str, float]:
    """The rows of the test films: `coverage` of the points' own discs, `held_within_R` of each statement."""
    metrics: dict[str, float] = {}
    columns = calibration[["limit_px224", "n_points", "claimed", "held", "low", "high"]].astype(float)
    for limit, n_points, claimed, share, low, high in columns[calibration["role"] == "test"].to_numpy():
        if np.isnan(limit):
            metrics |= {"coverage": share, "coverage_claimed": claimed}
            metrics |= {"coverage_low": low, "coverage_high": high}
        else:
            said = f"within_{limit:g}_{UNIT}"
            metrics |= {f"n_said_{said}": int(n_points), f"held_{said}": share}
    return metrics


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

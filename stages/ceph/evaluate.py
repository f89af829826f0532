"""Stage ceph-evaluate: base and tuned model beside floors and readers, on films of the base and of the clinic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.ceph.evaluation.calibration import reliability
from stages.ceph.evaluation.figures import set_figures
from stages.ceph.evaluation.films import BASE, READER, ROLES, TUNED, Answers, JudgedFilms
from stages.ceph.evaluation.judge import (
    FILM_COLUMNS,
    MM,
    PERCENT,
    RADIAL_SCHEMA,
    judge_films,
    judge_points,
    radial_table,
)
from stages.core.data import tables
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import write_tables
from stages.core.evaluate.statistics import Bootstrap, compare_methods, write_comparison
from stages.core.model.card import load_card
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

READERS_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "patient", "role", "method", "reader")),
        tables.column(MM, pa.float32(), "mm"),
        tables.column(PERCENT, pa.float32(), "percent of the reader's S-N distance"),
    ]
)


class Params(StageParams):
    """Parameters.

    Attributes:
        reader: of the clinic, whose points stand for the truth.
        groups: of points by their expected error, at most.
    """

    section: ClassVar[str] = "ceph.evaluate"
    seed: int
    threads: int
    reader: str
    groups: int = Field(ge=2)
    bootstrap: Bootstrap


def run(
    params: Params,
    films: Path,
    split: Path,
    clinic: Path,
    clinic_split: Path,
    floors: Path,
    base: Path,
    tuned: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the evaluation: a folder `base` and a folder `clinic`, each with

    per_film.parquet and per_point.parquet; radial.parquet: errors of points in every unit, and what the method
    expected; comparison.csv: paired, in mm where films have a spacing, and in percent of the S-N distance;
    calibration.csv; in `clinic` also readers.parquet: the same films against each reader.
    No patients are known, so that intervals are over films and may be too narrow.

    Returns:
        See `figures.set_figures`.
    Raises:
        StageError: a model of another split, films of another size than the models read, or no such reader.
    """
    from stages.ceph.locating.model import TrainedCeph
    from stages.core.floors.fitting import Floors
    from stages.core.floors.stage import read_predictions
    from stages.core.train import runtime

    runtime.prepare("cpu", params.threads, params.seed)
    require_split((base, tuned), split)
    sets = (
        JudgedFilms.of_base(films, split),
        JudgedFilms.of_clinic(clinic, clinic_split, params.reader),
    )
    require_apart(sets)
    models = {BASE: (TrainedCeph.open(base), base), TUNED: (TrainedCeph.open(tuned), tuned)}
    simple = Floors.load(floors)
    metrics: dict[str, float] = {}
    for k, judged in enumerate(sets):
        answers = {method: judged.asked(model, named) for method, (model, named) in models.items()}
        if k == 0:
            known = read_predictions(floors, judged.data, judged.rows)
            answers |= {method: Answers(points) for method, points in known.items()}
        else:
            answers |= judged.guessed(simple, floors) | judged.others(clinic, params.reader)
            write_readers(output / judged.name, judged, answers, clinic, params.reader)
        metrics |= judge_set(output / judged.name, judged, answers, params)
        observe.progress(k + 1, len(sets), "sets of films")
    return metrics


def judge_set(
    output: Path, films: JudgedFilms, answers: dict[str, Answers], params: Params
) -> dict[str, float]:
    """Write the folder of one set and return its figures."""
    per_film = pd.concat([judge_films(films, m, found) for m, found in answers.items()])
    per_point = pd.concat([judge_points(films, m, found) for m, found in answers.items()])
    radial = pd.concat([radial_table(films, m, found) for m, found in answers.items()])
    write_tables(output, per_film, per_point, FILM_COLUMNS)
    radial = radial.sort_values(["method", "role", "id", "point"])
    tables.write_table(output / "radial.parquet", radial, RADIAL_SCHEMA)
    units = [column for column in (MM, PERCENT) if per_film[column].notna().any()]
    compared = [
        compare_methods(per_film, pairs(answers), unit, ROLES[films.name], params.bootstrap, params.seed)
        for unit in units
    ]
    write_comparison(output / "comparison.csv", pd.concat(compared))
    names = [unit.removeprefix("error_") for unit in units]
    calibration = reliability(radial, (BASE, TUNED), names, params.groups, params.bootstrap, params.seed)
    calibration.to_csv(output / "calibration.csv", index=False, float_format="%.6g", lineterminator="\n")
    return set_figures(films.name, per_film, radial, params.groups, params.bootstrap, params.seed)


def pairs(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Methods that are compared: either model with the other, with floors and with readers."""
    others = [m for m in methods if m not in (BASE, TUNED)]
    return [(TUNED, BASE), (BASE, TUNED), *((model, other) for model in (BASE, TUNED) for other in others)]


def write_readers(
    output: Path, films: JudgedFilms, answers: dict[str, Answers], clinic: Path, reader: str
) -> None:
    """Write readers.parquet: mean error of each film by each method and reader, against each reader's points."""
    read = {f"{READER}{reader}": Answers(films.truth), **films.others(clinic, reader)}
    methods = {**answers, f"{READER}{reader}": read[f"{READER}{reader}"]}
    found = []
    for name, truth in read.items():
        labels = np.full(films.data.landmarks_raw.shape, np.nan)
        labels[films.rows] = truth.points
        against = replace(films, data=replace(films.data, landmarks_raw=labels))
        for method, points in methods.items():
            if method != name:
                rows = judge_films(against, method, points)
                found.append(
                    rows[["id", "patient", "role", "method", MM, PERCENT]].assign(
                        reader=name.removeprefix(READER)
                    )
                )
    table = pd.concat(found).sort_values(["reader", "method", "role", "id"])
    tables.write_table(output / "readers.parquet", table, READERS_SCHEMA)


def require_split(models: Iterable[Path], split: Path) -> None:
    """Raise a StageError that names every model that was trained on another split of the base films."""
    digest = split_digest(read_split(split))
    if strangers := [str(model) for model in models if load_card(model).split_sha256 != digest]:
        raise StageError(
            f"{', '.join(strangers)}: trained on another split than {split}; run `dvc repro` to train again"
        )


def require_apart(sets: Iterable[JudgedFilms]) -> None:
    """Raise a StageError where an id is in two sets: tables of both together could not tell them apart."""
    base, clinic = (set(films.data.films.ids) for films in sets)
    if shared := sorted(base & clinic):
        raise StageError(f"films of the base are among those of the clinic: {', '.join(shared[:10])}")


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

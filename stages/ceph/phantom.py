"""Stage ceph-phantom: two made-up sets of lateral films in the raw layout, with planted defects.

The base set has the layout of ISBI 2015 as it is stored here:
images/NNN.jpg      774 x 960 px, 0.25 mm
labels/NNN.txt      19 lines x,y in the frame of 1935 x 2400 px at 0.1 mm, then 8 lines with a class
dataset.json        name, label frame and spacing
planted.csv         file, defect, detail: what was spoilt on purpose

The clinic's set is that of two readers: films of another machine without a known spacing, reader_a and reader_b
in labelme's JSON, and a few landmarks that this clinic defines in another way.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.phantom_clinic import ClinicParams, write_clinic
from stages.ceph.phantom_film import Look, draw_film, encode_film, place_head
from stages.ceph.phantom_shape import Measures, read_points, sample_head
from stages.ceph.schema import CEPH, INDEX, ISBI_FRAME, ISBI_SPACING_MM
from stages.core.data import geometry
from stages.core.data.pool import map_unordered
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

CLASS_LINES = 8
"""lines with a class (1 to 3) that follow the points in ISBI's label files"""


class Defects(BaseModel):
    """How many films of the base set get each defect."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    no_label: int
    missing_film: int
    line_count: int
    not_a_number: int
    out_of_range: int
    out_of_order: int
    broken_film: int
    copied_film: int


class Params(StageParams):
    section: ClassVar[str] = "ceph.phantom"
    seed: int
    workers: int = Field(ge=0)  # processes; 0 = one a core; no effect on the result
    films: int  # of the base set, those with planted defects included
    measures: Measures
    look: Look
    label_noise: float = Field(ge=0)  # of the base set's labels, in the spreads of one reader
    defects: Defects
    clinic: ClinicParams


@dataclass(frozen=True)
class Film:
    """One film to be written: `lines` is its label file, empty where it has none."""

    name: str
    seed: tuple[int, int, int]
    lines: tuple[str, ...]
    written: bool = True
    broken: bool = False
    copy: str = ""  # name of a second film with the same bytes and label


def run(params: Params, output: Path, clinic: Path, observe: Observer) -> dict[str, float]:
    """Write the base set into the folder `output` and the clinic's into `clinic`, replacing what is there."""
    films, planted = plan_films(params)
    shutil.rmtree(output, ignore_errors=True)
    for folder in ("images", "labels"):
        (output / folder).mkdir(parents=True)
    tasks = [_Task(film, params.measures, params.look, output / "images") for film in films]
    for done, _ in enumerate(map_unordered(_write_film, tasks, params.workers, group=4), start=1):
        observe.progress(done, len(films), "films")
    for film in films:
        for name in filter(None, (film.name, film.copy)):
            if film.lines:
                (output / "labels" / f"{name}.txt").write_text("\n".join(film.lines) + "\n", encoding="utf-8")
    with (output / "planted.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "defect", "detail"), *planted])
    described = {
        "name": "phantom",
        "lane": CEPH.lane,
        "films": len(films),
        "seed": params.seed,
        "label_frame": list(ISBI_FRAME),
        "spacing_mm": ISBI_SPACING_MM,
    }
    (output / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    of_clinic = write_clinic(params.clinic, params.measures, params.seed, params.workers, clinic, observe)
    return {
        "n_films": len(films),
        "n_labelled": sum(bool(film.lines) for film in films),
        "n_planted": len(planted),
        **of_clinic,
    }


def plan_films(params: Params) -> tuple[list[Film], list[tuple[str, str, str]]]:
    """All films of the base set in the order of their names, and the truth table of the planted defects."""
    films = [_film(params, number) for number in range(params.films)]
    wanted = [name for name, count in params.defects.model_dump().items() for _ in range(count)]
    if len(wanted) > len(films):
        raise StageError(f"ceph.phantom: {len(wanted)} defects but only {len(films)} films")
    chosen = np.random.default_rng([params.seed, 0]).choice(len(films), len(wanted), replace=False)
    planted = []
    copies = 0
    for name, number in zip(wanted, chosen.tolist(), strict=True):
        detail, spoil = SPOIL[name]
        films[number] = spoil(films[number])
        if name == "copied_film":
            copies += 1
            films[number] = replace(films[number], copy=f"{len(films) + copies:03d}")
        planted.append((films[number].name, name, detail))
    return films, sorted(planted)


def _film(params: Params, number: int) -> Film:
    seed = (params.seed, 1, number)
    points_mm, placed, rng = _head(seed, params.measures, params.look)
    on_film = geometry.apply(placed, read_points(points_mm, params.label_noise, rng))
    film_size = params.look.height, params.look.width
    label_size = ISBI_FRAME[1], ISBI_FRAME[0]
    points = np.rint(geometry.apply(geometry.resize_matrix(film_size, label_size), on_film)).astype(int)
    points = np.clip(points, 0, np.array(ISBI_FRAME) - 1)
    classes = [str(c) for c in rng.integers(1, 4, CLASS_LINES)]
    return Film(f"{number + 1:03d}", seed, (*(f"{x},{y}" for x, y in points.tolist()), *classes))


def _head(
    seed: tuple[int, int, int], measures: Measures, look: Look
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Landmarks (19, 2) mm of a head, its place on the film (2, 3), and the generator of its labels."""
    rng = np.random.default_rng([*seed, 0])
    points_mm = sample_head(measures, rng)
    return points_mm, place_head(points_mm, look, rng), rng


def _set_line(film: Film, name: str, line: str) -> Film:
    i = INDEX[name]
    return replace(film, lines=(*film.lines[:i], line, *film.lines[i + 1 :]))


def _exchange(film: Film, first: str, second: str) -> Film:
    a, b = film.lines[INDEX[first]], film.lines[INDEX[second]]
    return _set_line(_set_line(film, first, b), second, a)


SPOIL: dict[str, tuple[str, Callable[[Film], Film]]] = {
    "no_label": ("has no label file", lambda f: replace(f, lines=())),
    "missing_film": ("has a label but no film", lambda f: replace(f, written=False)),
    "line_count": ("18 points", lambda f: replace(f, lines=f.lines[: CEPH.n_points - 1])),
    "not_a_number": ("y of gonion is ?", lambda f: _set_line(f, "gonion", "640,?")),
    "out_of_range": ("orbitale lies beyond the film", lambda f: _set_line(f, "orbitale", "2310,1190")),
    "out_of_order": ("the lips change places", lambda f: _exchange(f, "upper_lip", "lower_lip")),
    "broken_film": ("the file ends early", lambda f: replace(f, broken=True)),
    "copied_film": ("the same film is there again under a higher number", lambda f: f),
}
"""Defect -> what the truth table says of it, and what is done to the film."""


@dataclass(frozen=True)
class _Task:
    """What a worker needs to draw one film."""

    film: Film
    measures: Measures
    look: Look
    folder: Path

    def __str__(self) -> str:
        return f"{self.film.name}.jpg"


def _write_film(task: _Task) -> None:
    """Draw and store one film, whole or broken, once or twice."""
    film = task.film
    if not film.written:
        return
    points_mm, placed, _ = _head(film.seed, task.measures, task.look)
    picture = draw_film(points_mm, placed, task.look, np.random.default_rng([*film.seed, 1]))
    data = encode_film(picture, task.look.quality)
    for name in filter(None, (film.name, film.copy)):
        (task.folder / f"{name}.jpg").write_bytes(data[: len(data) // 3] if film.broken else data)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

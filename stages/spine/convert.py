"""Stage spine-convert: films and labels in the AASCE layout to a film store, each file checked.

Left out, with a reason in quarantine.csv: films that the engine cannot decode, films whose label is missing
or unusable (see layout.read_label), labels without a film, and second films of one name. A label that is
stored as (2, 68) is turned and listed as kept. Points outside the film are the audit's business.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from stages.core.data.convert import (
    KEPT,
    LEFT_OUT,
    ConvertSettings,
    FilmJob,
    Refusal,
    convert_films,
    names_file,
    write_names,
)
from stages.core.data.decode import FilmLimits
from stages.core.data.films import DatasetInfo, dataset_name
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.layout import LabelError, RawFilm, film_id, find_root, list_films, patient_id, read_label
from stages.spine.schema import SCHEMA

DEFAULT_NAME = "aasce"


class Params(StageParams):
    section: ClassVar[str] = "spine.convert"
    height: int = Field(ge=16)
    width: int = Field(ge=16)
    on_error: Literal["quarantine", "stop"]
    workers: int = Field(ge=0)
    min_side: int = Field(ge=1)
    max_pixels: int = Field(ge=1)

    @property
    def settings(self) -> ConvertSettings:
        limits = FilmLimits(self.min_side, self.max_pixels)
        return ConvertSettings((self.height, self.width), self.workers, self.on_error, limits)


def run(params: Params, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the film store `output`, and the private table of names beside the raw data."""
    films = list_films(raw)
    jobs, refusals = take_inventory(films)
    info = DatasetInfo(dataset_name(find_root(raw), DEFAULT_NAME), SCHEMA.lane)
    counts = convert_films(jobs, refusals, output, info, SCHEMA.n_points, params.settings, observe)
    write_names(names_file(output, info), [(film_id(f.name), patient_id(f.name), f.name) for f in films])
    return counts


def take_inventory(films: list[RawFilm]) -> tuple[list[FilmJob], list[Refusal]]:
    """Which films have a usable label, and what is wrong with every other one."""
    jobs: list[FilmJob] = []
    refusals: list[Refusal] = []
    seen: set[str] = set()

    def refuse(film: RawFilm, reason: str, detail: str, action: str = LEFT_OUT) -> None:
        refusals.append(Refusal(film_id(film.name), film.name, reason, action, detail))

    for film in films:
        if film.name in seen:
            refuse(film, "name_repeated", "the other part has a film of this name, which is used")
            continue
        seen.add(film.name)
        if not film.film.exists():
            refuse(film, "film_missing", "there is a label but no film")
            continue
        try:
            points, transposed = read_label(film.label)
        except LabelError as error:
            refuse(film, error.reason, error.detail)
            continue
        if transposed:
            refuse(film, "label_transposed", f"p2 was (2, {SCHEMA.n_points}) and was turned", KEPT)
        jobs.append(FilmJob(film_id(film.name), patient_id(film.name), "", film.film, points))
    return jobs, refusals


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

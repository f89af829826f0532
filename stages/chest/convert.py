"""Stage chest-convert: films and the coordinate table to a film store, every row checked.

Left out, with a reason in quarantine.csv: what `layout.find_problems` and `layout.judge_points` name, films
of another size than the labels were made for, second copies of a file, films without a label, and what the
engine cannot decode. Kept but listed: labels that depart from the fourteen degrees of freedom or the grid.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from stages.chest.layout import (
    LABEL_SIZE,
    Problem,
    RawChest,
    find_problems,
    judge_points,
    read_raw,
    structure_findings,
)
from stages.chest.schema import CHEST
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
from stages.core.data.films import DatasetInfo, dataset_name, pseudonym
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

DEFAULT_NAME = "covid15"
FINDINGS = ("off_grid", "off_axis", "off_perpendicular")


class Params(StageParams):
    section: ClassVar[str] = "chest.convert"
    stored_size: int = Field(ge=32)
    on_error: Literal["quarantine", "stop"]
    workers: int = Field(ge=0)
    min_side: int = Field(ge=1)
    max_pixels: int = Field(ge=1)

    @property
    def settings(self) -> ConvertSettings:
        size = (self.stored_size, self.stored_size)
        return ConvertSettings(size, self.workers, self.on_error, FilmLimits(self.min_side, self.max_pixels))


@dataclass(frozen=True)
class Inventory:
    """A raw folder after all checks that need no decoding."""

    jobs: list[FilmJob]
    refusals: list[Refusal]

    @property
    def all_names(self) -> set[tuple[str, str, str]]:
        """(id, patient, name) of jobs and refused films alike, for the private table of names."""
        used = {(job.id, job.patient, job.path.name) for job in self.jobs}
        return used | {(refusal.id, refusal.id, refusal.name) for refusal in self.refusals}


def run(params: Params, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the film store `output`, and the private table of names (see `names_file`)."""
    inventory = take_inventory(read_raw(raw))
    info = DatasetInfo(dataset_name(raw, DEFAULT_NAME), CHEST.lane)
    counts = convert_films(
        inventory.jobs, inventory.refusals, output, info, CHEST.n_points, params.settings, observe
    )
    write_names(names_file(output, info), inventory.all_names)
    return {**{f"n_{finding}": 0 for finding in FINDINGS}, **counts}


def take_inventory(raw: RawChest) -> Inventory:
    """Which films of a raw folder can be used, and what is wrong with every other one."""
    good, bad = find_problems(raw)
    bad |= {name: Problem("no_label", "no row in the label file") for name in raw.unlabelled}
    for name, points in good.items():
        problem = _size_problem(raw.films[name][0])
        problem = problem or judge_points(points)
        if problem:
            bad[name] = problem
    good = {name: points for name, points in good.items() if name not in bad}
    bad |= (copies := _copies({name: raw.films[name][0] for name in good}))
    good = {name: points for name, points in good.items() if name not in copies}

    refusals = [_refusal(name, bad[name], LEFT_OUT) for name in sorted(bad)]
    if good:
        shapes = np.stack(list(good.values()))
        for finding, hit in structure_findings(shapes).items():
            note = Problem(finding, "label kept as it is")
            refusals += [_refusal(name, note, KEPT) for name, found in zip(good, hit, strict=True) if found]
    return Inventory([_job(name, raw.films[name][0], points) for name, points in good.items()], refusals)


def _job(name: str, path: Path, points: np.ndarray) -> FilmJob:
    """Without patient ids in the data set, every film is its own patient."""
    film = pseudonym(CHEST.lane, name)
    return FilmJob(id=film, patient=film, group=path.parent.name, path=path, landmarks=points)


def _refusal(name: str, problem: Problem, action: str) -> Refusal:
    return Refusal(pseudonym(CHEST.lane, name), name, problem.reason, action, problem.detail)


def _size_problem(path: Path) -> Problem | None:
    """A film that is readable but of another size; unreadable ones are left to the engine."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None
    if (width, height) == (LABEL_SIZE, LABEL_SIZE):
        return None
    return Problem("other_size", f"{width} x {height} px; labels are for {LABEL_SIZE} x {LABEL_SIZE}")


def _copies(films: dict[str, Path]) -> dict[str, Problem]:
    """All films but the first by name of those with equal bytes: they could lie in different roles."""
    first: dict[str, str] = {}
    copies = {}
    for name in sorted(films):
        digest = hashlib.sha256(films[name].read_bytes()).hexdigest()
        if first.setdefault(digest, name) != name:
            original = pseudonym(CHEST.lane, first[digest])
            copies[name] = Problem("copied_film", f"the same file as {original}")
    return copies


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

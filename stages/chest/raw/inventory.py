"""Which films of a raw folder can be used, and what is wrong with the others: all checks before decoding."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.chest.raw.layout import Problem, RawChest, find_problems, judge_points, structure_findings
from stages.chest.schema import CHEST, LABEL_SIZE
from stages.core.data.convert import KEPT, LEFT_OUT, FilmJob, Refusal
from stages.core.data.films import pseudonym


@dataclass(frozen=True)
class Inventory:
    """A raw folder after all checks that need no decoding."""

    jobs: list[FilmJob]
    refusals: list[Refusal]

    @property
    def names(self) -> set[tuple[str, str, str]]:
        """(id, patient, name) of jobs and refused films alike, for the private table of names."""
        used = {(job.id, job.patient, job.path.name) for job in self.jobs}
        return used | {(refusal.id, refusal.id, refusal.name) for refusal in self.refusals}


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

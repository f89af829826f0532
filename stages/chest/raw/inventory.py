"""Which films of a raw folder can be used, and what is wrong with the others: all checks before decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.chest.raw.files import class_finding, colour_findings, find_copies, size_problem
from stages.chest.raw.layout import Problem, RawChest, find_problems, judge_points, shape_findings
from stages.chest.schema import CHEST
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
    """Which films of a raw folder can be used, and what is wrong or odd about every other one."""
    good, bad = find_problems(raw)
    bad |= {name: Problem("no_label", "no row in the label file") for name in raw.unlabelled}
    for name, points in good.items():
        problem = size_problem(raw.films[name][0])
        problem = problem or judge_points(points)
        if problem:
            bad[name] = problem
    good = {name: points for name, points in good.items() if name not in bad}
    bad |= (copies := find_copies({name: raw.films[name][0] for name in good}))
    good = {name: points for name, points in good.items() if name not in copies}

    refusals = [_refusal(name, bad[name], LEFT_OUT) for name in sorted(bad)]
    for name, problems in _oddities(raw, good).items():
        refusals += [_refusal(name, problem, KEPT) for problem in problems]
    return Inventory([_job(name, raw.films[name][0], points) for name, points in good.items()], refusals)


def _oddities(raw: RawChest, good: dict[str, np.ndarray]) -> dict[str, list[Problem]]:
    """What is odd about usable films and their labels (15, 2) in raw px, by name of film."""
    found: dict[str, list[Problem]] = {}
    for name in good:
        path = raw.films[name][0]
        mismatch = class_finding(path)
        found[name] = [*colour_findings(path), *([mismatch] if mismatch else [])]
    if good:
        for reason, hit in shape_findings(np.stack(list(good.values()))).items():
            for name, odd in zip(good, hit, strict=True):
                if odd:
                    found[name].append(Problem(reason, "label kept as it is"))
    return found


def _job(name: str, path: Path, points: np.ndarray) -> FilmJob:
    """Without patient ids in the data set, every film is its own patient."""
    film = pseudonym(CHEST.lane, name)
    return FilmJob(id=film, patient=film, group=path.parent.name, path=path, landmarks=points)


def _refusal(name: str, problem: Problem, action: str) -> Refusal:
    return Refusal(pseudonym(CHEST.lane, name), name, problem.reason, action, problem.detail)

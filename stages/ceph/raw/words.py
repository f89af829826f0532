"""What everybody says of one film: its label file and its readers, in raw px, with what is wrong or odd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.ceph.raw.described import Described
from stages.ceph.raw.frame import to_film
from stages.ceph.raw.layout import Problem
from stages.ceph.raw.points import order_problem, outside, outside_problem, read_labelme
from stages.ceph.schema import CEPH
from stages.core.film_facts import FilmFacts

TEXT_READER = "labels"
"""the reader whose words the files in labels/ are"""


@dataclass(frozen=True)
class Words:
    """Points (19, 2) raw px by reader, NaN for what is missing, and what is wrong or odd about them."""

    points: dict[str, np.ndarray]
    problems: tuple[Problem, ...]

    def mean(self) -> np.ndarray:
        """(19, 2) mean of the readers who have a point; NaN where nobody has it."""
        if not self.points:
            return np.full((CEPH.n_points, 2), np.nan)
        stack = np.stack(list(self.points.values()))
        known = np.isfinite(stack)
        total = np.where(known, stack, 0).sum(0)
        return np.divide(total, known.sum(0), out=np.full_like(total, np.nan), where=known.any(0))


def sound_label(points: np.ndarray | Problem, facts: FilmFacts | None) -> np.ndarray | Problem:
    """Points (19, 2) raw px that may be learned from, or why these may not."""
    if isinstance(points, Problem):
        return points
    if not np.isfinite(points).any():
        return Problem("no_label", "no label file and no reader's")
    if facts is None:
        return points
    return outside_problem(points, facts.size) or order_problem(points) or points


def hear_readers(
    name: str,
    text: np.ndarray | Problem | None,
    readers: Mapping[str, Mapping[str, Path]],
    facts: FilmFacts | None,
    described: Described,
) -> Words:
    """The words of all readers on one film: a fault costs a point or a reader, never the film.

    Args:
        name: of the film.
        text: points (19, 2) raw px of the file in labels/, where that counts as a reader's.
        readers: reader -> name of film -> labelme file.
    """
    points: dict[str, np.ndarray] = {}
    problems: list[Problem] = []
    said: list[tuple[str, np.ndarray | Problem]] = [] if text is None else [(TEXT_READER, text)]
    for reader, files in readers.items():
        read = read_labelme(files[name]) if name in files else Problem("no_label", "no file")
        if isinstance(read, Problem):
            said.append((reader, read))
            continue
        problems += [_by(reader, problem) for problem in read.problems]
        said.append((reader, to_film(read.points, read.frame, facts, described)))
    for reader, word in said:
        if isinstance(word, Problem):
            problems.append(_by(reader, word))
            continue
        if facts is not None and (problem := outside_problem(word, facts.size)):
            problems.append(_by(reader, problem))
            word = np.where(outside(word, facts.size)[:, None], np.nan, word)
        if problem := order_problem(word):
            problems.append(_by(reader, problem))
        points[reader] = word
    return Words(points, tuple(problems))


def _by(reader: str, problem: Problem) -> Problem:
    return Problem(problem.reason, f"reader {reader}: {problem.detail}")

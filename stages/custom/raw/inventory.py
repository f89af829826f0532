"""Which films of a set can be used and with which points, and what is wrong with the others: before any decoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.data import geometry
from stages.core.data.convert import KEPT, LEFT_OUT, FilmJob, Refusal
from stages.core.data.films import pseudonym
from stages.core.errors import StageError
from stages.core.film_facts import FilmFacts, film_facts
from stages.custom.description import LaneDescription
from stages.custom.raw.films import MAX_PIXELS, FilmFolder, find_copies
from stages.custom.raw.forms import read_labels
from stages.custom.raw.record import FilmLabel, Problem

DOUBLED_TOLERANCE = 0.01
"""two points of one name count as one click repeated up to this distance, in diagonals of the film"""
ASPECT_TOLERANCE = 0.01
"""labels drawn on a copy of the film in another size are scaled to it where the proportions agree so far"""
REASONS = (
    "missing_film",
    "no_label",
    "too_few_points",
    "copied_film",
    "missing_point",
    "doubled_point",
    "point_outside",
)
"""that are counted even where no film has them"""


@dataclass(frozen=True)
class RawFilms:
    """A set of films after all checks that need no decoding.

    Attributes:
        jobs: films that can be used; labels in raw px, NaN where a point is missing.
        refusals: what is wrong or odd about a film or its label.
        spacing_mm: id of each job -> (x, y) mm per raw px, NaN where it is unknown.
        patients_known: whether labels or names say whose film each is.
    """

    jobs: list[FilmJob]
    refusals: list[Refusal]
    spacing_mm: dict[str, tuple[float, float]]
    patients_known: bool

    @property
    def names(self) -> set[tuple[str, str, str]]:
        """(id, patient, name) of jobs and refused films alike, for the private table of names."""
        used = {job.id: (job.id, job.patient, job.path.name) for job in self.jobs}
        return {*used.values(), *((r.id, r.id, r.name) for r in self.refusals if r.id not in used)}


def read_raw(described: LaneDescription, folder: Path, labels: Path, least_share: float) -> RawFilms:
    """Read the films of `folder` with their labels.

    Args:
        least_share: a film that has fewer of its landmarks is left out.
    Raises:
        StageError: no pictures, labels that cannot be read, or names that are no landmarks; names them all.
    """
    films = FilmFolder(folder)
    if not films.paths:
        raise StageError(f"{folder} holds no pictures, at no depth")
    found = read_labels(labels, described.form).labels
    require_known_names(described, labels, found)
    refusals: list[Refusal] = []
    by_film: dict[Path, list[FilmLabel]] = {}
    for label in found:
        own = films.find(label.names)
        if len(own) == 1:
            by_film.setdefault(own[0], []).append(label)
            continue
        named = ", ".join(p.relative_to(folder).as_posix() for p in own)
        problem = (
            Problem("duplicate_name", f"films {len(own)}")
            if own
            else Problem("missing_film", "a label but no film")
        )
        said = f"{label.names[0]} ({named})" if own else label.names[0]
        refusals.append(_refusal(described, label.names[-1], said, problem, LEFT_OUT))
    copies = find_copies(by_film)
    jobs, spacing = [], {}
    for path in films.paths:
        key = films.key(path)
        id_ = pseudonym(described.name, key)
        facts = film_facts(path, MAX_PIXELS)
        problems: list[Problem] = []
        points: np.ndarray | Problem
        if path in copies:
            points = Problem(
                "copied_film", f"the same file as {pseudonym(described.name, films.key(copies[path]))}"
            )
        elif path not in by_film:
            points = Problem("no_label", "no label speaks of it")
        else:
            points = settle(described, by_film[path], facts, least_share, problems)
        if isinstance(points, Problem):
            refusals.append(_refusal(described, key, path.name, points, LEFT_OUT))
            continue
        refusals += [_refusal(described, key, path.name, problem, KEPT) for problem in problems]
        jobs.append(FilmJob(id_, _patient(described, path, by_film[path]) or id_, "", path, points))
        spacing[id_] = _spacing(described, facts)
    known = bool(jobs) and all(job.patient != job.id for job in jobs)
    return RawFilms(jobs, refusals, spacing, known)


def require_known_names(described: LaneDescription, labels: Path, found: Sequence[FilmLabel]) -> None:
    """StageError naming the points that are neither landmarks nor ignored, each with one place where it is."""
    known = {name.casefold() for name in (*described.landmarks, *described.ignored)}
    strange: dict[str, str] = {}
    for label in found:
        for name, _, _ in label.points:
            if name.casefold() not in known:
                strange.setdefault(name, label.source)
    if strange:
        named = "".join(f"\n  {name} ({source})" for name, source in sorted(strange.items()))
        raise StageError(
            f"{labels} has points that data/lanes/{described.name}.json does not know; add them to its "
            f"landmarks, or to ignored:{named}"
        )


def settle(
    described: LaneDescription,
    labels: Sequence[FilmLabel],
    facts: FilmFacts | None,
    least_share: float,
    problems: list[Problem],
) -> np.ndarray | Problem:
    """The points (K, 2) of a film in raw px from all labels that speak of it, or why it has none.

    `problems` receives what is odd about single points.
    """
    if unusable := [label.problem for label in labels if label.problem]:
        return unusable[0]
    clicked: list[tuple[str, np.ndarray]] = []
    for label in labels:
        matrix = _to_film(label, facts)
        if isinstance(matrix, Problem):
            return matrix
        clicked += [
            (name.casefold(), geometry.apply(matrix, np.array([x, y]))) for name, x, y in label.points
        ]
    size = np.array(facts.size, float) if facts else np.full(2, np.inf)
    diagonal = float(np.hypot(*size)) if facts else float(np.hypot(*np.ptp([p for _, p in clicked], axis=0)))
    points = np.full((len(described.landmarks), 2), np.nan)
    for i, name in enumerate(described.landmarks):
        own = [p for label, p in clicked if label == name.casefold()]
        if not own:
            problems.append(Problem("missing_point", name))
        elif not np.isfinite(own).all():
            problems.append(Problem("not_a_number", f"{name}; left out"))
        elif len(own) > 1 and (apart := _apart(own)) > DOUBLED_TOLERANCE * diagonal:
            problems.append(
                Problem("doubled_point", f"{name} {len(own)} times, {apart:.0f} px apart; none counts")
            )
        elif ((own[0] < -0.5) | (own[0] > size - 0.5)).any():
            at = f"({own[0][0]:g}, {own[0][1]:g}) on a film of {size[0]:g} x {size[1]:g}"
            problems.append(Problem("point_outside", f"{name} {at}; left out"))
        else:
            if len(own) > 1:
                problems.append(
                    Problem("doubled_point", f"{name} {len(own)} times, close together; the first counts")
                )
            points[i] = own[0]
    there = int(np.isfinite(points).all(1).sum())
    if there < max(2, least_share * len(points)):
        return Problem("too_few_points", f"{there} of {len(points)} landmarks")
    return points


def _to_film(label: FilmLabel, facts: FilmFacts | None) -> np.ndarray | Problem:
    """(2, 3) map from the picture that was labelled to the film."""
    if label.frame is None or facts is None or label.frame == facts.size:
        return geometry.resize_matrix((1, 1), (1, 1))
    (width, height), (w, h) = label.frame, facts.size
    if abs(np.log(width / height) - np.log(w / h)) > ASPECT_TOLERANCE:
        return Problem("label_frame", f"labelled on {width:g} x {height:g}, the film has {w} x {h}")
    scale_x, scale_y = w / width, h / height
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5]])


def _apart(points: list[np.ndarray]) -> float:
    return max(float(np.hypot(*(p - points[0]))) for p in points)


def _patient(described: LaneDescription, path: Path, labels: Sequence[FilmLabel]) -> str:
    """Pseudonym of the patient, "" where nothing says who it is."""
    said = next((label.patient for label in labels if label.patient), "")
    if described.patients is not None and (told := re.search(described.patients, path.stem)):
        said = told[1] if told.re.groups else told[0]
    return pseudonym(described.name, f"patient {said}") if said else ""


def _spacing(described: LaneDescription, facts: FilmFacts | None) -> tuple[float, float]:
    if facts is not None and facts.spacing_mm is not None:
        return facts.spacing_mm
    told = float("nan") if described.spacing_mm is None else described.spacing_mm
    return told, told


def _refusal(described: LaneDescription, key: str, name: str, problem: Problem, action: str) -> Refusal:
    return Refusal(pseudonym(described.name, key), name, problem.reason, action, problem.detail)

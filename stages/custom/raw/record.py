"""What the readers of all label forms give: the points of one film as its file has them, by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import StageError


@dataclass(frozen=True)
class Problem:
    """What is wrong or odd about a film or its label; `reason` is a code for tables."""

    reason: str
    detail: str


@dataclass(frozen=True)
class FilmLabel:
    """The label of one film.

    Attributes:
        source: where it was read, for messages.
        names: what its picture may be called, the likeliest first.
        points: (name, x, y) in px of `frame`, as often as a name is there. A landmark that has no place is not.
        frame: (width, height) of the picture that was labelled; None where the file does not say.
        patient: "" where the file does not say.
        problem: why it cannot be used, where it cannot.
    """

    source: str
    names: tuple[str, ...]
    points: tuple[tuple[str, float, float], ...] = ()
    frame: tuple[float, float] | None = None
    patient: str = ""
    problem: Problem | None = None


@dataclass(frozen=True)
class LabelSet:
    """All labels of a set.

    Attributes:
        names: of the landmarks, in the order of the file that declares them, or of their first mention.
        skeleton: pairs of names to draw a line between, where the form has such.
    """

    labels: tuple[FilmLabel, ...]
    names: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...] = ()


def mentioned(labels: Iterable[FilmLabel]) -> tuple[str, ...]:
    """Names of points in the order of their first mention, spellings that differ in case alone as one."""
    found: dict[str, str] = {}
    for label in labels:
        for name, _, _ in label.points:
            found.setdefault(name.casefold(), name)
    return tuple(found.values())


def frame_of(width: object, height: object) -> tuple[float, float] | None:
    """Size of the picture that was labelled, where both sides are positive numbers."""
    try:
        size = float(str(width)), float(str(height))
    except ValueError:
        return None
    return size if min(size) > 0 and max(size) < float("inf") else None


def read_json(path: Path) -> Any:
    """A JSON file; StageError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise StageError(f"{path} does not exist") from None
    except (ValueError, OSError) as error:
        raise StageError(f"{path} is not a JSON file: {error}") from None

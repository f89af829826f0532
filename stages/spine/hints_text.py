"""Hints as a person types them: `POINT=X,Y`, the place of a point in px of the film file.

7=412.5,980      the point with index 7, counted from 0
T2 BR=412.5,980  the same by its name; T2-BR, t2_br and T2BR are the same name
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stages.core.data.geometry import Size
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.spine.schema import SCHEMA

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse_hints(
    texts: Sequence[str], size: Size, schema: LandmarkSchema = SCHEMA
) -> dict[int, tuple[float, float]]:
    """Hints by the index of their point, (x, y) in px of the film, in the order given.

    Args:
        texts: one hint each; see the module's docstring.
        size: (height, width) of the film in px.
        schema: whose points they are.
    Raises:
        StageError: names every hint that has no such form, an unknown point, a point that another hint has
            already, no finite numbers, or a place outside the film.
    """
    indices = {_plain(name): i for i, name in enumerate(schema.names)}
    hints: dict[int, tuple[float, float]] = {}
    first: dict[int, str] = {}
    problems = []
    for text in texts:
        try:
            point, place = _parts(text)
            index = _index(point, indices)
            if index in first:
                raise _WrongHintError(f"point {schema.names[index]} has the hint {first[index]!r} already")
            first[index] = text
            hints[index] = _place(place, size)
        except _WrongHintError as error:
            problems.append(f"\n  {text!r}: {error}")
    if problems:
        raise StageError(
            f"{len(problems)} of {len(texts)} hints cannot be used; a hint is POINT=X,Y with an index from 0 to "
            f"{schema.n_points - 1} or a name such as {schema.names[0].replace(' ', '-')}, and px of the film:"
            + "".join(problems)
        )
    return hints


class _WrongHintError(Exception):
    """What is wrong with one hint."""


def _parts(text: str) -> tuple[str, str]:
    point, equals, place = text.partition("=")
    if not equals or not point.strip():
        raise _WrongHintError("expected POINT=X,Y")
    return point.strip(), place


def _index(point: str, indices: dict[str, int]) -> int:
    if point.isascii() and point.isdecimal():
        if int(point) < len(indices):
            return int(point)
        raise _WrongHintError(f"there is no point {point}, indices go from 0 to {len(indices) - 1}")
    if (index := indices.get(_plain(point))) is None:
        raise _WrongHintError(f"there is no point {point!r}")
    return index


def _place(place: str, size: Size) -> tuple[float, float]:
    numbers = [part.strip() for part in place.split(",")]
    if len(numbers) != 2:
        raise _WrongHintError(f"expected X,Y (decimals with a point), found {len(numbers)} numbers")
    if wrong := [number for number in numbers if not _NUMBER.fullmatch(number)]:
        raise _WrongHintError(f"not a number: {', '.join(map(repr, wrong))}")
    x, y = map(float, numbers)
    height, width = size
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):  # a pixel's centre has whole numbers
        raise _WrongHintError(f"outside the film of {width} x {height} px")
    return x, y


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()

"""Label files of lateral films: ISBI's text files and labelme's JSON, and what is wrong with the points."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from stages.ceph.raw.layout import Problem
from stages.ceph.schema import CEPH, DOWNWARD, FORWARD, INDEX, LABELME_NAMES

DOUBLED_TOLERANCE = 0.01
"""two points of one name count as one click repeated up to this distance, in diagonals of the labelled frame:
readers of one film differ by as much"""


def read_text_label(path: Path) -> np.ndarray | Problem:
    """The points (19, 2) float64 of an ISBI label file in px of the label frame, or what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return Problem("label_unreadable", f"{type(error).__name__}: not a text file that can be read")
    rows = [re.split(r"[,;\s]+", line.strip()) for line in text.splitlines() if line.strip()]
    count = next((i for i, cells in enumerate(rows) if len(cells) != 2), len(rows))
    if count < CEPH.n_points:
        return Problem("line_count", f"{count} lines x,y instead of {CEPH.n_points}")
    values = np.array([[_number(cell) for cell in cells] for cells in rows[: CEPH.n_points]])
    if not np.isfinite(values).all():
        wrong = [f"line {i + 1}: {','.join(rows[i])!r}" for i in np.flatnonzero(~np.isfinite(values).all(1))]
        return Problem("not_a_number", ", ".join(wrong))
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


@dataclass(frozen=True)
class Labelme:
    """What a labelme file holds.

    Attributes:
        points: (19, 2) float64 in px of the picture that was labelled, NaN where one is missing.
        frame: (width, height) of that picture, where the file says it.
        problems: what is odd about single points.
    """

    points: np.ndarray
    frame: tuple[float, float] | None
    problems: tuple[Problem, ...]


def read_labelme(path: Path) -> Labelme | Problem:
    """Read a labelme file, or say why it cannot be read.

    A point that is there twice counts as the first of the two where they lie close together, else as missing.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        shapes = [(str(shape["label"]).strip(), shape["points"][0]) for shape in content["shapes"]]
        clicked = [
            (LABELME_NAMES.get(label.lower(), label.lower()), (float(x), float(y)))
            for label, (x, y) in shapes
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return Problem("label_unreadable", f"not a labelme file ({type(error).__name__})")
    size = content.get("imageWidth"), content.get("imageHeight")
    known = all(isinstance(v, int | float) and v > 0 for v in size)
    frame = (float(size[0]), float(size[1])) if known else None
    spread = np.ptp([(0.0, 0.0), *(point for _, point in clicked)], axis=0)
    extent = float(np.hypot(*(frame or spread)))
    points = np.full((CEPH.n_points, 2), np.nan)
    found: list[Problem] = []
    if other := sum(name not in INDEX for name, _ in clicked):
        found.append(Problem("unknown_point", f"{other} with a name that is no landmark's; left out"))
    for i, name in enumerate(CEPH.names):
        own = [point for label, point in clicked if label == name]
        if len(own) > 1:
            apart = max(float(np.hypot(*np.subtract(point, own[0]))) for point in own)
            close = apart <= DOUBLED_TOLERANCE * extent
            done = "the first counts" if close else "none counts"
            found.append(Problem("doubled_point", f"{name} {len(own)} times, {apart:.0f} px apart; {done}"))
            own = own[: int(close)]
        elif not own:
            found.append(Problem("missing_point", name))
        if own and np.isfinite(own[0]).all():
            points[i] = own[0]
    return Labelme(points, frame, tuple(found))


def outside(points: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """(19,) bool, points (19, 2) in raw px that do not lie on a film of (width, height) px."""
    beyond: np.ndarray = (points < -0.5) | (points > np.array(size) - 0.5)
    return np.asarray(beyond.any(axis=1))  # (19,)


def outside_problem(points: np.ndarray, size: tuple[float, float]) -> Problem | None:
    """Points (19, 2) in raw px that do not lie on their film of (width, height) px."""
    wrong = np.flatnonzero(outside(points, size))
    named = [f"{CEPH.names[i]}=({points[i, 0]:g}, {points[i, 1]:g})" for i in wrong]
    said = f"{', '.join(named)} on a film of {size[0]:g} x {size[1]:g}"
    return Problem("out_of_range", said) if len(wrong) else None


def order_problem(points: np.ndarray) -> Problem | None:
    """Points (19, 2) in px that lie the wrong way round; NaN takes part in nothing.

    `faces_left` where sella, articulare and gonion lie before nasion, spine and chin, else `out_of_order`.
    """
    wrong = []
    for chains, axis, word in ((DOWNWARD, 1, "above"), (FORWARD, 0, "behind")):
        for first, second in (step for chain in chains for step in pairwise(chain)):
            if points[INDEX[second], axis] < points[INDEX[first], axis]:
                wrong.append(f"{second} lies {word} {first}")
    if not wrong:
        return None
    back, front = (np.nanmean(points[[INDEX[n] for n in names], 0]) for names in _SIDES)
    if back > front:
        return Problem("faces_left", "films face right here: mirror the film and its labels")
    return Problem("out_of_order", "; ".join(wrong))


_SIDES = (("sella", "articulare", "gonion"), ("nasion", "ans", "menton"))

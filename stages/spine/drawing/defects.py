"""The defects that real label files of this kind have, planted on purpose, each under the name of what it is.

Points are (17, 4, 2): vertebrae T1..L5, corners TL, TR, BL, BR.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Planter = Callable[[np.ndarray, np.random.Generator, tuple[int, int]], tuple[np.ndarray, str]]


def _rolled(points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    return np.roll(points, -1, axis=0), "first vertebra stored last"


def _duplicated(
    points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    doubled = points.copy()
    doubled[-1] = doubled[-2]
    return doubled, "L5 is a copy of L4"


def _corners_swapped(
    points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    vertebra, (a, b) = int(rng.integers(17)), [(0, 2), (1, 3)][int(rng.integers(2))]
    return _exchange(points, vertebra, a, b), f"points {4 * vertebra + a} and {4 * vertebra + b}"


def _upside_down(
    points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    vertebra = int(rng.integers(17))
    turned = _exchange(_exchange(points, vertebra, 0, 2), vertebra, 1, 3)
    return turned, f"vertebra {vertebra}: upper and lower endplate exchanged"


def _sides_swapped(
    points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    return points[:, [1, 0, 3, 2]], "left and right exchanged on all vertebrae"


def _outside(points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    vertebra, corner = int(rng.integers(17)), int(rng.integers(4))
    moved = points.copy()
    moved[vertebra, corner, 0] = size[1] + int(rng.integers(5, 200))
    return moved, f"point {4 * vertebra + corner} right of the film's edge"


def _endplate_skipped(
    points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """One endplate is missed: from there on lower and upper endplates trade places."""
    endplates = points.reshape(34, 2, 2)
    missed = int(rng.integers(6, 26))
    added = 2 * endplates[-1] - endplates[-2]
    kept = np.concatenate([np.delete(endplates, missed, axis=0), added[None]])
    return kept.reshape(17, 4, 2), f"endplate {missed} of 34 missed"


def _vertebra_skipped(
    points: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    missed = int(rng.integers(3, 14))
    added = points[-1] + 0.95 * (points[-1] - points[-2])
    return np.concatenate([np.delete(points, missed, axis=0), added[None]]), f"vertebra {missed} missed"


LABEL_DEFECTS: dict[str, Planter] = {
    "rolled": _rolled,
    "duplicated": _duplicated,
    "corners_swapped": _corners_swapped,
    "upside_down": _upside_down,
    "sides_swapped": _sides_swapped,
    "outside": _outside,
    "endplate_skipped": _endplate_skipped,
    "vertebra_skipped": _vertebra_skipped,
}
"""defects of the points: what to do to them, and what the truth table says"""
FILE_DEFECTS = ("label_missing", "label_shape", "film_truncated")
"""defects of the files themselves"""


def _exchange(points: np.ndarray, vertebra: int, a: int, b: int) -> np.ndarray:
    changed = points.copy()
    changed[vertebra, [a, b]] = points[vertebra, [b, a]]
    return changed

"""What can be wrong with one spine's label, judged by its geometry alone.

Labels here are `corners` (V, 4, 2): vertebrae top to bottom, corners TL, TR, BL, BR, raw px. Defects that
only confuse the order of points come with a `repair`: the permutation of the V vertebrae x 4 corners that
puts them right, `corners.reshape(-1, 2)[repair]`. A permutation loses nothing; its inverse undoes it exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TURNS: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "upside_down": ((2, 3, 0, 1),),
    "sides_swapped": ((1, 0, 3, 2),),
    "corners_swapped": ((2, 1, 0, 3), (0, 3, 2, 1), (1, 0, 2, 3), (0, 1, 3, 2), (3, 2, 1, 0)),
}
"""orders in which the four corners of a vertebra are stored by mistake; each undoes itself"""
POINT_REASONS = ("outside", "order", "duplicated", "degenerate", "overlap")
"""reasons that no other order of the points puts right"""
_JUMP = 5.0
"""a step between neighbouring vertebrae of this many usual steps means that the list was cut there"""


@dataclass(frozen=True)
class GeometryLimits:
    """When a label counts as wrong.

    Attributes:
        duplicate: distance of two vertebrae's centres, in the film's median distance.
        overlap: how far a vertebra reaches into the next one, in their mean height.
        area: smallest area of a vertebra, in the film's median area.
    """

    duplicate: float
    overlap: float
    area: float


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a label.

    Attributes:
        reason: a code for tables.
        vertebrae: numbers of the vertebrae that it concerns, as they stand after earlier findings' repairs.
        detail: what was measured.
        repair: (4 V,) permutation that puts it right, or None where points are wrong, not just their order.
    """

    reason: str
    vertebrae: tuple[int, ...]
    detail: str
    repair: np.ndarray | None = None


def check_geometry(
    corners: np.ndarray, size: tuple[int, int], limits: GeometryLimits
) -> tuple[list[Finding], np.ndarray]:
    """All findings about one label, and the label after all their repairs.

    Args:
        corners: (V, 4, 2) raw px, finite.
        size: (width, height) of the film in raw px.
        limits: when to object.
    Returns:
        Findings in the order in which they were made (each on the label as repaired so far), and corners
        (V, 4, 2) with every repair applied.
    """
    findings: list[Finding] = []
    for find in (_rolled, _turned):
        for finding in find(corners):
            assert finding.repair is not None
            findings.append(finding)
            corners = apply_repair(corners, finding.repair)
    judgements: tuple[Callable[[], list[Finding]], ...] = (
        lambda: _outside(corners, size),
        lambda: _disordered(corners, limits.duplicate),
        lambda: _duplicated(corners, limits.duplicate),
        lambda: _degenerate(corners, limits.area),
        lambda: _overlapping(corners, limits),
    )
    findings += [finding for judge in judgements for finding in judge()]
    if findings and (_rolled(corners) or _turned(corners)):
        findings.append(Finding("order", (), "the order of points is wrong even after its repair"))
    return findings, corners


def apply_repair(corners: np.ndarray, repair: np.ndarray) -> np.ndarray:
    """Corners (V, 4, 2) in the order that `repair` gives."""
    return corners.reshape(-1, 2)[repair].reshape(corners.shape)


def heights(corners: np.ndarray) -> np.ndarray:
    """(..., V, 4, 2) -> (..., V) distance between the middles of upper and lower endplate."""
    return np.linalg.norm(corners[..., 2:, :].mean(-2) - corners[..., :2, :].mean(-2), axis=-1)


def widths(corners: np.ndarray) -> np.ndarray:
    """(..., V, 4, 2) -> (..., V) mean length of upper and lower endplate."""
    return np.linalg.norm(corners[..., (1, 3), :] - corners[..., (0, 2), :], axis=-1).mean(-1)


def spacings(corners: np.ndarray) -> np.ndarray:
    """(..., V, 4, 2) -> (..., V - 1) distance between the centres of neighbours."""
    return np.linalg.norm(np.diff(corners.mean(-2), axis=-2), axis=-1)


def disc_gaps(corners: np.ndarray) -> np.ndarray:
    """(..., V, 4, 2) -> (..., V - 1, 2) room between neighbours on the left and right, along the spine.

    Negative where a vertebra reaches into the next one.
    """
    axis = np.diff(corners.mean(-2), axis=-2)
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    axis = np.divide(axis, length, out=np.zeros_like(axis), where=length > 0)
    between = corners[..., 1:, :2, :] - corners[..., :-1, 2:, :]
    return np.einsum("...vsk,...vk->...vs", between, axis)


def _rolled(corners: np.ndarray) -> list[Finding]:
    """The list of vertebrae was cut in two and the parts exchanged: one long jump, and the ends are near."""
    count = len(corners)
    steps = spacings(corners)
    usual = np.median(steps)
    centres = corners.mean(1)
    jumps = np.flatnonzero(steps > _JUMP * usual)
    if len(jumps) != 1 or np.linalg.norm(centres[0] - centres[-1]) > _JUMP / 2 * usual:
        return []
    turn = count - 1 - int(jumps[0])  # so many vertebrae at the end belong to the front
    order = np.roll(np.arange(count), turn)
    if centres[order[0], 1] > centres[order[-1], 1]:
        return []
    repair = (4 * order[:, None] + np.arange(4)).reshape(-1)
    detail = f"the first {turn} stored last; step of {steps[jumps[0]] / usual:.1f} usual steps"
    return [Finding("rolled", tuple(range(count)), detail, repair)]


def _turned(corners: np.ndarray) -> list[Finding]:
    """Vertebrae whose four corners stand in another order; one finding a reason."""
    down = _down(corners)
    found: dict[str, list[tuple[int, tuple[int, int, int, int]]]] = {}
    for v in _numbers(~_is_proper(corners, down)):
        options = [(reason, order) for reason, orders in TURNS.items() for order in orders]
        turned = corners[v][np.array([order for _, order in options])]  # (options, 4, 2)
        fits = np.flatnonzero(_is_proper(turned, np.broadcast_to(down[v], (len(options), 2))))
        if len(fits):
            reason, order = options[int(fits[0])]
            found.setdefault(reason, []).append((v, order))
    findings = []
    for reason, cases in found.items():
        repair = np.arange(4 * len(corners)).reshape(-1, 4)
        for v, order in cases:
            repair[v] = repair[v, list(order)]
        detail = "; ".join(f"vertebra {v} stored as {'-'.join(map(str, order))}" for v, order in cases)
        findings.append(Finding(reason, tuple(v for v, _ in cases), detail, repair.reshape(-1)))
    return findings


def _down(corners: np.ndarray) -> np.ndarray:
    """(V, 2) direction of the spine at each vertebra, downwards, from the centres of its neighbours."""
    centres = corners.mean(1)
    number = np.arange(len(centres))
    axis = centres[np.minimum(number + 2, len(centres) - 1)] - centres[np.maximum(number - 2, 0)]
    length = np.linalg.norm(axis, axis=1, keepdims=True)
    return np.where(length > 0, axis / np.maximum(length, 1e-9), [0.0, 1.0])


def _is_proper(quads: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(n, 4, 2), (n, 2) -> (n,): convex, and TL, TR, BL, BR lie where their names say along the spine."""
    right = np.stack([down[:, 1], -down[:, 0]], 1)
    downwards = quads[:, 2] + quads[:, 3] - quads[:, 0] - quads[:, 1]
    rightwards = quads[:, 1] + quads[:, 3] - quads[:, 0] - quads[:, 2]
    is_named_right = ((downwards * down).sum(1) > 0) & ((rightwards * right).sum(1) > 0)
    return is_named_right & _is_convex(quads)


def _is_convex(quads: np.ndarray) -> np.ndarray:
    """(n, 4, 2) -> (n,): TL, TR, BR, BL go round a convex area, clockwise on the screen."""
    edges = quads[:, [1, 3, 2, 0]] - quads[:, [0, 1, 3, 2]]
    return np.all(_cross(edges, edges[:, [1, 2, 3, 0]]) > 0, axis=1)


def _outside(corners: np.ndarray, size: tuple[int, int]) -> list[Finding]:
    off = np.any((corners < 0) | (corners > np.array(size)), axis=-1)
    if not off.any():
        return []
    points = ", ".join(f"({x:g}, {y:g})" for x, y in corners[off])
    return [
        Finding("outside", _numbers(np.any(off, axis=1)), f"{points} on a film of {size[0]} x {size[1]} px")
    ]


def _disordered(corners: np.ndarray, duplicate: float) -> list[Finding]:
    """Vertebrae that do not lie below the one before; those on the same place are `duplicated` instead."""
    steps = spacings(corners)
    rises = (np.diff(corners.mean(1)[:, 1]) <= 0) & (steps >= duplicate * np.median(steps))
    if not rises.any():
        return []
    upper = _numbers(rises)
    return [Finding("order", upper, f"the vertebra after {_listed(upper)} is not below it")]


def _duplicated(corners: np.ndarray, limit: float) -> list[Finding]:
    steps = spacings(corners)
    near = _numbers(steps < limit * np.median(steps))
    if not near:
        return []
    return [Finding("duplicated", near, f"the vertebra after {_listed(near)} lies on the same place")]


def _degenerate(corners: np.ndarray, limit: float) -> list[Finding]:
    a, b, c, d = (corners[:, i] for i in (0, 1, 3, 2))
    area = 0.5 * np.abs(_cross(c - a, d - b))
    bad = _numbers((area < limit * np.median(area)) | ~_is_convex(corners))
    if not bad:
        return []
    return [Finding("degenerate", bad, f"vertebra {_listed(bad)}: corners span no convex area")]


def _overlapping(corners: np.ndarray, limits: GeometryLimits) -> list[Finding]:
    tall = heights(corners)
    depth = -disc_gaps(corners).min(-1) / ((tall[1:] + tall[:-1]) / 2)
    steps = spacings(corners)
    into = (depth > limits.overlap) & (steps >= limits.duplicate * np.median(steps))
    if not into.any():
        return []
    detail = f"vertebra {_listed(_numbers(into))} reaches {depth[into].max():.2f} heights into the next"
    return [Finding("overlap", _numbers(into), detail)]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _numbers(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(v) for v in np.flatnonzero(mask))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))

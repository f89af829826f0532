"""Bones of the phantom as X-rays show them: bright rims, paler insides, and everything adds up.

The functions add to a float32 canvas of attenuation; points are canvas pixels. Shapes are drawn
anti-aliased on 8-bit layers that are then added with a weight, as superposition on a film does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.core.data import geometry

_SHIFT = 4
_WIDTH, _HEIGHT = 120, 80
"""size of a vertebral body in its template, px"""
_SIDE, _ABOVE, _BELOW = 0.5, 0.45, 1.0
"""margins of the template around the body, in body widths and heights"""
_CRISP, _SOFT, _DEEP = 0.9, 2.0, 9.0
"""blurs of a template's layers, px"""


@dataclass(frozen=True)
class VertebraLook:
    """How one vertebra is built.

    Attributes:
        level: 0 at T1, 1 at L5; below 0 in the neck. Pedicles grow with it, the arch shows.
        rotation: -1..1, moves pedicles and spinous process sideways.
        transverse: reach of the transverse processes beyond the body, in body widths.
        rim: how bright the rims are, about 1.
    """

    level: float
    rotation: float
    transverse: float
    rim: float


def add_lines(canvas: np.ndarray, lines: list[np.ndarray], thickness: float, weight: float) -> None:
    """Add polylines (P, 2) of `thickness` px as one layer: where they cross they do not add up."""
    layer = np.zeros(canvas.shape, np.uint8)
    width = max(1, round(thickness))
    cv2.polylines(layer, [_fixed(p) for p in lines], False, 255, width, cv2.LINE_AA, _SHIFT)
    canvas += layer * np.float32(weight / 255)


def add_tubes(canvas: np.ndarray, lines: list[np.ndarray], thickness: float, weight: float) -> None:
    """Add bones that are hollow: a rim along both edges and a paler inside."""
    outer, inner = np.zeros(canvas.shape, np.uint8), np.zeros(canvas.shape, np.uint8)
    fixed = [_fixed(p) for p in lines]
    rim = max(1, round(thickness * 0.13))
    cv2.polylines(outer, fixed, False, 255, max(3, round(thickness)), cv2.LINE_AA, _SHIFT)
    cv2.polylines(inner, fixed, False, 150, max(1, round(thickness) - 2 * rim), cv2.LINE_AA, _SHIFT)
    layer = cv2.GaussianBlur(np.subtract(outer, inner), (0, 0), max(0.6, thickness * 0.06))
    canvas += layer * np.float32(weight / 255)


def add_vertebra(canvas: np.ndarray, corners: np.ndarray, look: VertebraLook, weight: float) -> None:
    """Add one vertebra whose body has the `corners` (4, 2) TL, TR, BL, BR."""
    left, top = _SIDE * _WIDTH, _ABOVE * _HEIGHT
    body = [[left, top], [left + _WIDTH, top], [left, top + _HEIGHT], [left + _WIDTH, top + _HEIGHT]]
    drawn = _vertebra_template(look)
    shrink = min(1.0, 1.4 * float(np.linalg.norm(corners[1] - corners[0])) / _WIDTH)
    height, width = (max(8, round(n * shrink)) for n in drawn.shape)
    template = geometry.resize(drawn, (height, width))  # smaller, so that the warp below does not skip pixels
    source = geometry.apply(geometry.resize_matrix(drawn.shape, (height, width)), np.array(body)).astype(
        np.float32
    )
    reach = cv2.perspectiveTransform(
        np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32),
        cv2.getPerspectiveTransform(source, corners.astype(np.float32)),
    )[0]
    low = np.maximum(np.floor(reach.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(reach.max(0)).astype(int) + 1, canvas.shape[::-1])
    if (high <= low).any():
        return
    warp = cv2.getPerspectiveTransform(source, (corners - low).astype(np.float32))
    patch = cv2.warpPerspective(template, warp, tuple(int(n) for n in high - low), flags=cv2.INTER_LINEAR)
    canvas[low[1] : high[1], low[0] : high[0]] += patch * np.float32(weight)


def add_band(canvas: np.ndarray, corners: np.ndarray, weight: float) -> None:
    """Add what runs down the whole column (V, 4, 2): discs, ligaments, and the arches behind them."""
    layer = np.zeros(canvas.shape, np.uint8)
    left, right = (corners[:, side::2].reshape(-1, 2) for side in (0, 1))
    middle = (left + right) / 2
    outline = np.concatenate([middle + 0.94 * (left - middle), (middle + 0.94 * (right - middle))[::-1]])
    cv2.fillPoly(layer, [_fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
    softness = 0.03 * float(np.linalg.norm(corners[-1, 1] - corners[-1, 0]))
    canvas += cv2.GaussianBlur(layer, (0, 0), softness) * np.float32(weight / 255)


def add_area(
    canvas: np.ndarray, outline: np.ndarray, weight: float, rim: float, rim_weight: float, blur: float
) -> None:
    """Add a flat bone: a filled polygon (P, 2) with a rim of `rim` px."""
    layer, edge = np.zeros(canvas.shape, np.uint8), np.zeros(canvas.shape, np.uint8)
    cv2.fillPoly(layer, [_fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
    cv2.polylines(edge, [_fixed(outline)], True, 255, max(1, round(rim)), cv2.LINE_AA, _SHIFT)
    edge = np.minimum(edge, layer)
    canvas += cv2.GaussianBlur(layer, (0, 0), max(0.6, blur)) * np.float32(weight / 255)
    canvas += cv2.GaussianBlur(edge, (0, 0), max(0.6, blur / 2)) * np.float32(rim_weight / 255)


def add_blob(
    canvas: np.ndarray, centre: np.ndarray, radii: tuple[float, float], weight: float, blur: float
) -> None:
    """Add (or with a negative weight take away) a soft ellipse."""
    layer = np.zeros(canvas.shape, np.uint8)
    where, axes = (tuple(int(v) for v in _fixed(np.array(p))) for p in (centre, radii))
    cv2.ellipse(layer, where, axes, 0, 0, 360, 255, -1, cv2.LINE_AA, _SHIFT)
    canvas += cv2.GaussianBlur(layer, (0, 0), max(0.6, blur)) * np.float32(weight / 255)


class _Sheet:
    """A vertebra in its own frame: x -0.5..0.5 across the body, y 0..1 down it, a margin around.

    Shapes are gathered on three layers by how soft they are, so that each is blurred only once.
    """

    def __init__(self) -> None:
        shape = (round((1 + _ABOVE + _BELOW) * _HEIGHT), round((1 + 2 * _SIDE) * _WIDTH))
        self._layers = {blur: np.zeros(shape, np.float32) for blur in (_CRISP, _SOFT, _DEEP)}

    def fill(self, points: np.ndarray, weight: float, blur: float) -> None:
        """Add a polygon (P, 2)."""
        layer = np.zeros(self._layers[blur].shape, np.uint8)
        cv2.fillPoly(layer, [_fixed(self._pixels(points))], 255, cv2.LINE_AA, _SHIFT)
        cv2.scaleAdd(layer.astype(np.float32), weight / 255, self._layers[blur], self._layers[blur])

    def stroke(self, lines: list[np.ndarray], thickness: int, weight: float) -> None:
        """Add polylines (P, 2), `thickness` template px wide."""
        layer = np.zeros(self._layers[_CRISP].shape, np.uint8)
        fixed = [_fixed(self._pixels(p)) for p in lines]
        cv2.polylines(layer, fixed, False, 255, thickness, cv2.LINE_AA, _SHIFT)
        cv2.scaleAdd(layer.astype(np.float32), weight / 255, self._layers[_CRISP], self._layers[_CRISP])

    def ring(self, centre: list[float], radii: tuple[float, float], inside: float, rim: float) -> None:
        """Add an ellipse with a bright rim: a bone seen along its axis."""
        angle = np.linspace(0, 2 * np.pi, 25)
        outline = np.array(centre) + np.stack([np.cos(angle), np.sin(angle)], 1) * radii
        self.fill(outline, inside, _CRISP)
        self.stroke([outline], 3, rim)

    def flatten(self) -> np.ndarray:
        """(h, w) float32 sum of the layers, about 0..1."""
        blurred = [cv2.GaussianBlur(layer, (0, 0), blur) for blur, layer in self._layers.items()]
        return np.asarray(np.sum(blurred, axis=0))

    @staticmethod
    def _pixels(points: np.ndarray) -> np.ndarray:
        return (np.asarray(points) + np.array([0.5 + _SIDE, _ABOVE])) * [_WIDTH, _HEIGHT]


def _vertebra_template(look: VertebraLook) -> np.ndarray:
    """Attenuation of one vertebra in its own frame, float32, about 0..1."""
    sheet = _Sheet()
    t = float(np.clip(look.level, 0, 1))
    shift, rim = 0.16 * look.rotation, look.rim

    y = np.linspace(0, 1, 13)
    waist = (0.035 + 0.025 * t) * np.sin(np.pi * y)
    left, right = np.stack([-0.5 + waist, y], 1), np.stack([0.5 - waist, y], 1)
    body = np.concatenate([left, right[::-1]])
    sheet.fill(body, 0.26, _SOFT)
    sheet.fill(body * [0.86, 1], 0.10, _DEEP)  # a body is thickest in its middle
    sheet.stroke([left, right], 3, 0.3 * rim)
    x = np.linspace(-0.5, 0.5, 13)
    dip = 0.035 * np.sin(np.pi * (x + 0.5))  # the two rims of an endplate that the beam does not graze
    sheet.stroke([np.stack([x, dip], 1), np.stack([x, 1 - dip], 1)], 4, 0.42 * rim)
    sheet.stroke([np.stack([x, -dip * 0.6], 1), np.stack([x, 1 + dip * 0.6], 1)], 2, 0.22 * rim)

    tip = 0.5 + look.transverse
    lift = 0.16 - 0.08 * t
    for side in (-1, 1):
        process = np.array([[0.34, 0.2], [tip, lift - 0.02], [tip + 0.02, lift + 0.16], [0.36, 0.5]]) * [
            side,
            1,
        ]
        process[:, 0] += shift * 0.5
        sheet.fill(process, 0.13, _SOFT)
        sheet.stroke([process], 2, 0.10 * rim)
        sheet.ring(
            [side * 0.2 + shift * 0.9, 1.14 + 0.06 * t], (0.10, 0.2), 0.12 + 0.04 * t, 0.10
        )  # facet joint
        pedicle = [side * (0.31 - 0.02 * t) + shift, 0.36]
        sheet.ring(pedicle, (0.062 + 0.008 * t, 0.19 + 0.03 * t), 0.05, 0.34 * rim)

    lamina = np.array([[-0.27, 0.55], [0, 0.72], [0.27, 0.55], [0.2, 1.1], [0, 1.0], [-0.2, 1.1]])
    lamina[:, 0] += shift * 1.2
    sheet.fill(lamina, 0.10 + 0.05 * t, _SOFT)
    sheet.stroke([lamina[3:6]], 3, 0.12 * rim)
    spinous = [shift * 1.9, 1.13 - 0.3 * t]
    sheet.ring(spinous, (0.03 + 0.012 * t, 0.24 + 0.04 * t), 0.12, 0.24 * rim)
    return sheet.flatten()


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points in the fixed-point form of OpenCV's drawing functions."""
    return np.round(np.asarray(points) * (1 << _SHIFT)).astype(np.int32)

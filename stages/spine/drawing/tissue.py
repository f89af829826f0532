"""Soft tissue and air of the phantom: everything without sharp edges, drawn at half the canvas size.

Shapes are functions of body coordinates: u across (0 on the trunk's axis, positive to the image's right)
and v down (0 at the centre of T1, 1 at the centre of L5), both in spine units.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_COARSE = 2


@dataclass(frozen=True)
class Body:
    """The trunk on the canvas.

    Attributes:
        u, v: body coordinates of the coarse pixels, (h, w) float32.
        spine_u: (h, 1) where the spine runs, in u.
        centre, top: canvas pixel of u = 0 at T1, and of v = 0.
        scale: canvas pixels in a spine unit.
        size: (height, width) of the canvas.
    """

    u: np.ndarray
    v: np.ndarray
    spine_u: np.ndarray
    centre: float
    top: float
    scale: float
    size: tuple[int, int]
    _axis: np.ndarray

    @classmethod
    def around(cls, rng: np.random.Generator, line: np.ndarray, scale: float, size: tuple[int, int]) -> Body:
        """The trunk around a spine's centre line (P, 2) in canvas pixels; it follows a curve only in part."""
        height, width = size
        rows = np.arange(height, dtype=np.float64)
        spine_x = np.interp(rows, line[:, 1], line[:, 0])
        middle = line[len(line) // 4 : -len(line) // 4]  # from T1 to L5
        straight = np.polyval(np.polyfit(middle[:, 1], middle[:, 0], 1), rows)
        axis = straight + rng.uniform(0.1, 0.3) * (spine_x - straight)
        top = float(middle[0, 1])
        coarse_rows = rows[_COARSE // 2 :: _COARSE][:, None]
        columns = np.arange(_COARSE // 2, width, _COARSE)[None, :]
        axis_here = axis[_COARSE // 2 :: _COARSE][:, None]
        u = (columns - axis_here) / scale
        v = np.broadcast_to((coarse_rows - top) / scale, u.shape)
        spine_u = (spine_x[_COARSE // 2 :: _COARSE][:, None] - axis_here) / scale
        return cls(
            u.astype(np.float32), v.astype(np.float32), spine_u.astype(np.float32),
            float(axis[int(np.clip(top, 0, height - 1))]), top, scale, size, axis,
        )  # fmt: skip

    def axis_at(self, y: float) -> float:
        """Canvas x of the trunk's axis in the row y."""
        return float(self._axis[int(np.clip(y, 0, self.size[0] - 1))])


def soft_tissue(rng: np.random.Generator, body: Body) -> np.ndarray:
    """Attenuation of skin, muscle, lungs, heart, great vessels and belly on the canvas, float32."""
    u, v = body.u, body.v
    across = np.abs(u)
    half = 0.37 - 0.03 * _step(v - 0.62, 0.08) + 0.05 * _step(v - 0.95, 0.05) + 0.12 * _step(0.1 - v, 0.05)
    thickness = np.sqrt(np.clip(1 - (u / half) ** 2, 0, 1)) + 0.25 * _step(half - across, 0.006)
    shoulder = np.maximum(across - 0.105, 0) * rng.uniform(0.3, 0.55) - rng.uniform(0.10, 0.16)
    neck = _step(0.115 - across + np.maximum(v + 0.10, 0) * 3, 0.008)
    inside = np.maximum(_step(v - shoulder, 0.008), neck)
    total = inside * (0.42 + 0.62 * thickness) * rng.uniform(0.9, 1.1)
    total *= 1 + 0.30 * _step(0.03 - v, 0.03) * _step(across - 0.12, 0.03)  # shoulders are thick

    dome_right, dome_left = rng.normal(0.46, 0.03), rng.normal(0.49, 0.03)
    lungs = _lung(body, -1, dome_right) + _lung(body, 1, dome_left)
    total -= lungs * rng.uniform(0.62, 0.78) * (0.55 + 0.45 * thickness)
    total += lungs * _vessels(rng, body) * rng.uniform(0.5, 1.0)

    belly = _step(v - 0.5, 0.05) * thickness
    total += belly * rng.uniform(0.15, 0.45)
    total += _heart(rng, body, min(dome_left, dome_right)) * inside
    total += _mediastinum(rng, body)
    psoas = np.exp(-(((across - 0.07 - 0.10 * (v - 0.65)) / 0.035) ** 2)) * _step(v - 0.66, 0.04)
    total += 0.06 * psoas
    return cv2.resize(total.astype(np.float32), body.size[::-1], interpolation=cv2.INTER_CUBIC)


def _lung(body: Body, side: int, dome: float) -> np.ndarray:
    """One lung, 0..1: rib cage outside, mediastinum inside, a rounded apex and the diaphragm's dome."""
    u, v = body.u * side, body.v
    depth = np.clip((v + 0.03) / 0.34, 0, 1)
    outer = 0.31 * (1 - (1 - depth) ** 2.4) ** 0.62
    inner = 0.050 + 0.035 * np.exp(-(((v + 0.01) / 0.06) ** 2)) + np.maximum(side * body.spine_u, 0) * 0.9
    floor = dome + 2.2 * np.maximum(u - 0.15, 0) ** 2 + 1.2 * np.maximum(0.13 - u, 0) ** 2
    return _step(outer - u, 0.010) * _step(u - inner, 0.007) * _step(floor - v, 0.006)


def _heart(rng: np.random.Generator, body: Body, floor: float) -> np.ndarray:
    """The heart's shadow, two thirds of it on the image's right, and the aortic knob above it."""
    size, turn = rng.uniform(0.9, 1.12), rng.uniform(0.35, 0.6)
    du, dv = body.u - 0.075 * size, body.v - (floor - 0.085)
    along, beside = du * np.cos(turn) + dv * np.sin(turn), -du * np.sin(turn) + dv * np.cos(turn)
    distance = np.sqrt((along / (0.155 * size)) ** 2 + (beside / (0.108 * size)) ** 2)
    muscle = np.sqrt(np.clip(1 - distance**2, 0, 1))
    shadow = (0.34 * muscle + 0.24 * _step(1 - distance, 0.03)) * _step(floor + 0.05 - body.v, 0.03)
    knob = np.hypot((body.u - 0.055) / 0.035, (body.v - 0.175) / 0.045)
    return shadow * rng.uniform(0.75, 1.15) + 0.20 * _step(1 - knob, 0.06)


def _mediastinum(rng: np.random.Generator, body: Body) -> np.ndarray:
    """The soft tissue before the spine, the descending aorta's edge and the dark windpipe."""
    u, v = body.u - 0.6 * body.spine_u, body.v
    chest = _step(0.56 - v, 0.05) * _step(v + 0.08, 0.04)
    band = 0.26 * np.exp(-((u / 0.06) ** 2)) * chest
    aorta = 0.13 * _step(0.048 - np.abs(u - 0.018), 0.006) * _step(v - 0.19, 0.02) * _step(0.62 - v, 0.05)
    width = rng.uniform(0.016, 0.022)
    off = rng.normal(-0.012, 0.008)
    windpipe = -rng.uniform(0.14, 0.26) * _step(width - np.abs(u - off), 0.004) * _step(0.155 - v, 0.02)
    return (band + aorta + windpipe) * rng.uniform(0.8, 1.15)


def _vessels(rng: np.random.Generator, body: Body) -> np.ndarray:
    """Lung markings that branch from both roots of the lungs, about 0..0.4."""
    layer = np.zeros(body.u.shape, np.uint8)
    s, x0, y0 = body.scale / _COARSE, body.centre / _COARSE, body.top / _COARSE
    for side in (-1, 1):
        for _ in range(26):
            x, y = x0 + side * s * rng.uniform(0.07, 0.12), y0 + s * rng.uniform(0.2, 0.3)
            heading = rng.uniform(-1.2, 1.3)
            for step in range(10):
                length = s * rng.uniform(0.012, 0.022)
                nx, ny = x + side * length * np.cos(heading), y + length * np.sin(heading)
                tone, width = int(200 * (1 - step / 11)), 2 if step < 3 else 1
                start, end = (round(x), round(y)), (round(nx), round(ny))
                cv2.line(layer, start, end, tone, width, cv2.LINE_AA)
                x, y, heading = nx, ny, heading + rng.normal(0, 0.35)
    haze = clouds(rng, body.u.shape, s * 0.02) * 0.05
    return cv2.GaussianBlur(layer, (0, 0), 0.8).astype(np.float32) / 255 * 0.30 + np.maximum(haze, 0)


def add_gas(rng: np.random.Generator, canvas: np.ndarray, body: Body) -> None:
    """Dark gas: the stomach's bubble under the left dome and loops of bowel low in the belly."""
    small = np.zeros(body.u.shape, np.float32)

    def bubble(u: float, v: float, ru: float, rv: float, depth: float) -> None:
        distance = np.hypot((body.u - u) / ru, (body.v - v) / rv)
        np.maximum(small, depth * _step(1 - distance, 0.08), out=small)

    if rng.random() < 0.7:
        u, v = rng.uniform(0.10, 0.16), rng.uniform(0.53, 0.58)
        bubble(u, v, 0.06, rng.uniform(0.03, 0.05), rng.uniform(0.15, 0.5))
    for side, chance in ((-1, 0.75), (1, 0.55)):
        if rng.random() < chance:
            u, v = side * rng.uniform(0.12, 0.24), rng.uniform(0.72, 1.0)
            for _ in range(int(rng.integers(3, 9))):
                bubble(u, v, rng.uniform(0.012, 0.04), rng.uniform(0.012, 0.03), rng.uniform(0.12, 0.4))
                u, v = u + rng.normal(0, 0.03), v + rng.normal(0.015, 0.025)
    canvas -= cv2.resize(small, body.size[::-1], interpolation=cv2.INTER_LINEAR)


def clouds(rng: np.random.Generator, shape: tuple[int, int], size: float) -> np.ndarray:
    """Smooth noise of about unit variance whose blobs are `size` px wide."""
    grid = (max(2, round(shape[0] / size) + 2), max(2, round(shape[1] / size) + 2))
    return cv2.resize(rng.standard_normal(grid, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)


def _step(value: np.ndarray, softness: float) -> np.ndarray:
    """0 where `value` is well below 0, 1 well above, smooth over about `softness`."""
    return 0.5 * (1 + np.tanh(value / softness))

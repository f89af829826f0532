"""Pictures of made-up frontal chest films: the outer lung contour runs through the given landmarks.

A film is drawn in coordinates of the chest: t runs down the axis from 0 (L1) to 1 (L2), s is the distance to
the right of the axis in cells of the 64 x 64 label grid, and r = |s| / (half width of the lung at t), so the
contour is r = 1. What a picture holds is a sum of densities: soft tissue, air, bone, disease.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.chest.raw.structure import GRID_CELLS
from stages.chest.schema import LEVELS

Plane = np.ndarray
"""float32 (H, W), a value a pixel"""


@dataclass(frozen=True)
class Chest:
    """One shape in grid units: axis top (2,), unit vector down (2,), length, offsets (5,) left and right."""

    top: np.ndarray
    down: np.ndarray
    length: float
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Coordinates:
    """Chest coordinates of every pixel (H, W); `across` is |s|, `top_width` the half widths at t = 0."""

    t: Plane
    s: Plane
    across: Plane
    half_width: Plane
    r: Plane
    on_right: NDArray[np.bool_]
    length: float
    top_width: tuple[float, float]


def draw_film(chest: Chest, kind: str, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The film (size, size) uint8 of one chest; `kind` is COVID, Normal or Viral_Pneumonia."""
    c = chest_coordinates(chest, size)
    body = body_mask(c, rng)
    air = lung_mask(c, rng)
    density = body * (0.60 + 0.10 * ramp(c.t, 0.85, 1.15))
    density += mediastinum(c, rng) * body
    density -= rng.uniform(0.40, 0.52) * air * aeration(c, kind, rng)
    density += lung_markings(c, kind, rng) * air
    density += bones(c, kind, rng) * body
    density += disease(c, kind, rng) * air
    return expose(density, c, rng)


def chest_coordinates(chest: Chest, size: int) -> Coordinates:
    """Chest coordinates of the pixels of a size x size film."""
    cells = np.arange(size, dtype=np.float32) * np.float32(GRID_CELLS / size)
    x, y = cells[None, :] - np.float32(chest.top[0]), cells[:, None] - np.float32(chest.top[1])
    down_x, down_y = (np.float32(v) for v in chest.down)
    t = (x * down_x + y * down_y) / np.float32(chest.length)
    s = x * down_y - y * down_x
    on_right = s > 0
    half_width = np.where(on_right, contour(chest.right, t), contour(chest.left, t))
    across = np.abs(s)
    return Coordinates(
        t,
        s,
        across,
        half_width,
        across / half_width,
        on_right,
        float(chest.length),
        (chest.left[0], chest.right[0]),
    )


def contour(offsets: np.ndarray, t: Plane) -> Plane:
    """Half width of the lung at t: monotone through the five labelled offsets, blunt at the apex.

    Interpolating over sqrt(t) gives the outline a level tangent at the apex; above it and below the
    costophrenic angle the chest wall goes on in a straight line.
    """
    from scipy.interpolate import PchipInterpolator

    knots = np.linspace(0.0, 1.0, 65)
    inside = PchipInterpolator(np.sqrt(LEVELS), offsets)(knots).astype(np.float32)
    position = np.sqrt(np.clip(t, 0, 1)) * np.float32(64)
    low = np.minimum(position.astype(np.int32), 63)
    fraction = position - low
    half_width = inside[low] * (1 - fraction) + inside[low + 1] * fraction
    slope = np.float32((offsets[4] - offsets[3]) / (LEVELS[4] - LEVELS[3]))
    half_width += np.maximum(t - 1, 0) * max(slope, np.float32(0))
    return np.maximum(half_width, np.float32(1.0))


def ramp(x: Plane, low: float | Plane, high: float | Plane) -> Plane:
    """0 below `low`, 1 above `high`, smooth between."""
    u = ((x - low) / (high - low)).astype(np.float32, copy=False)
    np.clip(u, 0, 1, out=u)
    return u * u * (3 - 2 * u)


def bump(x: Plane, centre: float | Plane, width: float) -> Plane:
    """Bell curve of height 1."""
    return np.exp(-(((x - centre) / np.float32(width)) ** 2)).astype(np.float32)


def body_mask(c: Coordinates, rng: np.random.Generator) -> Plane:
    """1 inside the body: chest wall, shoulders and neck; arms at the sides of some patients."""
    wall = rng.uniform(3.0, 7.0)
    shoulder = 26.0 * ramp(-c.t, -rng.uniform(0.22, 0.34), 0.02)
    outline = c.half_width + wall + shoulder
    depth = outline - c.across
    inside = ramp(depth, -0.4, 0.8) * (0.78 + 0.22 * ramp(depth, 0.0, 12.0))
    neck = rng.uniform(7.5, 10.0)
    shoulder_line = -rng.uniform(0.26, 0.36) + 0.011 * np.maximum(c.across - neck, 0) * rng.uniform(0.7, 1.3)
    inside *= np.maximum(ramp(c.t - shoulder_line, -0.03, 0.03), ramp(neck - c.across, -0.4, 0.8))
    if rng.random() < 0.4:
        gap = rng.uniform(0.5, 2.0)
        arm = ramp(c.across, outline + gap, outline + gap + 1.5) * ramp(c.t, 0.0, 0.15)
        inside = np.maximum(inside, rng.uniform(0.45, 0.75) * arm)
    return inside


def lung_mask(c: Coordinates, rng: np.random.Generator) -> Plane:
    """1 where there is air: between contour and mediastinum, below the apex, above the diaphragm."""
    top_width = np.where(c.on_right, c.top_width[1], c.top_width[0]).astype(np.float32)
    apex = 0.13 * np.clip(1 - c.across / top_width, 0, 1) ** 2
    inner = inner_border(c, rng)
    lowest = np.minimum(c.half_width - c.across, 0.55 * (c.across - inner))
    lowest = np.minimum(lowest, (c.t - apex) * np.float32(c.length))
    lowest = np.minimum(lowest, (diaphragm(c, rng) - c.t) * np.float32(c.length))
    return ramp(lowest, -0.35, 0.55)


def inner_border(c: Coordinates, rng: np.random.Generator) -> Plane:
    """Distance of each lung's inner border from the axis: vessels, aortic knob, atrium, ventricle."""
    width = c.half_width
    base = np.float32(rng.uniform(3.2, 4.6)) + 0.5 * ramp(c.t, 0.1, 0.5)
    right = base + rng.uniform(0.8, 2.4) * bump(c.t, rng.uniform(0.26, 0.32), 0.07)
    heart = rng.uniform(0.36, 0.56) * width - base
    right = right + heart * ramp(c.t, 0.38, rng.uniform(0.80, 0.95))
    left = base + rng.uniform(0.02, 0.14) * width * bump(c.t, 0.72, 0.20)
    return np.where(c.on_right, right, left).astype(np.float32)


def diaphragm(c: Coordinates, rng: np.random.Generator) -> Plane:
    """t of the diaphragm: a dome on each side that falls to the costophrenic angle at (r = 1, t = 1)."""
    height = np.where(c.on_right, rng.uniform(0.07, 0.15), rng.uniform(0.10, 0.20)).astype(np.float32)
    peak = np.float32(rng.uniform(0.32, 0.44))
    outward = np.clip((c.r - peak) / (1 - peak), 0, 1)
    inward = np.clip((peak - c.r) / peak, 0, 1)
    return 1 - height * (1 - outward**2.2) * (1 - 0.30 * inward**2)


def aeration(c: Coordinates, kind: str, rng: np.random.Generator) -> Plane:
    """How transparent the lungs are, about 1: clearer at the edge and the top, the sides differ a little."""
    tone = 0.84 + 0.16 * ramp(c.r, 0.15, 0.75) - 0.10 * ramp(c.t, 0.55, 1.0)
    side = np.where(c.on_right, rng.uniform(0.92, 1.0), rng.uniform(0.92, 1.0)).astype(np.float32)
    depth = {"COVID": 0.88, "Normal": 1.0, "Viral_Pneumonia": 0.82}[kind]
    return tone * side * np.float32(depth * rng.uniform(0.85, 1.05))


def mediastinum(c: Coordinates, rng: np.random.Generator) -> Plane:
    """Spine with its vertebrae, heart shadow and trachea, relative to soft tissue."""
    spine = rng.uniform(0.06, 0.13) * bump(c.across, 0.0, 3.4)
    step = rng.uniform(12.0, 14.0)
    discs = np.sin(2 * np.pi * step * c.t).astype(np.float32)
    spine *= 1 + rng.uniform(0.10, 0.30) * discs
    heart_x = rng.uniform(0.16, 0.24) * c.half_width
    heart = rng.uniform(0.08, 0.16) * bump(c.s, heart_x, 8.0) * bump(c.t, 0.72, 0.26)
    trachea = -rng.uniform(0.05, 0.10) * bump(c.s, rng.uniform(-0.6, 0.3), 1.5) * ramp(-c.t, -0.36, -0.26)
    return spine + heart + trachea


def lung_markings(c: Coordinates, kind: str, rng: np.random.Generator) -> Plane:
    """Hila and the vessels that spread from them; coarser and denser where an infection is diffuse."""
    hilum = np.where(c.on_right, rng.uniform(5.5, 7.5), rng.uniform(5.5, 7.5)).astype(np.float32)
    height = np.where(c.on_right, rng.uniform(0.38, 0.44), rng.uniform(0.42, 0.48)).astype(np.float32)
    du, dv = c.across - hilum, (c.t - height) * np.float32(c.length)
    distance = np.sqrt(du * du + dv * dv) + np.float32(0.1)
    angle = np.arctan2(dv, du)
    wander = noise(c.t.shape, 18, rng)
    branches = np.sin(angle * 9 + 1.6 * wander + np.where(c.on_right, 0.0, 1.7).astype(np.float32))
    vessels = np.maximum(branches, 0) ** 6 * np.exp(-distance / 9)
    coarseness = {"COVID": 0.016, "Normal": 0.011, "Viral_Pneumonia": 0.018}[kind]
    grain = texture(c.t.shape, 26, rng) * np.float32(coarseness)
    return 0.14 * np.exp(-distance / 3.2) + rng.uniform(0.05, 0.12) * vessels + grain


def bones(c: Coordinates, kind: str, rng: np.random.Generator) -> Plane:
    """Ribs (back and front halves), clavicles, shoulder blades and the dense rim where ribs turn forward."""
    contrast = np.float32(rng.uniform(0.075, 0.15))
    pitch, start = rng.uniform(0.092, 0.108), rng.uniform(0.0, 0.09)
    inside = (
        ramp(1.10 - c.r, 0.0, 0.05) * ramp(c.t, -0.06, 0.02) * (0.12 + 0.88 * ramp(1.02 - c.t, 0.0, 0.12))
    )
    inside *= ramp(1.28 - c.t, 0.0, 0.12)
    droop = rng.uniform(0.13, 0.20)
    back = c.t - start + 0.05 * np.sin(np.float32(np.pi) * c.r) - droop * c.r**3
    ribs = rib_bars(back / np.float32(pitch), 0.30) * ramp(c.across, 2.0, 4.0)
    front = c.t - start - droop + (0.30 + 0.12 * c.t) * (1 - c.r)
    ribs += 0.6 * rib_bars(front / np.float32(pitch * 1.12), 0.30) * ramp(c.r, 0.35, 0.62)
    rim = 0.8 * bump(c.r, 1.03, 0.035) * ramp(c.t, 0.05, 0.20) * ramp(1.12 - c.t, 0.0, 0.15)
    collar = clavicles(c, rng) * (0.8 if kind == "Viral_Pneumonia" else 1.0)
    blade_edge = c.half_width * np.float32(rng.uniform(0.90, 1.15)) + 16 * np.clip(0.25 - c.t, 0, None)
    blade = (
        0.5 * ramp(c.across, blade_edge, blade_edge + 1.0) * ramp(0.48 - c.t, 0.0, 0.12) * ramp(c.t, 0.0, 0.1)
    )
    return contrast * (inside * ribs + rim + 1.6 * collar + blade)


def rib_bars(phase: Plane, half_width: float) -> Plane:
    """Bars of a tube-like profile, denser along their edges, one a unit of phase."""
    distance = np.abs(phase - np.rint(phase)) / np.float32(half_width)
    solid = ramp(1 - distance, -0.08, 0.22)
    return solid * (0.55 + 0.45 * np.clip(distance, 0, 1) ** 2)


def clavicles(c: Coordinates, rng: np.random.Generator) -> Plane:
    """One S-shaped bar from the breastbone to each shoulder."""
    level = np.where(c.on_right, rng.uniform(0.06, 0.13), rng.uniform(0.06, 0.13)).astype(np.float32)
    rise = np.where(c.on_right, rng.uniform(0.0045, 0.0075), rng.uniform(0.0045, 0.0075)).astype(np.float32)
    outward = c.across - 3.5
    centre = level - rise * outward + 0.022 * np.sin(outward * np.float32(0.28))
    distance = np.abs(c.t - centre) * np.float32(c.length) / np.float32(rng.uniform(1.0, 1.4))
    bar = ramp(1 - distance, -0.1, 0.3) * (0.6 + 0.4 * np.clip(distance, 0, 1) ** 2)
    return bar * ramp(outward, -1.0, 0.5) * ramp(34 - c.across, 0.0, 8.0)


def disease(c: Coordinates, kind: str, rng: np.random.Generator) -> Plane:
    """Density that an infection adds to the lungs; all zero for Normal."""
    haze = np.zeros_like(c.t)
    if kind == "COVID":
        for place in range(int(rng.integers(3, 8))):
            side = c.on_right if place % 2 else ~c.on_right
            r, t = rng.uniform(0.55, 0.98), rng.uniform(0.35, 0.98)
            patch = bump(c.r, r, rng.uniform(0.14, 0.30)) * bump(c.t, t, rng.uniform(0.08, 0.18))
            haze += np.float32(rng.uniform(0.08, 0.26)) * patch * side
        haze *= 1 + 0.22 * texture(c.t.shape, 20, rng)
    elif kind == "Viral_Pneumonia":
        centre = bump(c.r, 0.40, 0.42) * bump(c.t, 0.50, 0.38)
        haze = np.float32(rng.uniform(0.05, 0.16)) * centre * (1 + 0.45 * texture(c.t.shape, 14, rng))
        haze += 0.02 + 0.02 * texture(c.t.shape, 30, rng)
    return np.clip(haze, 0, 0.36).astype(np.float32)


def noise(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> Plane:
    """Smooth noise of unit standard deviation with about `cells` blobs along a side."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return field / np.float32(field.std())


def texture(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> Plane:
    """Noise on three scales, each twice as fine and 0.7 times as strong as the one before."""
    field = noise(shape, cells, rng) + 0.7 * noise(shape, 2 * cells, rng) + 0.5 * noise(shape, 4 * cells, rng)
    return field / np.float32(1.32)


def expose(density: Plane, c: Coordinates, rng: np.random.Generator) -> NDArray[np.uint8]:
    """From density to grey values: scatter, exposure, contrast, slant, what lies on the film, noise."""
    blurred = cv2.GaussianBlur(density.astype(np.float32), (0, 0), float(rng.uniform(0.5, 1.0)))
    scatter = cv2.resize(cv2.GaussianBlur(cv2.resize(blurred, (64, 64)), (0, 0), 5), density.shape[::-1])
    signal = 0.90 * blurred + 0.16 * scatter
    span = signal.max() - signal.min()
    signal = (signal - signal.min()) / span
    signal = signal ** np.float32(rng.uniform(0.85, 1.45))
    size = density.shape[0]
    away = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = rng.uniform(-0.10, 0.10) * away[None, :] + rng.uniform(-0.10, 0.06) * away[:, None]
    grey = (rng.uniform(0.86, 1.02) * signal + rng.uniform(-0.01, 0.06)) * (1 + tilt)
    grey = overlay_objects(grey.astype(np.float32), c, rng)
    grey += rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(rng.uniform(0.006, 0.022))
    return np.clip(np.rint(grey * 255), 0, 255).astype(np.uint8)


def overlay_objects(grey: Plane, c: Coordinates, rng: np.random.Generator) -> Plane:
    """Side marker, monitoring leads and collimator edges, each on some of the films."""
    size = grey.shape[0]
    layer = np.zeros(grey.shape, np.uint8)
    if rng.random() < 0.45:
        place = (int(rng.integers(6, 30)), int(rng.integers(16, 60)))
        tone, height = int(rng.integers(90, 200)), float(rng.uniform(0.4, 0.7))
        cv2.putText(layer, "R", place, cv2.FONT_HERSHEY_SIMPLEX, height, tone, 1, cv2.LINE_AA)
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 4))):
            start, bend, end = rng.uniform(0.1, 0.9, (3, 2)) * size
            u = np.linspace(0, 1, 24)[:, None]
            curve = (1 - u) ** 2 * start + 2 * u * (1 - u) * bend + u**2 * end
            tone = int(rng.integers(25, 65))
            cv2.polylines(layer, [np.rint(curve * 8).astype(np.int32)], False, tone, 1, cv2.LINE_AA, 3)
            cv2.circle(layer, (round(end[0]), round(end[1])), int(rng.integers(2, 5)), tone, -1, cv2.LINE_AA)
    grey = grey + layer / np.float32(255)
    if rng.random() < 0.15:
        edge = int(rng.integers(3, 14))
        grey[:, :edge] *= np.float32(0.1)
        grey[:, size - int(rng.integers(3, 14)) :] *= np.float32(0.1)
    return grey

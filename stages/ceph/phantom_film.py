"""Pictures of made-up lateral films: the outlines of a head laid over each other as they absorb X-rays.

A film is drawn at half its size: what is finer than half a millimetre is lost in real films too. Grain is added
at full size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph import phantom_outline as outline
from stages.ceph.schema import NAMES
from stages.core.data import geometry
from stages.core.data.decode import PHANTOM_MARK

Range = tuple[float, float]
"""least and greatest of a value that is drawn evenly"""
Plane = np.ndarray
"""float32 (H, W)"""
_DRAWN = 0.5
"""size of the drawing over that of the film"""
_BITS = 4


class Look(BaseModel):
    """How a machine's films look.

    Attributes:
        width, height: of the films, px.
        spacing_mm: mm per px.
        sella_mm: where sella lies on the film, mm from its upper left corner.
        shift_mm: standard deviation of that place.
        tilt_degrees: standard deviation of the head's tilt.
        gamma: exponent of the grey values; more is darker.
        contrast: span of the grey values, of 1.
        brightness: least grey value, of 1.
        blur_mm: standard deviation of the unsharpness.
        halo: strength of the sharpening that the machine adds.
        grain: standard deviation of the grain, of 1.
        ruler: share of films with a ruler before the face.
        quality: of JPEG.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    width: int = Field(ge=64)
    height: int = Field(ge=64)
    spacing_mm: float = Field(gt=0)
    sella_mm: tuple[float, float]
    shift_mm: float = Field(ge=0)
    tilt_degrees: float = Field(ge=0)
    gamma: Range
    contrast: Range
    brightness: Range
    blur_mm: Range
    halo: float = Field(ge=0)
    grain: Range
    ruler: float = Field(ge=0, le=1)
    quality: int = Field(ge=1, le=100)


_MARGIN_MM = 4.0
"""between a landmark and the edge of the film"""


def place_head(points_mm: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) map from mm in the frame of the head to px of a film that has all landmarks (19, 2) on it."""
    tilt = np.radians(look.tilt_degrees * np.clip(rng.standard_normal(), -2, 2))
    place = np.array(look.sella_mm) + look.shift_mm * np.clip(rng.standard_normal(2), -2, 2)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    placed = points_mm @ turn.T + place
    film = look.spacing_mm * np.array([look.width, look.height])
    place += np.maximum(_MARGIN_MM - placed.min(0), 0) - np.maximum(placed.max(0) - film + _MARGIN_MM, 0)
    return np.column_stack([turn, place]) / look.spacing_mm


def draw_film(points_mm: np.ndarray, placed: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """The film (height, width) uint8 of one head.

    Args:
        points_mm: (19, 2) landmarks in the frame of the head.
        placed: (2, 3) map of `place_head`.
    """
    size = round(look.height * _DRAWN), round(look.width * _DRAWN)
    to_drawing = geometry.compose(placed, geometry.resize_matrix((look.height, look.width), size))
    canvas = _Canvas(np.zeros(size, np.float32), to_drawing, look.spacing_mm / _DRAWN)
    points = dict(zip(NAMES, points_mm, strict=True))
    _soft_tissue(canvas, points, rng)
    _skull(canvas, points, rng)
    _face(canvas, points, rng)
    _jaws(canvas, points, rng)
    _holder(canvas, points, rng)
    return _expose(canvas, look, rng)


def encode_film(picture: np.ndarray, quality: int) -> bytes:
    """JPEG bytes that carry the phantoms' mark, so that a lone film is known as one."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, comment=PHANTOM_MARK)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Canvas:
    """A sum of densities. `to_drawing` maps mm of the head to its px, which are `px_mm` wide."""

    density: Plane
    to_drawing: np.ndarray
    px_mm: float

    def fill(self, weight: float, curve: np.ndarray, soft_mm: float) -> None:
        """Add density inside a closed curve (n, 2) mm."""
        where, corner = self._box(curve, 4 * soft_mm)
        self.density[where] += np.float32(weight) * self.mask(curve, soft_mm, where, corner)

    def stroke(
        self, weight: float, curve: np.ndarray, width_mm: float, soft_mm: float, closed: bool = False
    ) -> None:
        """Add density along a curve (n, 2) mm of a width."""
        where, corner = self._box(curve, width_mm + 4 * soft_mm)
        layer = np.zeros(self.density[where].shape, np.uint8)
        thickness = max(1, round(width_mm / self.px_mm))
        cv2.polylines(layer, [self._fixed(curve, corner)], closed, 255, thickness, cv2.LINE_AA, _BITS)
        self.density[where] += np.float32(weight) * self._soft(layer, soft_mm)

    def mask(
        self,
        curve: np.ndarray,
        soft_mm: float = 0.0,
        where: tuple[slice, slice] = (slice(None), slice(None)),
        corner: tuple[int, int] = (0, 0),
    ) -> Plane:
        """1 inside a closed curve (n, 2) mm, of the part `where` of the drawing, which begins at (x, y)."""
        layer = np.zeros(self.density[where].shape, np.uint8)
        cv2.fillPoly(layer, [self._fixed(curve, corner)], 255, cv2.LINE_AA, _BITS)
        return self._soft(layer, soft_mm)

    def _box(self, curve: np.ndarray, around_mm: float) -> tuple[tuple[slice, slice], tuple[int, int]]:
        """The part of the drawing that a curve touches, with its first column and row."""
        on_drawing = geometry.apply(self.to_drawing, curve)
        margin = around_mm / self.px_mm + 2
        bounds = np.array(self.density.shape[::-1])
        low = np.clip(np.floor(on_drawing.min(0) - margin), 0, bounds - 1).astype(int)
        high = np.clip(np.ceil(on_drawing.max(0) + margin), low + 1, bounds).astype(int)
        return (slice(low[1], high[1]), slice(low[0], high[0])), (int(low[0]), int(low[1]))

    def _fixed(self, curve: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        on_drawing = geometry.apply(self.to_drawing, curve) - corner
        return np.rint(on_drawing * (1 << _BITS)).astype(np.int32)

    def _soft(self, layer: np.ndarray, soft_mm: float) -> Plane:
        plane = layer.astype(np.float32) * np.float32(1 / 255)
        return cv2.GaussianBlur(plane, (0, 0), soft_mm / self.px_mm) if soft_mm else plane


def _soft_tissue(c: _Canvas, p: outline.Points, rng: np.random.Generator) -> None:
    """Skin and muscles; thin before the bones, so that the profile shows."""
    body = c.mask(outline.profile(p))
    # At a quarter of the size, since it is blurred widely anyway.
    coarse = cv2.resize(body, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    inner = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.5 / c.px_mm), body.shape[::-1]) * body
    thick, thin = np.float32(rng.uniform(0.06, 0.12)), np.float32(rng.uniform(0.16, 0.22))
    np.add(c.density, body * (thin + thick * inner * inner), out=c.density)
    c.fill(-rng.uniform(0.08, 0.13), outline.airway(p), 1.2)


def _skull(c: _Canvas, p: outline.Points, rng: np.random.Generator) -> None:
    """Roof, base and sella, and the spine below."""
    outer, inner = outline.vault(p)
    roof, brain = c.mask(outer, 0.4), c.mask(inner, 0.8)
    wall, within = np.float32(rng.uniform(0.24, 0.34)), np.float32(rng.uniform(0.12, 0.18))
    np.add(c.density, wall * np.clip(roof - brain, 0, 1) + within * brain, out=c.density)
    c.fill(rng.uniform(0.14, 0.22), outline.petrous(p), 2.5)
    c.stroke(rng.uniform(0.20, 0.28), outline.anterior_base(p), 1.4, 0.3)
    cup = outline.sella_cup(p)
    c.fill(-rng.uniform(0.08, 0.12), cup[1:-1], 0.5)
    c.stroke(rng.uniform(0.24, 0.34), cup, 1.3, 0.25)
    c.stroke(rng.uniform(0.18, 0.26), outline.clivus(p), 1.6, 0.3)
    for body in outline.spine(p):
        c.fill(rng.uniform(0.16, 0.22), body, 0.5)
        c.stroke(0.10, body, 1.0, 0.4, closed=True)


def _face(c: _Canvas, p: outline.Points, rng: np.random.Generator) -> None:
    """Brow, nose, orbit, cheek and upper jaw."""
    c.fill(rng.uniform(0.22, 0.32), outline.brow(p), 0.4)
    c.fill(rng.uniform(0.16, 0.24), outline.nasal_bone(p), 0.4)
    hole, rim = outline.orbit(p)
    c.fill(-rng.uniform(0.04, 0.08), hole, 1.5)
    c.stroke(rng.uniform(0.16, 0.24), rim, 1.8, 0.5)
    c.fill(rng.uniform(0.07, 0.12), outline.cheek(p), 2.0)
    c.fill(rng.uniform(0.22, 0.30), outline.palate(p), 0.3)
    c.fill(rng.uniform(0.14, 0.20), outline.maxilla(p), 0.5)


def _jaws(c: _Canvas, p: outline.Points, rng: np.random.Generator) -> None:
    """Lower jaw with its dense border, and the teeth."""
    jaw = outline.mandible(p)
    c.fill(rng.uniform(0.16, 0.22), jaw, 0.5)
    c.stroke(rng.uniform(0.12, 0.18), jaw, 1.6, 0.4, closed=True)
    # The two halves of the jaw never cover each other quite.
    behind = np.clip((p["menton"][0] - 20 - jaw[:, :1]) / 20, 0, 1)
    c.stroke(rng.uniform(0.05, 0.09), jaw + behind * rng.normal(0, [1.2, 0.9]), 1.4, 0.6, closed=True)
    teeth = (("upper_incisor", outline.upper_apex(p)), ("lower_incisor", outline.lower_apex(p)))
    for tip, apex in teeth:
        tooth, crown = outline.incisor(p[tip], apex + rng.normal(0, 1.0, 2))
        c.fill(rng.uniform(0.14, 0.20), tooth, 0.25)
        c.fill(rng.uniform(0.14, 0.20), crown, 0.25)
    for crown, roots in outline.back_teeth(p):
        c.fill(rng.uniform(0.16, 0.24), crown, 0.4)
        c.fill(0.08, roots, 0.7)


def _holder(c: _Canvas, p: outline.Points, rng: np.random.Generator) -> None:
    """The ear rod of the head holder, whose top is porion, and the arm that it hangs from."""
    angles = np.radians(np.linspace(0, 360, 32, endpoint=False))
    centre = outline.at(p["porion"], 0, 4.2)
    rod = centre + 4.2 * np.column_stack([np.cos(angles), np.sin(angles)])
    c.fill(rng.uniform(0.25, 0.40), rod, 0.2)
    c.fill(-0.22, centre + 0.45 * (rod - centre), 0.2)
    arm = centre + np.array([(-3, -4), (-7, -140), (4, -140), (3, -4)])
    c.fill(rng.uniform(0.02, 0.06), arm, 0.5)


def _expose(c: _Canvas, look: Look, rng: np.random.Generator) -> np.ndarray:
    """From density to grey values: structure of bone, unsharpness, contrast, what lies on the film, grain."""
    height, width = c.density.shape
    structure = _noise((height, width), 40, rng) + 0.7 * _noise((height, width), 90, rng)
    density = c.density * (1 + np.float32(0.045) * structure)
    density += np.float32(0.02) * _noise((height, width), 5, rng) * (density > 0.05)
    blurred = cv2.GaussianBlur(density, (0, 0), rng.uniform(*look.blur_mm) / c.px_mm)
    if look.halo:
        wide = cv2.GaussianBlur(blurred, (0, 0), 2.0 / c.px_mm)
        blurred = blurred + np.float32(look.halo) * (blurred - wide)
    signal = 1 - np.exp(np.float32(-1.9) * np.maximum(blurred, 0))
    grey = signal ** np.float32(rng.uniform(*look.gamma))
    grey = np.float32(rng.uniform(*look.brightness)) + np.float32(rng.uniform(*look.contrast)) * grey
    full = cv2.resize(grey, (look.width, look.height), interpolation=cv2.INTER_CUBIC)
    grain = rng.standard_normal(full.shape, dtype=np.float32)
    full = full + np.float32(rng.uniform(*look.grain)) * grain
    _overlay(full, look, rng)
    return np.clip(np.rint(full * 255), 0, 255).astype(np.uint8)


def _noise(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Plane:
    """Smooth noise of about unit standard deviation with `cells` blobs along a side."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _overlay(grey: Plane, look: Look, rng: np.random.Generator) -> None:
    """Side marker, ruler and the black edges of the collimator, drawn into a film in place."""
    height, width = grey.shape
    marks = np.zeros(grey.shape, np.uint8)
    if rng.random() < 0.6:
        place = (round(width * rng.uniform(0.80, 0.92)), round(height * rng.uniform(0.05, 0.12)))
        cv2.putText(marks, "R", place, cv2.FONT_HERSHEY_SIMPLEX, height / 700, 200, 2, cv2.LINE_AA)
    if rng.random() < look.ruler:
        x = round(width * rng.uniform(0.93, 0.96))
        top = height * rng.uniform(0.15, 0.3)
        for mark in range(0, 46, 5):
            y = round(top + mark / look.spacing_mm)
            cv2.line(marks, (x, y), (x + (14 if mark % 10 == 0 else 8), y), 180, 1, cv2.LINE_AA)
    np.maximum(grey, marks.astype(np.float32) / np.float32(255), out=grey)
    top, bottom, left, right = rng.integers(0, 7, 4).tolist()
    for edge in (grey[:top], grey[height - bottom :], grey[:, :left], grey[:, width - right :]):
        np.multiply(edge, np.float32(0.1), out=edge)

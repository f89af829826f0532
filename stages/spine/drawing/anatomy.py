"""Spines that bend as real ones do: the shape model of the phantom.

Everything here is in *spine units*: 1 is the distance between the centres of T1 and L5 along the spine,
x runs to the right of the image (the patient's left), y down. Proportions are the medians of the AASCE
films, curve types follow Lenke's: thoracic, thoracolumbar, lumbar and double curves with their
compensations. A curve is a bump of lateral displacement, so its tilt is the derivative of a Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WIDTH = np.array([79, 73, 68, 66, 67, 69, 72, 74, 77, 80, 84, 90, 95, 98, 102, 106, 114]) / 1000
"""width of the upper endplate, T1 to L5"""
TAPER = np.array([96, 97, 98, 101, 103, 105, 104, 104, 104, 106, 106, 104, 103, 102, 103, 104, 102]) / 100
"""width of the lower endplate over that of the upper one"""
HEIGHT = np.array([302, 339, 376, 400, 426, 432, 442, 449, 464, 487, 507, 531, 543, 552, 571, 591, 556]) / 1e4
GAP = np.array([128, 136, 143, 144, 140, 143, 145, 149, 157, 176, 201, 221, 242, 256, 256, 254]) / 1e4
"""height of the discs T1/T2 to L4/L5"""
CERVICAL = 4
"""vertebrae above T1 that a film may show; they carry no landmarks"""


@dataclass(frozen=True)
class Curve:
    """One scoliotic curve: where its apex lies (0 = T1, 1 = L5), how long it is, how far it tilts.

    `tilt` is the greatest tilt of a vertebra that this curve alone causes, in degrees; positive bends the
    spine to the image's right.
    """

    apex: float
    length: float
    tilt: float


@dataclass(frozen=True)
class Spine:
    """A spine in spine units.

    Attributes:
        corners: (V, 4, 2) corners of the vertebrae TL, TR, BL, BR, first the cervical ones, then T1..L5.
        rotation: (V,) axial rotation, -1..1; it moves pedicles and spinous process towards the concavity.
        line: (P, 2) the centre line, from above the film to below it.
    """

    corners: np.ndarray
    rotation: np.ndarray
    line: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """(17, 4, 2) corners of T1..L5."""
        return self.corners[-len(WIDTH) :]


def draw_curves(rng: np.random.Generator, cobb_deg: float) -> tuple[Curve, ...]:
    """A curve pattern whose largest Cobb angle will be near `cobb_deg`: major curve and compensations."""
    pattern = rng.choice(["thoracic", "thoracolumbar", "lumbar", "double"], p=[0.42, 0.2, 0.13, 0.25])
    right_thoracic = -1.0 if rng.random() < 0.85 else 1.0  # convex to the patient's right is the image's left
    spread = rng.normal(0, 0.03, 3)
    length = rng.normal(1, 0.12, 3).clip(0.7, 1.3)
    apex, share = {
        "thoracic": ((0.06, 0.36, 0.76), (-0.5, 1.0, -0.5)),
        "thoracolumbar": ((0.22, 0.58, 0.95), (-0.45, 1.0, -0.35)),
        "lumbar": ((0.08, 0.42, 0.80), (0.15, -0.5, 1.0)),
        "double": ((0.05, 0.36, 0.78), (-0.4, 1.0, -0.95)),
    }[str(pattern)]
    side = right_thoracic if pattern != "lumbar" else -right_thoracic
    lengths = {"thoracic": (0.1, 0.125, 0.13), "thoracolumbar": (0.13, 0.14, 0.11)}
    widths = lengths.get(str(pattern), (0.1, 0.12, 0.12))
    shares = np.array(share) * rng.uniform(0.7, 1.3, 3)
    return tuple(
        Curve(a + d, w * f, side * s * cobb_deg / 2)
        for a, d, w, f, s in zip(apex, spread, widths, length, shares, strict=True)
    )


def tilt_at(position: np.ndarray, curves: tuple[Curve, ...]) -> np.ndarray:
    """Tilt of the centre line in radians at positions along the spine (0 = T1, 1 = L5)."""
    tilt = np.zeros_like(position)
    for curve in curves:
        z = (position - curve.apex) / curve.length
        tilt += np.radians(curve.tilt) * -z * np.exp((1 - z**2) / 2)
    return tilt


def build_spine(
    rng: np.random.Generator, curves: tuple[Curve, ...], cobb_deg: float, lean_deg: float, sturdiness: float
) -> Spine:
    """Lay vertebrae along a bent line.

    Args:
        rng: draws the small differences from one vertebra to the next.
        curves: the pattern; it is scaled so that the line's tilt from T1 to L5 spans `cobb_deg`.
        cobb_deg: largest difference of tilt between two places of the line, degrees.
        lean_deg: tilt of the whole trunk, degrees.
        sturdiness: factor on the widths of all vertebrae.
    """
    heights, gaps, widths = _sizes(rng)
    tops = np.concatenate([[0], np.cumsum(heights[:-1] + gaps)])
    first, last = tops[CERVICAL] + heights[CERVICAL] / 2, tops[-1] + heights[-1] / 2
    span = last - first
    top, bottom = (tops - first) / span, (tops + heights - first) / span
    inside = np.linspace(0, 1, 200)
    tilts = tilt_at(inside, curves)
    scale = np.radians(cobb_deg) / max(np.ptp(tilts), 1e-6)

    fine = np.linspace(-0.5, 1.5, 2001)
    direction = np.radians(lean_deg) + scale * tilt_at(fine, curves)
    line = np.cumsum(np.stack([np.sin(direction), np.cos(direction)], 1), 0) * (fine[1] - fine[0])
    line -= [np.interp(0, fine, line[:, 0]), np.interp(0, fine, line[:, 1])]

    def endplate(position: np.ndarray, width: np.ndarray, wobble: np.ndarray) -> list[np.ndarray]:
        """Left and right ends of the endplates that cross the line at these positions."""
        centre = np.stack([np.interp(position, fine, line[:, k]) for k in (0, 1)], 1)
        tilt = np.interp(position, fine, direction) + wobble
        across = np.stack([np.cos(tilt), -np.sin(tilt)], 1) * width[:, None] / 2
        return [centre - across, centre + across]

    count = len(heights)
    wobble = rng.normal(0, np.radians(0.9), count)
    wedge = rng.normal(0, np.radians(0.7), count)
    upper = endplate(top, widths * sturdiness, wobble)
    lower = endplate(bottom, widths * sturdiness * _taper(rng), wobble + wedge)
    bend = -np.gradient(np.interp((top + bottom) / 2, fine, direction), (top + bottom) / 2)
    return Spine(
        corners=np.stack([*upper, *lower], 1),
        rotation=np.tanh(bend / 8 + rng.normal(0, 0.05, count)),
        line=line,
    )


def _sizes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights (V,), disc gaps (V-1,) and widths (V,) of one person's vertebrae, cervical ones first."""
    stretch = 1 + 0.25 * rng.normal(0, 0.12) * np.linspace(-1, 1, len(HEIGHT))
    heights = np.concatenate([np.linspace(0.026, 0.029, CERVICAL), HEIGHT * stretch])
    gaps = np.concatenate([np.full(CERVICAL, 0.0125), GAP * rng.normal(1, 0.1)])
    widths = np.concatenate([np.linspace(0.060, 0.074, CERVICAL), WIDTH])
    return (
        heights * rng.normal(1, 0.03, len(heights)),
        gaps * rng.normal(1, 0.1, len(gaps)).clip(0.6, 1.6),
        widths * rng.normal(1, 0.02, len(widths)),
    )


def _taper(rng: np.random.Generator) -> np.ndarray:
    taper = np.concatenate([np.full(CERVICAL, 1.0), TAPER])
    return taper * rng.normal(1, 0.02, len(taper))

"""A lateral film at a readable size with its points, each in a circle of its expected error, and the angles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.ceph.schema import CEPH, INDEX
from stages.core.overlay import Overlay

CEPHALOMETRIC_LINES = (("sella", "nasion"), ("nasion", "subspinale"), ("nasion", "supramentale"))
"""The legs of SNA and SNB, drawn thicker than the outline."""


def write_overlay(
    path: Path, pixels: np.ndarray, points: np.ndarray, radii: np.ndarray, angles_deg: Mapping[str, float]
) -> None:
    """Write a PNG of the film (H, W) uint8 with `points` (19, 2), each in a circle of `radii` (19,); both in its px."""
    overlay = Overlay(pixels, points)
    overlay.lines(CEPH.edges)
    overlay.lines([(INDEX[a], INDEX[b]) for a, b in CEPHALOMETRIC_LINES], thickness=2)
    overlay.circles([name.replace("_", " ") for name in CEPH.names], radii)
    said = "  ".join(f"{name} {value:.1f}" for name, value in angles_deg.items())
    overlay.words(f"{said} degrees", (12, 28), 0.6)
    overlay.words("circles: expected error", (12, 52), 0.5)
    overlay.write(path)

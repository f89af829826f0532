"""A film at a readable size with its points, each in a circle that should hold the true one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.core.data.schema import LandmarkSchema
from stages.core.overlay import Overlay


def write_overlay(
    path: Path, pixels: np.ndarray, points: np.ndarray, radii: np.ndarray, schema: LandmarkSchema
) -> None:
    """Write a PNG of the film (H, W) uint8 with `points` (K, 2), each in a circle of `radii` (K,); both in its px."""
    overlay = Overlay(pixels, points)
    overlay.lines(schema.edges)
    overlay.circles(schema.names, radii)
    overlay.write(path)

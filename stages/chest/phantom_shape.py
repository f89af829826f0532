"""Made-up chest shapes: the fourteen degrees of freedom drawn like those of the real labels.

Lengths are in cells of the 64 x 64 label grid. The means and standard deviations are in params.yaml; here is
only what ties them together: neighbouring levels of a lung are alike, and long lungs are wide.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from stages.chest.phantom_film import Chest
from stages.chest.raw.structure import GRID_CELLS, shape_from_structure
from stages.chest.schema import LEVELS

Spread = tuple[float, float]
"""Mean and standard deviation."""

Levels = tuple[float, float, float, float, float]
"""One number for each of the five levels from the lung tops to the costophrenic angles."""


class AxisSpread(BaseModel):
    """How the axis L1-L2 of one class of films lies: centre and length in grid cells, tilt in degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    centre_x: Spread
    centre_y: Spread
    length: Spread
    tilt: Spread


class WidthSpread(BaseModel):
    """Half widths of the lungs in grid cells by level, and half the difference between the two sides.

    Correlations are those of each level with the one above it, and of length and width.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: Levels
    sd: Levels
    level_correlation: Levels
    length_correlation: float
    side_difference_sd: Levels
    side_difference_correlation: Levels


def sample_chest(axis: AxisSpread, widths: WidthSpread, rng: np.random.Generator) -> Chest:
    """One plausible chest whose fifteen points lie on the film, some of them on its border.

    Where a perpendicular leaves the film before it meets the contour, the point is where it leaves; a shape
    that would lose more than a quarter of an offset in that way is drawn again.
    """
    while True:
        top, bottom, z_length = _sample_axis(axis, rng)
        down = (bottom - top) / np.linalg.norm(bottom - top)
        left, right = _sample_offsets(widths, z_length, rng)
        fitted_left, fitted_right = _offsets_on_film(top, bottom, left, right)
        plain = min(left.min(), right.min()) > 4
        kept = (fitted_left > 0.75 * left).all() and (fitted_right > 0.75 * right).all()
        if plain and kept and bottom[1] - top[1] > 20:
            return Chest(top, down, float(np.linalg.norm(bottom - top)), fitted_left, fitted_right)


def chest_points(chest: Chest) -> np.ndarray:
    """The fifteen points (15, 2) of a chest in grid cells."""
    bottom = chest.top + chest.length * chest.down
    return shape_from_structure(chest.top[None], bottom[None], chest.left[None], chest.right[None])[0]


def _sample_axis(axis: AxisSpread, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Ends of the axis, cut off at the film's border, and its length in standard deviations from the mean."""
    centre = np.array([rng.normal(*axis.centre_x), rng.normal(*axis.centre_y)])
    z_length = float(rng.standard_normal())
    angle = np.deg2rad(rng.normal(*axis.tilt))
    half = (axis.length[0] + z_length * axis.length[1]) / 2 * np.array([-np.sin(angle), np.cos(angle)])
    top, bottom = centre - half, centre + half
    last = GRID_CELLS - 1
    if top[1] < 0:
        top = top + (bottom - top) * (-top[1] / (bottom[1] - top[1]))
    if bottom[1] > last:
        bottom = top + (bottom - top) * ((last - top[1]) / (bottom[1] - top[1]))
    return top, bottom, z_length


def _sample_offsets(
    widths: WidthSpread, z_length: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    shared, own = widths.length_correlation, np.sqrt(1 - widths.length_correlation**2)
    z_width = shared * z_length + own * _chain(widths.level_correlation, rng)
    half_width = np.asarray(widths.mean) + np.asarray(widths.sd) * z_width
    difference = np.asarray(widths.side_difference_sd) * _chain(widths.side_difference_correlation, rng)
    return half_width + difference, half_width - difference


def _chain(correlation: Levels, rng: np.random.Generator) -> np.ndarray:
    """Five standard normal numbers, each correlated with the one before (the first with none)."""
    z = rng.standard_normal(len(correlation))
    for i in range(1, len(z)):
        z[i] = correlation[i] * z[i - 1] + np.sqrt(1 - correlation[i] ** 2) * z[i]
    return z


def _offsets_on_film(
    top: np.ndarray, bottom: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The offsets (5,) shortened to where each perpendicular leaves the film."""
    feet = top + np.asarray(LEVELS)[:, None] * (bottom - top)
    down = (bottom - top) / np.linalg.norm(bottom - top)
    rightward = np.array([down[1], -down[0]])
    return (
        np.minimum(left, _reach(feet, -rightward)),
        np.minimum(right, _reach(feet, rightward)),
    )


def _reach(feet: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """How far one can go from each foot (5, 2) in a direction (2,) before leaving the film."""
    with np.errstate(divide="ignore"):
        room = np.where(direction > 0, (GRID_CELLS - 1 - feet) / direction, -feet / direction)
    return np.where(direction == 0, np.inf, room).min(axis=1)

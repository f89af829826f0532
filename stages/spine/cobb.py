"""Cobb angles of a marked spine, as the AASCE challenge counts them.

The challenge published its angles (angles.csv) and landmarks, and a MATLAB program for the step between. The
definition below gives all of its 481 training rows back, to the digits that they are printed with:

- a vertebra's direction is the vector between the midpoints of its left and of its right side;
- the *major* angle is the largest angle between two directions; the vertebrae are the upper and lower end;
- if the spine lies on one side of the chord from its first to its last endplate (a C), the *second* angle is
  between the first vertebra and the upper end, the *third* between the lower end and the last vertebra;
- if it crosses the chord (an S), the second angle is the largest one between the upper end and a vertebra
  above it. The third lies below the lower end where the major curve is in the upper half of the film, else
  above the vertebra that gave the second one. So it takes the height of the film.

The three are not the proximal thoracic, main thoracic and lumbar angles that they are sometimes named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ANGLES = ("major", "second", "third")
_CORNERS = 4
_DECIMALS = 8
"""The program rounds cosines to this many digits, so that angles below 0.008 degrees are 0."""


def cobb_angles(points: ArrayLike, height: ArrayLike) -> np.ndarray:
    """Major, second and third Cobb angle.

    Args:
        points: (..., 4 V, 2) corners in (x, y), four a vertebra (TL, TR, BL, BR), top to bottom, in pixels
            that are as wide as high: `raw`, not the stretched `model` frame.
        height: (...) height of the film in the same pixels; broadcast.
    Returns:
        (..., 3) degrees; NaN for spines with a point that is not finite.
    Raises:
        ValueError: the points are no whole vertebrae, or fewer than two.
    """
    corners = _vertebrae(points)
    shape = corners.shape[:-3]
    corners = corners.reshape(-1, *corners.shape[-3:])  # (N, V, 4, 2)
    middle = np.broadcast_to(np.asarray(height, np.float64) / 2, shape).reshape(-1)
    between = _angles_between(corners)
    spine, level = np.arange(len(corners)), np.arange(corners.shape[1])
    upper, lower = _ends(between)
    crosses = _crosses_its_chord(corners)

    above = np.where(level <= upper[:, None], between[spine, upper], -1.0)
    below = np.where(level >= lower[:, None], between[spine, lower], -1.0)
    above_upper = above.argmax(-1)
    higher = np.where(level <= above_upper[:, None], between[spine, above_upper], -1.0)
    lower_endplate = corners[..., 2:, 1].mean(-1)  # (N, V) y
    in_upper_half = (lower_endplate[spine, upper] + lower_endplate[spine, lower]) / 2 < middle

    second = np.where(crosses, above.max(-1), between[spine, 0, upper])
    third_of_s = np.where(in_upper_half, below.max(-1), higher.max(-1))
    third = np.where(crosses, third_of_s, between[spine, -1, lower])
    angles = np.degrees(np.stack([between[spine, upper, lower], second, third], -1))
    angles[~np.isfinite(corners).all((1, 2, 3))] = np.nan
    return angles.reshape(*shape, 3)


def end_vertebrae(points: ArrayLike) -> np.ndarray:
    """(..., 4 V, 2) corners -> (..., 2) numbers of the upper and lower end vertebra of the major curve."""
    corners = _vertebrae(points)
    flat = corners.reshape(-1, *corners.shape[-3:])
    return np.stack(_ends(_angles_between(flat)), -1).reshape(*corners.shape[:-3], 2)


def cobb_smape(predicted: ArrayLike, truth: ArrayLike) -> float:
    """The challenge's symmetric mean absolute percentage error of angles (N, 3) in degrees, in percent.

    Mean over films of sum |a - b| / sum (a + b), the sums over a film's three angles; films with a NaN are
    left out, and a film whose six angles are all 0 counts 0. NaN without films.
    """
    a, b = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"expected two arrays (N, 3), got {a.shape} and {b.shape}")
    difference, total = np.abs(a - b).sum(1), (a + b).sum(1)
    difference, total = difference[np.isfinite(total)], total[np.isfinite(total)]
    if not len(total):
        return float("nan")
    return float(100 * np.where(total > 0, difference / np.where(total > 0, total, 1), 0).mean())


def _vertebrae(points: ArrayLike) -> np.ndarray:
    """(..., 4 V, 2) -> (..., V, 4, 2)."""
    corners = np.asarray(points, np.float64)
    if corners.ndim < 2 or corners.shape[-1] != 2 or corners.shape[-2] % _CORNERS or corners.shape[-2] < 8:
        raise ValueError(f"expected (..., 4 V, 2) corners of at least two vertebrae, got {corners.shape}")
    return corners.reshape(*corners.shape[:-2], -1, _CORNERS, 2)


def _angles_between(corners: np.ndarray) -> np.ndarray:
    """(N, V, 4, 2) -> (N, V, V) angles between the vertebrae's directions, radians; 0 where undefined."""
    direction = corners[..., (1, 3), :].mean(-2) - corners[..., (0, 2), :].mean(-2)  # (N, V, 2)
    length = np.linalg.norm(direction, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = direction @ direction.swapaxes(-1, -2) / (length[..., None] * length[..., None, :])
    return np.arccos(np.clip(np.round(np.nan_to_num(cosine, nan=1.0), _DECIMALS), -1, 1))


def _ends(between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, V, V) -> (N,) upper and (N,) lower end vertebra; of equal angles the upper pair."""
    upper, lower = np.unravel_index(between.reshape(len(between), -1).argmax(-1), between.shape[1:])
    return upper, lower


def _crosses_its_chord(corners: np.ndarray) -> np.ndarray:
    """(N, V, 4, 2) -> (N,) bool: midpoints of endplates lie on both sides of the line from first to last.

    The program divides by the chord's width and height; where one is 0, it says yes (0 / 0 is not 0 / 0).
    """
    midpoints = corners.reshape(len(corners), -1, 2, 2).mean(-2)  # (N, 2 V, 2)
    offset = midpoints[:, :-2] - midpoints[:, -1:]
    chord = midpoints[:, 0] - midpoints[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (offset / chord[:, None]).transpose(2, 0, 1)
    side = y - x
    return ((side > 0).any(-1) & (side < 0).any(-1)) | (chord == 0).any(-1)

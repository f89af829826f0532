"""The nearest shape with the fourteen degrees of freedom that the labels have (see stages/chest/raw/structure.py)."""

from __future__ import annotations

import numpy as np

from stages.chest.raw.structure import shape_from_structure, structure_from_shape
from stages.chest.schema import AXIS_QUARTERS, BOTTOM, LEVELS, TOP


def project(points: np.ndarray) -> np.ndarray:
    """Points (N, 15, 2) of an isotropic frame -> shapes (N, 15, 2) with the structure.

    The axis is the straight line whose five points at their known shares lie nearest to the five given ones
    (least squares); contour points then move along the axis onto their perpendiculars. Offsets to the wrong
    side of the axis stay as they are, as the structure has none.
    """
    points = np.asarray(points, np.float64)
    share = np.array([LEVELS[0], *LEVELS[1:4], LEVELS[4]])
    given = points[:, [TOP, *AXIS_QUARTERS, BOTTOM]]
    design = np.stack([1 - share, share], axis=1)  # (5, 2)
    ends = np.einsum("ek,nkc->nec", np.linalg.pinv(design), given)
    straight = points.copy()
    straight[:, TOP], straight[:, BOTTOM] = ends[:, 0], ends[:, 1]
    return shape_from_structure(*structure_from_shape(straight))

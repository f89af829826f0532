"""Wing loss (Feng et al., CVPR 2018, eq. 5) for coordinates in pixels.

Its two parameters are lengths, so they only mean something beside errors in the same unit. Fed with
coordinates in [0, 1], the usual w = 10 is never reached and the loss is plain L1; here all is px at 224.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wing_loss(error_px: Tensor, width_px: float, curvature_px: float) -> Tensor:
    """Mean wing loss of coordinate differences of any shape.

        w * ln(1 + |d| / e)   if |d| < w        slope w / e at 0: small errors count more than in L1
        |d| - C               else              slope 1; C makes the two meet at |d| = w

    Args:
        error_px: predicted minus true coordinates.
        width_px, curvature_px: w and e, in the unit of `error_px`.
    """
    distance = error_px.abs()
    offset = width_px - width_px * math.log1p(width_px / curvature_px)
    near = width_px * torch.log1p(distance / curvature_px)
    return torch.where(distance < width_px, near, distance - offset).mean()

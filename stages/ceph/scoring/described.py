"""The uncertainty that the system description states, with its defect, to stand beside the project's own.

    u = 0.6 (1 - p1) + 0.4 (1 - (p1 - p2))        p1, p2: the two largest values of a heatmap

p2 is meant to be a second peak but is the neighbouring pixel, so that the second term is always near 0.4. A
perfect prediction between two pixels is then more uncertain than two equal peaks. It is measured under the
name `described` and is never picked.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

NAME = "described"
PEAK_WEIGHT, CLARITY_WEIGHT = 0.6, 0.4
GREEN_UNDER, RED_FROM = 0.4, 0.7
"""Bands of the described colours."""


def described_uncertainty(heights: np.ndarray) -> np.ndarray:
    """Heatmaps (..., h, w) of height 0 to 1 -> (...) uncertainty as described."""
    flat = heights.reshape(*heights.shape[:-2], -1)
    second, first = np.moveaxis(np.partition(flat, -2, axis=-1)[..., -2:], -1, 0)
    return PEAK_WEIGHT * (1 - first) + CLARITY_WEIGHT * (1 - (first - second))


def band(uncertainty: float) -> Literal["green", "yellow", "red"]:
    """The colour in which the description shows a point."""
    if uncertainty < GREEN_UNDER:
        return "green"
    return "yellow" if uncertainty < RED_FROM else "red"

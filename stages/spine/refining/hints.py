"""What a Refiner is told beside the film: points that a user (or the Corrector) is sure of, and its own last maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hints:
    """Hints for a batch of films.

    Attributes:
        points: (B, K, 2) in input px; NaN where there is no hint.
        previous: (B, K, h, w) activated maps of an earlier pass on the network's output grid, or None.
    """

    points: Tensor
    previous: Tensor | None = None

    @classmethod
    def none(cls, batch: int, n_points: int, device: torch.device | None = None) -> Hints:
        """No hints at all for `batch` films."""
        return cls(torch.full((batch, n_points, 2), torch.nan, device=device))

    @property
    def given(self) -> Tensor:
        """(B, K) bool: which points have a hint."""
        return torch.isfinite(self.points).all(-1)

    def mirrored(self, width: int, swap: Tensor) -> Hints:
        """The hints of the mirrored films (`width` input px wide): places mirrored, left and right exchanged."""
        x, y = self.points.unbind(-1)
        points = torch.stack((width - 1 - x, y), -1)[:, swap]
        return Hints(points, None if self.previous is None else self.previous.flip(-1)[:, swap])

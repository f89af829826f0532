"""From stored films to what a network reads, and the size of a network."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from stages.core.data import geometry


def to_input(images: np.ndarray, size: geometry.Size) -> np.ndarray:
    """Stored films (N, H, W) uint8 at the size (h, w) that the network reads: (N, h, w) uint8."""
    if images.shape[1:] == size:
        return np.asarray(images)
    resized = [geometry.resize(np.asarray(image), size) for image in images]
    return np.array(resized, np.uint8).reshape(-1, *size)


def as_input(films: Tensor) -> Tensor:
    """(B, H, W) uint8 films -> (B, 1, H, W) float32 in [-1, 1]."""
    return films.unsqueeze(1).float() / 127.5 - 1.0


def n_parameters(network: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in network.parameters())

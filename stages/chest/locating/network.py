"""Films to one distribution a landmark: a backbone, a mixer that sees the whole film, and a decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stages.chest.locating.settings import Network
from stages.core.errors import StageError
from stages.core.model.backbone import build_backbone
from stages.core.model.decoders import FlatDecoder, MixerBlock


class Locator(nn.Module):
    """Maps of `cell` px a cell for square pictures of `side` px, which the backbone's coarsest stride divides.

    Weights start at random; `core.model.imagenet` puts those of a package in place of the backbone's.
    """

    def __init__(self, built: Network, n_points: int, side: int) -> None:
        super().__init__()
        self.backbone = build_backbone(built.backbone, features_only=True, in_chans=1)
        info: Any = self.backbone.feature_info
        strides = list(info.reduction())
        if built.stride not in strides:
            raise StageError(
                f"backbone '{built.backbone}' has maps of strides {strides}, none of {built.stride}"
            )
        if side % strides[-1]:
            raise StageError(
                f"pictures of {side} px do not divide into the cells of {strides[-1]} px of '{built.backbone}'"
            )
        self._used = [i for i, s in enumerate(strides) if s >= built.stride]
        gathered = [info.channels()[i] for i in self._used]
        if side % built.cell:
            raise StageError(f"pictures of {side} px do not divide into bins of {built.cell} px")
        self.head = LocatorHead(gathered, side // strides[-1], built, n_points, side)
        # On a CPU 1.2 to 1.5 times faster than the default order of memory.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, films: Tensor) -> Tensor:
        """(B, 1, side, side) in [-1, 1] -> (B, K, side / cell, side / cell) logits."""
        maps = self.backbone(films.contiguous(memory_format=torch.channels_last))
        return self.head([maps[i] for i in self._used])


class LocatorHead(nn.Module):
    """Feature maps, finest first -> logits of the finest map's size, or of the axes' bins."""

    def __init__(self, gathered: list[int], cells: int, built: Network, n_points: int, side: int) -> None:
        super().__init__()
        width, places = gathered[-1], cells * cells
        self.cells = cells
        self.place = nn.Parameter(0.02 * torch.randn(1, places, width))
        self.mixers = nn.Sequential(*(MixerBlock(places, width) for _ in range(built.mixer_layers)))
        self.decoder = FlatDecoder(gathered, built.channels)
        self.last = nn.Conv2d(built.channels, n_points, 1)
        self.axes = Axes(side // built.stride, side // built.cell) if built.head == "axes" else nn.Identity()

    def forward(self, maps: list[Tensor]) -> Tensor:
        *finer, coarsest = maps
        mixed = self.mixers(coarsest.flatten(2).transpose(1, 2) + self.place)
        whole = mixed.transpose(1, 2).unflatten(2, (self.cells, self.cells))
        return self.axes(self.last(self.decoder([*finer, whole])))


class Axes(nn.Module):
    """One map a landmark -> its places along x and along y, as the logits of a map that is their product.

    The softmax of a sum of logits over rows and columns is the product of two distributions, and its
    cross-entropy against a Gaussian the sum of the two axes' own: the losses and codecs of maps serve as they are.
    """

    def __init__(self, cells: int, bins: int) -> None:
        super().__init__()
        self.along = nn.ModuleList([nn.Linear(cells * cells, bins), nn.Linear(cells * cells, bins)])

    def forward(self, maps: Tensor) -> Tensor:
        x, y = (axis(maps.flatten(2)) for axis in self.along)  # (B, K, bins)
        return y.unsqueeze(-1) + x.unsqueeze(-2)

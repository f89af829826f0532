"""Parts of heatmap networks: from a backbone's feature maps to one map at its finest stride."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FlatDecoder(nn.Module):
    """All maps, enlarged to the finest one's size, side by side."""

    def __init__(self, gathered: list[int], channels: int) -> None:
        super().__init__()
        self.gather = _convolution(sum(gathered), channels, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        finest, *coarser = maps
        enlarged = [F.interpolate(m, size=finest.shape[-2:], mode="bilinear") for m in coarser]
        return self.gather(torch.cat([finest, *enlarged], dim=1))


class PyramidDecoder(nn.Module):
    """From the coarsest map upwards, each finer one added on the way (Lin 2017, arXiv 1612.03144)."""

    def __init__(self, gathered: list[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in gathered])
        self.smooth = nn.ModuleList([_convolution(channels, channels, 3) for _ in gathered])

    def forward(self, maps: list[Tensor]) -> Tensor:
        above: Tensor | None = None
        for lateral, smooth, own in zip(
            reversed(self.lateral), reversed(self.smooth), reversed(maps), strict=True
        ):
            x = lateral(own)
            if above is not None:
                x = x + F.interpolate(above, size=x.shape[-2:], mode="bilinear")
            above = smooth(x)
        assert above is not None
        return above


class MixerBlock(nn.Module):
    """Mixes (B, N, C) across the N places, then across the C channels (Tolstikhin 2021, arXiv 2105.01601)."""

    def __init__(self, places: int, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels), nn.LayerNorm(channels)])
        self.across_places = _two_layers(places)
        self.across_channels = _two_layers(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across_places(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.across_channels(self.norms[1](x))


def _two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def _convolution(inner: int, outer: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    )

"""The heatmap network of the spine lane: one map a landmark from a multi-resolution backbone."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.spine.heatmap.architecture import Architecture


class HeatmapNetwork(nn.Module):
    """A timm backbone and a head that brings its feature maps to one stride and mixes them.

    Neighbouring vertebrae look alike, so that a network has to count them, from the first rib or the sacrum.
    Convolutions on few films learn to look no further than about half a film; the head's mixer, on the
    coarsest map, sees all of it. Weights start at random: nothing is downloaded.
    """

    def __init__(self, architecture: Architecture, n_points: int, size: geometry.Size) -> None:
        """`size` (height, width) is that of the films, in px; the backbone's coarsest stride divides it."""
        super().__init__()
        name, stride = architecture.backbone, architecture.stride
        # timm's HRNets widen their maps fourfold for classification unless told not to.
        plain: dict[str, Any] = {"feature_location": ""} if name.startswith("hrnet") else {}
        try:
            self.backbone = timm.create_model(name, pretrained=False, features_only=True, in_chans=1, **plain)
        except RuntimeError as error:
            raise StageError(f"timm cannot build the backbone '{name}': {error}") from None
        info: Any = self.backbone.feature_info
        strides = list(info.reduction())
        if stride not in strides:
            raise StageError(f"backbone '{name}' has maps of strides {strides}, none of {stride}")
        if any(side % strides[-1] for side in size):
            raise StageError(
                f"films of {size} px do not divide into the cells of {strides[-1]} px of '{name}'"
            )
        self._used = [i for i, s in enumerate(strides) if s >= stride]
        grid = (size[0] // strides[-1], size[1] // strides[-1])
        self.head = HeatmapHead([info.channels()[i] for i in self._used], grid, architecture, n_points)
        # On a CPU 1.2 to 1.5 times faster than the default order of memory.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, films: Tensor) -> Tensor:
        """(B, 1, H, W) films in [-1, 1] -> (B, K, H / stride, W / stride) logits."""
        maps = self.backbone(films.contiguous(memory_format=torch.channels_last))
        return self.head([maps[i] for i in self._used])


class HeatmapHead(nn.Module):
    """Feature maps, finest first -> heatmaps of the finest map's size."""

    def __init__(
        self, gathered: list[int], grid: tuple[int, int], architecture: Architecture, n_points: int
    ) -> None:
        super().__init__()
        width = gathered[-1]
        self.grid = grid
        self.place = nn.Parameter(0.02 * torch.randn(1, grid[0] * grid[1], width))
        self.mixers = nn.Sequential(
            *(MixerBlock(grid[0] * grid[1], width) for _ in range(architecture.mixer_layers))
        )
        self.convolutions = nn.Sequential(
            nn.Conv2d(sum(gathered), architecture.channels, 1, bias=False),
            nn.BatchNorm2d(architecture.channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(architecture.channels, n_points, 1),
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        *finer, coarsest = maps
        mixed = self.mixers(coarsest.flatten(2).transpose(1, 2) + self.place)
        finest, *coarser = [*finer, mixed.transpose(1, 2).unflatten(2, self.grid)]
        enlarged = [F.interpolate(m, size=finest.shape[-2:], mode="bilinear") for m in coarser]
        return self.convolutions(torch.cat([finest, *enlarged], dim=1))


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


def as_input(films: Tensor) -> Tensor:
    """(B, H, W) uint8 films -> (B, 1, H, W) float32 in [-1, 1]."""
    return films.unsqueeze(1).float() / 127.5 - 1.0


def n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())

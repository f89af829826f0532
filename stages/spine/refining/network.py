"""The Refiner in our own form: one distribution over the film a landmark, from a multi-resolution backbone."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.codecs import GaussianHeatmap
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.hints import Hints


class HeatmapNetwork(nn.Module):
    """A timm backbone, hints beside the film, and a head that brings the feature maps to one stride.

    Neighbouring vertebrae look alike, so that a network has to count them, from the first rib or the sacrum.
    Convolutions on few films learn to look no further than about half a film; the head's mixer, on the
    coarsest map, sees all of it. A hint reaches the network twice: drawn beside the film, and as coordinates
    into the coarsest map, so that one clicked point can move the whole spine.

    Weights start at random; `imagenet.start` puts those of a package in their place before training.
    """

    def __init__(self, architecture: Architecture, n_points: int, size: geometry.Size) -> None:
        """`size` (height, width) is that of the films, in px; the backbone's coarsest stride divides it."""
        super().__init__()
        name, stride = architecture.backbone, architecture.stride
        # timm's HRNets widen their maps fourfold for classification unless told not to.
        plain: dict[str, Any] = {"feature_location": ""} if name.startswith("hrnet") else {}
        channels = 1 + architecture.hint_channels
        try:
            self.backbone = timm.create_model(
                name, pretrained=False, features_only=True, in_chans=channels, **plain
            )
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
        gathered = [info.channels()[i] for i in self._used]
        grid = (size[0] // strides[-1], size[1] // strides[-1])
        self.hints = HintEncoder(architecture, n_points, size, gathered[-1])
        self.head = HeatmapHead(gathered, grid, architecture, n_points)
        # On a CPU 1.2 to 1.5 times faster than the default order of memory.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, films: Tensor, hints: Hints) -> Tensor:
        """(B, 1, H, W) films in [-1, 1] -> (B, K, H / stride, W / stride) logits."""
        drawn, whole = self.hints(hints)
        maps = self.backbone(torch.cat([films, drawn], 1).contiguous(memory_format=torch.channels_last))
        return self.head([maps[i] for i in self._used], whole)


class HintEncoder(nn.Module):
    """Hints and the maps of the last pass -> channels beside the film, and a vector for the coarsest map."""

    def __init__(self, architecture: Architecture, n_points: int, size: geometry.Size, width: int) -> None:
        super().__init__()
        self.size, self.stride = size, architecture.stride
        self.codec = GaussianHeatmap(
            sigma=architecture.hint_sigma, stride=architecture.stride, window=1, sharpness=1.0
        )
        self.drawn = nn.Conv2d(2 * n_points, architecture.hint_channels, 1, bias=False)
        self.whole = nn.Sequential(nn.Linear(3 * n_points, 128), nn.GELU(), nn.Linear(128, width))

    def forward(self, hints: Hints) -> tuple[Tensor, Tensor]:
        """-> (B, hint_channels, H, W) and (B, width)."""
        points = hints.points.float()
        maps = self.codec.encode(points, self.size)
        previous = torch.zeros_like(maps) if hints.previous is None else hints.previous
        drawn = self.drawn(torch.cat([previous, maps], 1))
        sides = points.new_tensor([self.size[1], self.size[0]])
        places = (2 * points / sides - 1).nan_to_num(0.0)
        told = torch.cat([places, hints.given.unsqueeze(-1).to(places.dtype)], -1)
        return F.interpolate(drawn, size=self.size, mode="bilinear"), self.whole(told.flatten(1))


class HeatmapHead(nn.Module):
    """Feature maps, finest first -> logits of the finest map's size."""

    def __init__(
        self, gathered: list[int], grid: tuple[int, int], architecture: Architecture, n_points: int
    ) -> None:
        super().__init__()
        width, channels = gathered[-1], architecture.channels
        self.grid = grid
        self.place = nn.Parameter(0.02 * torch.randn(1, grid[0] * grid[1], width))
        self.mixers = nn.Sequential(
            *(MixerBlock(grid[0] * grid[1], width) for _ in range(architecture.mixer_layers))
        )
        self.decoder: nn.Module
        if architecture.decoder == "flat":
            self.decoder = FlatDecoder(gathered, channels)
        else:
            self.decoder = PyramidDecoder(gathered, channels)
        self.last = nn.Conv2d(channels, n_points, 1)

    def forward(self, maps: list[Tensor], whole: Tensor) -> Tensor:
        *finer, coarsest = maps
        mixed = self.mixers(coarsest.flatten(2).transpose(1, 2) + self.place + whole.unsqueeze(1))
        return self.last(self.decoder([*finer, mixed.transpose(1, 2).unflatten(2, self.grid)]))


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


def as_input(films: Tensor) -> Tensor:
    """(B, H, W) uint8 films -> (B, 1, H, W) float32 in [-1, 1]."""
    return films.unsqueeze(1).float() / 127.5 - 1.0


def n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())

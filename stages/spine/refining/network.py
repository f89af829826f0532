"""The Refiner in our own form: one distribution over the film a landmark, from a multi-resolution backbone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.backbone import build_backbone
from stages.core.model.codecs import GaussianHeatmap
from stages.core.model.decoders import FlatDecoder, MixerBlock, PyramidDecoder
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.hints import Hints


class HeatmapNetwork(nn.Module):
    """A timm backbone, hints beside the film, and a head that brings the feature maps to one stride.

    Neighbouring vertebrae look alike, so that a network has to count them, from the first rib or the sacrum.
    Convolutions on few films learn to look no further than about half a film; the head's mixer, on the
    coarsest map, sees all of it. A hint reaches the network twice: drawn beside the film, and as coordinates
    into the coarsest map, so that one clicked point can move the whole spine.

    Weights start at random; `imagenet.load` puts those of a package in place of the backbone's before training.
    """

    def __init__(self, architecture: Architecture, n_points: int, size: geometry.Size) -> None:
        """`size` (height, width) is that of the films, in px; the backbone's coarsest stride divides it."""
        super().__init__()
        name, stride = architecture.backbone, architecture.stride
        # timm's HRNets widen their maps fourfold for classification unless told not to.
        plain: dict[str, Any] = {"feature_location": ""} if name.startswith("hrnet") else {}
        channels = 1 + architecture.hint_channels
        self.backbone = build_backbone(name, features_only=True, in_chans=channels, **plain)
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

"""Films to one map a landmark: the plain U-Net of the system description, and a lighter one that knows ImageNet."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.ceph.locating.settings import Network
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model import imagenet
from stages.core.model.backbone import build_backbone


class LandmarkNetwork(nn.Module):
    """(B, 1, H, W) films in [-1, 1] -> (B, K, H / stride, W / stride) maps before their activation.

    Its parts `backbone` and `head` have learning rates of their own.
    """

    backbone: nn.Module
    head: nn.Module
    divisor: int
    """of the sides of a film, px"""

    def groups(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "head": self.head}


def build_network(built: Network, n_points: int, size: geometry.Size) -> LandmarkNetwork:
    """The network of `built` for films of `size`, with random weights, on the CPU.

    Raises:
        StageError: the backbone does not exist, or its maps fit neither the size nor the widths.
    """
    network = UNet(built, n_points) if built.form == "unet" else EfficientUNet(built, n_points)
    if any(side % network.divisor for side in size):
        raise StageError(
            f"films of {size[0]} x {size[1]} px do not divide into the network's cells of {network.divisor} px"
        )
    # On a CPU 1.2 to 1.5 times faster than the default order of memory.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def start_weights(network: LandmarkNetwork, built: Network) -> None:
    """Shipped weights for the backbone where `built` asks for them."""
    if built.weights == "imagenet":
        imagenet.load(network.backbone, built.backbone)


class EfficientUNet(LandmarkNetwork):
    """A timm backbone, and a decoder that adds each finer map on its way up (Lin 2017, arXiv 1612.03144).

    Widths fall towards the finest map, where nearly all cells are.
    """

    def __init__(self, built: Network, n_points: int) -> None:
        super().__init__()
        self.backbone = build_backbone(built.backbone, features_only=True, in_chans=1)
        info: Any = self.backbone.feature_info
        strides = list(info.reduction())
        self._used = [i for i, s in enumerate(strides) if s >= built.stride]
        if built.stride not in strides or len(built.channels) != len(self._used):
            raise StageError(
                f"backbone '{built.backbone}' has maps of strides {strides}: set network.stride to one of them "
                f"and give as many channels as there are from it on, not {len(built.channels)} at {built.stride}"
            )
        # Coarser maps are enlarged to the next finer one's size, whatever it is.
        self.divisor = built.stride
        self.head = PyramidHead([info.channels()[i] for i in self._used], built, n_points)

    def forward(self, films: Tensor) -> Tensor:
        maps = self.backbone(films.contiguous(memory_format=torch.channels_last))
        return self.head([maps[i] for i in self._used])


class PyramidHead(nn.Module):
    """Feature maps, finest first -> K maps of the finest one's size."""

    def __init__(self, gathered: list[int], built: Network, n_points: int) -> None:
        super().__init__()
        widths = built.channels
        self.lateral = nn.ModuleList(
            nn.Conv2d(theirs, ours, 1) for theirs, ours in zip(gathered, widths, strict=True)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.smooth = nn.ModuleList(_convolution(width, width) for width in widths)
        self.drop = nn.Dropout2d(built.dropout)
        self.last = nn.Conv2d(widths[0], n_points, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.smooth[-1](self.lateral[-1](maps[-1]))
        for level in reversed(range(len(maps) - 1)):
            own = self.lateral[level](maps[level])
            above = F.interpolate(self.narrow[level](x), size=own.shape[-2:], mode="bilinear")
            x = self.smooth[level](own + above)
        return self.last(self.drop(x))


class UNet(LandmarkNetwork):
    """Two 3 x 3 convolutions a level, halved and doubled, widths 64 to 1024 (Ronneberger 2015, arXiv 1505.04597).

    Padded and with batch normalisation, as nearly every implementation since.
    """

    def __init__(self, built: Network, n_points: int) -> None:
        super().__init__()
        self.divisor = 2 ** (len(built.channels) - 1)
        self.backbone = UNetEncoder(built.channels)
        self.head = UNetDecoder(built.channels, built.dropout, n_points)

    def forward(self, films: Tensor) -> Tensor:
        return self.head(self.backbone(films.contiguous(memory_format=torch.channels_last)))


class UNetEncoder(nn.Module):
    """Films -> one feature map a level, finest first."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _two_convolutions(inner, outer) for inner, outer in zip((1, *widths), widths, strict=False)
        )

    def forward(self, films: Tensor) -> list[Tensor]:
        maps = [self.levels[0](films)]
        for level in self.levels[1:]:
            maps.append(level(F.max_pool2d(maps[-1], 2)))
        return maps


class UNetDecoder(nn.Module):
    """Feature maps, finest first -> K maps of the finest one's size."""

    def __init__(self, widths: tuple[int, ...], dropout: float, n_points: int) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps)
        self.joined = nn.ModuleList(_two_convolutions(2 * fine, fine) for fine, _ in steps)
        self.drop = nn.Dropout2d(dropout)
        self.last = nn.Conv2d(widths[0], n_points, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for level in reversed(range(len(maps) - 1)):
            x = self.joined[level](torch.cat([maps[level], self.up[level](x)], 1))
        return self.last(self.drop(x))


def _convolution(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)
    )


def _two_convolutions(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(_convolution(inner, outer), _convolution(outer, outer))

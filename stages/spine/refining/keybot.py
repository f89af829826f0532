"""KeyBot's Refiner: HRNet with object context, told by hints (arXiv 2209.07163 and 2409.03261).

The film's features at stride 2 are joined by encoded hints; a gate that sees the hints weighs the channels of
the four resolutions; an auxiliary head says roughly where the landmarks are, and the main one looks from every
cell at what the film holds there. Both heads give logits at stride 4, which the reference enlarges to the
film's size before its losses: see `full_size`, and keybot_loss for the same values at less cost.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.backbone import build_backbone
from stages.spine.refining.hints import Hints
from stages.spine.refining.keybot_parts import (
    HintEncoder,
    InteractionGate,
    ObjectContext,
    convolve_joined,
    enlarge,
    hint_maps,
)

COARSEST = 32
"""Stride of the coarsest of an HRNet's four maps: it divides the film's sides."""


class KeyBotRefiner(nn.Module):
    """HRNet-W32, hint encoder, gate and OCR; 32,942,889 parameters with 68 points.

    Weights start at random: nothing is downloaded.
    """

    def __init__(
        self,
        n_points: int,
        backbone: str = "hrnet_w32",
        ocr_width: int = 128,
        gate_width: int = 256,
        hint_sigma: float = 7.5,
    ) -> None:
        """Any HRNet of timm; narrower `ocr_width` and `gate_width` (a multiple of 16) suit narrower ones.

        Args:
            hint_sigma: standard deviation of a hint's Gaussian, in input px.
        Raises:
            StageError: if timm knows no such HRNet.
        """
        super().__init__()
        self.hint_sigma = hint_sigma
        self.body, self.first = _hrnet(backbone)
        info: Any = self.body.feature_info
        stem, *widths = info.channels()
        gathered, pixels = sum(widths), 2 * ocr_width
        first_width = self.body.transition1[0][0].in_channels
        self.hint_encoder = HintEncoder(n_points, stem, hint_sigma)
        self.gate = InteractionGate(first_width, n_points, gate_width, gathered)
        self.auxiliary = nn.Sequential(
            nn.Conv2d(gathered, gathered, 1),
            nn.BatchNorm2d(gathered),
            nn.ReLU(inplace=True),
            nn.Conv2d(gathered, n_points, 1),
        )
        self.pixels = nn.Sequential(
            nn.Conv2d(gathered, pixels, 3, padding=1), nn.BatchNorm2d(pixels), nn.ReLU(inplace=True)
        )
        self.context = ObjectContext(pixels, ocr_width)
        self.main = nn.Conv2d(pixels, n_points, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, films: Tensor, hints: Hints) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) films in [-1, 1] and hints -> main and auxiliary logits (B, K, H / 4, W / 4).

        Raises:
            StageError: if the coarsest cells do not divide the films.
        """
        size = films.shape[-2], films.shape[-1]
        if any(side % COARSEST for side in size):
            raise StageError(f"films of {size} px do not divide into the cells of {COARSEST} px of an HRNet")
        hints = Hints(hints.points.to(films.dtype), hints.previous)
        stem = self.body.conv1
        # Three equal channels through a convolution are one through the sum of its weights.
        summed = stem.weight.sum(1, keepdim=True)
        grey = F.conv2d(films, summed, stem.bias, stride=stem.stride, padding=stem.padding)
        features = self.body.act1(self.body.bn1(grey)) + self.hint_encoder(hints, size)
        first = self.first_stage(features)
        grid = first.shape[-2], first.shape[-1]
        gate = self.gate(first, hint_maps(hints, size, self.hint_sigma, grid))
        # A gate weighs whole channels, so that it may do so before they are enlarged.
        maps = [m * g for m, g in zip(self.body.stages(first), self._by_map(gate), strict=True)]
        joined: Any = self.auxiliary[0]
        near: Any = self.pixels[0]
        auxiliary = self.auxiliary[1:](convolve_joined(maps, joined.weight, joined.bias))
        pixels = self.pixels[1:](convolve_joined(maps, near.weight, near.bias))
        return self.main(self.context(pixels, auxiliary)), auxiliary

    def first_stage(self, features: Tensor) -> Tensor:
        """Features at stride 2, hints among them, -> those at stride 4 that the gate reads."""
        body = self.body
        return self.first(body.act2(body.bn2(body.conv2(features))))

    def _by_map(self, gate: Tensor) -> tuple[Tensor, ...]:
        info: Any = self.body.feature_info
        return gate.split(info.channels()[1:], dim=1)


def full_size(logits: Tensor, size: geometry.Size) -> Tensor:
    """(B, K, h, w) logits -> (B, K, H, W) at the film's size, as the reference's losses see them."""
    return enlarge(logits, size)


def folded(network: KeyBotRefiner) -> KeyBotRefiner:
    """A copy for prediction whose normalisations are part of the convolutions before them.

    The same values but for rounding, with some 300 passes over maps fewer. It cannot be trained.
    """
    copied = copy.deepcopy(network).eval()
    for module in list(copied.modules()):
        children = list(module.named_children())
        for (name, first), (after, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, after, nn.Identity())
    return copied.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _hrnet(name: str) -> tuple[Any, nn.Module]:
    """An HRNet with the reference's interpolation, and its first stage apart, for the gate reads its output."""
    if not name.startswith("hrnet"):
        raise StageError(f"'{name}' is no HRNet: choose a timm backbone whose name begins with hrnet")
    body: Any = build_backbone(name, features_only=True, feature_location="")
    for module in list(body.modules()):
        for child, layer in module.named_children():
            if isinstance(layer, nn.Upsample):
                smooth = nn.Upsample(scale_factor=layer.scale_factor, mode="bilinear", align_corners=True)
                setattr(module, child, smooth)
    first, body.layer1 = body.layer1, nn.Identity()
    return body, first

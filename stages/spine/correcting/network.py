"""The Corrector's networks: where should the points of this film be, if those given may be wrong?

All take films (B, 1, h, w) in [-1, 1] and points (B, K, 2) in their px, give logits (B, K, rows, columns), and
have a codec that reads them. `average_mirror` asks a reader to average a film's maps with its mirror's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_resnet50

from stages.core.data.schema import LandmarkSchema
from stages.core.model.codecs import GaussianHeatmap, SoftmaxHeatmap
from stages.spine.correcting.architecture import Architecture
from stages.spine.refining.hints import Hints
from stages.spine.refining.network import HeatmapNetwork

WINDOW, SHARPNESS = 15, 10.0
"""How the reference reads its sigmoid maps; see GaussianHeatmap."""


def build_network(architecture: Architecture, schema: LandmarkSchema) -> DeepLabCorrector | HeatmapCorrector:
    """The network that `architecture` describes, with random weights: nothing is downloaded."""
    kind = DeepLabCorrector if architecture.form == "deeplab" else HeatmapCorrector
    return kind(architecture, schema)


class DeepLabCorrector(nn.Module):
    """DeepLabv3 on the film and a Gaussian a point, as published (KeyBot, arXiv 2409.03261)."""

    def __init__(self, architecture: Architecture, schema: LandmarkSchema) -> None:
        super().__init__()
        self.film_channels = architecture.film_channels
        self.average_mirror = False
        self.codec = GaussianHeatmap(sigma=architecture.sigma, stride=1, window=WINDOW, sharpness=SHARPNESS)
        # aux_loss=False leaves the auxiliary head out, which neither the published network nor we train.
        self.network = deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=schema.n_points, aux_loss=False
        )
        backbone: Any = self.network.backbone
        channels = architecture.film_channels + schema.n_points
        backbone["conv1"] = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)

    def forward(self, films: Tensor, points: Tensor) -> Tensor:
        maps = self.codec.encode(points, (films.shape[-2], films.shape[-1]))
        seen = torch.cat([films.expand(-1, self.film_channels, -1, -1), maps], 1)
        return self.network(seen)["out"]


class HeatmapCorrector(nn.Module):
    """A Refiner's network without hints: the points that may be wrong stand where its last maps would."""

    def __init__(self, architecture: Architecture, schema: LandmarkSchema) -> None:
        super().__init__()
        built = architecture.heatmaps
        self.average_mirror = built.average_mirror
        self.size = architecture.input.size
        self.codec = SoftmaxHeatmap(sigma=built.sigma, stride=built.stride)
        self.drawn = GaussianHeatmap(sigma=architecture.sigma, stride=built.stride, window=1, sharpness=1.0)
        self.network = HeatmapNetwork(built, schema.n_points, self.size)

    def forward(self, films: Tensor, points: Tensor) -> Tensor:
        none = Hints.none(len(points), points.shape[1], points.device)
        return self.network(films, Hints(none.points, self.drawn.encode(points, self.size)))

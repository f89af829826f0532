"""The Detector's networks: which of the points that lie on this film are wrong?

Both take films (B, 1, H, W) in [0, 1] and points (B, K, 2) in their px, and have

    network(films, points)            -> (B, K) logits, above 0: more likely wrong than right
    network.asked(films, points, rng) -> (B, M) logits and the points that they are of, for training
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.model.backbone import build_backbone
from stages.core.model.codecs import GaussianHeatmap
from stages.spine.checking.architecture import Architecture
from stages.spine.schema import CORNERS

LEAST_BOX = 4.0
"""px of the film; points that lie on one another still get a crop"""
SAMPLES = 2
"""per side of a crop's cell"""
NARROW = 32
"""channels to which the maps of the backbone are brought"""
HIDDEN = 256
LOCAL_STRIDES = (4, 8, 16)
"""of the maps in which a point looks about itself"""


def build_network(architecture: Architecture, schema: LandmarkSchema) -> WindowDetector | GlobalDetector:
    """The network that `architecture` describes, with random weights: nothing is downloaded."""
    kind = WindowDetector if architecture.form == "windows" else GlobalDetector
    return kind(architecture, schema)


class WindowDetector(nn.Module):
    """Judges every run of `vertebrae` consecutive vertebrae on a crop around where they are said to be.

    Crop and Gaussians of the points go into one classifier with an output a point (KeyBot, arXiv 2409.03261).
    Inner vertebrae lie in several windows: a point is as wrong as the most suspicious of them finds it.
    """

    members: Tensor

    def __init__(self, architecture: Architecture, schema: LandmarkSchema) -> None:
        super().__init__()
        n_vertebrae, run = schema.n_points // len(CORNERS), architecture.vertebrae
        if run > n_vertebrae:
            raise StageError(f"windows of {run} vertebrae do not fit into a spine of {n_vertebrae}")
        self.architecture = architecture
        width = run * len(CORNERS)
        starts = torch.arange(n_vertebrae - run + 1) * len(CORNERS)
        self.register_buffer("members", starts[:, None] + torch.arange(width), persistent=False)
        self.classifier = build_backbone(
            architecture.backbone, in_chans=architecture.film_channels + width, num_classes=width
        )

    def forward(self, films: Tensor, points: Tensor) -> Tensor:
        windows = torch.arange(len(self.members), device=points.device).expand(len(points), -1)
        logits, index = self._judge(films, points, windows)
        highest = logits.new_full(points.shape[:2], -torch.inf)
        return highest.scatter_reduce(1, index, logits, "amax")

    def asked(self, films: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Logits (B, M) of `per_film` random windows a film, and the points (B, M) that they are of."""
        n = min(self.architecture.per_film, len(self.members))
        drawn = np.stack([rng.choice(len(self.members), n, replace=False) for _ in range(len(points))])
        return self._judge(films, points, torch.from_numpy(drawn).to(points.device))

    def _judge(self, films: Tensor, points: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (B, w) of each film -> (B, w * P) logits and indices of points."""
        index = self.members[windows].flatten(1)
        chosen = points.gather(1, index.unsqueeze(-1).expand(-1, -1, 2)).unflatten(1, (windows.shape[1], -1))
        crops, places = crop(films, chosen, self.architecture.margin, self.architecture.side)
        maps = _gaussians(places, (self.architecture.side,) * 2, self.architecture.sigma)
        seen = torch.cat([_grey(crops, self.architecture.film_channels), maps], 1)
        return self.classifier(seen).view(len(points), -1), index


class GlobalDetector(nn.Module):
    """Judges all points at once on the whole film, one Gaussian a point beside it.

    A point's logit is the sum of two opinions. One looks at the whole: the backbone's last map, not averaged,
    since where something is seen decides which point it speaks of, and the coordinates of all points, which
    show where they do not go together. The other looks at what the finer maps hold where the point lies.
    """

    def __init__(self, architecture: Architecture, schema: LandmarkSchema) -> None:
        super().__init__()
        self.architecture = architecture
        self.size = architecture.input.size
        channels = architecture.film_channels + schema.n_points
        self.backbone = build_backbone(architecture.backbone, in_chans=channels, features_only=True)
        info: Any = self.backbone.feature_info
        strides, widths = list(info.reduction()), list(info.channels())
        if any(side % strides[-1] for side in self.size):
            raise StageError(
                f"films of {self.size} px do not divide into the cells of {strides[-1]} px of "
                f"'{architecture.backbone}'"
            )
        cells = (self.size[0] // strides[-1]) * (self.size[1] // strides[-1])
        self.seen = nn.Sequential(_narrow(widths[-1]), nn.Flatten(), nn.Linear(NARROW * cells, HIDDEN))
        self.told = nn.Sequential(
            nn.Linear(2 * schema.n_points, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN)
        )
        self.whole = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, schema.n_points))
        self.strides = {i: stride for i, stride in enumerate(strides) if stride in LOCAL_STRIDES}
        self.narrow = nn.ModuleList([_narrow(widths[i]) for i in self.strides])
        self.who = nn.Parameter(torch.zeros(schema.n_points, HIDDEN))
        self.near = nn.Linear(NARROW * len(self.strides), HIDDEN)
        self.local = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, 1))

    def forward(self, films: Tensor, points: Tensor) -> Tensor:
        drawn = _gaussians(points, self.size, self.architecture.sigma)
        maps = self.backbone(torch.cat([_grey(films, self.architecture.film_channels), drawn], 1))
        places = 2 * points / points.new_tensor([self.size[1], self.size[0]]) - 1
        whole = self.seen(maps[-1]) + self.told(places.flatten(1))
        found = [
            look(narrow(maps[i]), points, self.size, stride, self.architecture.sigma)
            for (i, stride), narrow in zip(self.strides.items(), self.narrow, strict=True)
        ]
        near = self.near(torch.cat(found, -1)) + self.who
        return self.whole(whole) + self.local(near).squeeze(-1)

    def asked(self, films: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Logits (B, K) of all points, and their indices."""
        index = torch.arange(points.shape[1], device=points.device).expand(len(points), -1)
        return self(films, points), index


def crop(films: Tensor, points: Tensor, margin: float, side: int) -> tuple[Tensor, Tensor]:
    """Crops around groups of points, each stretched to a square.

    A crop is the tight box of its points plus `margin` of its extent on every side; what lies outside the
    film is black.

    Args:
        films: (B, C, H, W).
        points: (B, w, P, 2) in px of the films; w groups a film.
    Returns:
        Crops (B * w, C, side, side), and the points (B * w, P, 2) in px of their crops.
    """
    low, high = points.amin(2), points.amax(2)  # (B, w, 2)
    extent = (high - low).clamp_min(LEAST_BOX) * (1 + 2 * margin)
    start = (low + high - extent) / 2
    film = torch.arange(len(films), device=films.device, dtype=films.dtype).repeat_interleave(points.shape[1])
    # roi_align counts from a film's outer edge, points from the centre of its first pixel.
    boxes = torch.cat([start, start + extent], -1).flatten(0, 1) + 0.5
    # SAMPLES is fixed: with as many as a box needs, CUDA's deterministic form takes far too much memory.
    crops = roi_align(
        films, torch.cat([film[:, None], boxes], 1), (side, side), sampling_ratio=SAMPLES, aligned=True
    )
    places = (points - start.unsqueeze(2)) * (side / extent).unsqueeze(2) - 0.5
    return crops, places.flatten(0, 1)


def look(features: Tensor, points: Tensor, size: tuple[int, int], stride: int, sigma: float) -> Tensor:
    """What a map holds around points: (B, C, h, w) and (B, K, 2) in px of films of `size` -> (B, K, C).

    A mean under a Gaussian of `sigma` px, no narrower than half a cell. A point far off the film sees zeros.
    """
    codec = GaussianHeatmap(sigma=max(sigma, stride / 2), stride=stride, window=1, sharpness=1.0)
    weight = codec.encode(points, size).flatten(2).to(features.dtype)
    total = weight.sum(-1, keepdim=True).clamp_min(1e-6)
    return (weight / total) @ features.flatten(2).transpose(1, 2)


def _narrow(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, NARROW, 1, bias=False), nn.BatchNorm2d(NARROW), nn.ReLU(inplace=True)
    )


def _gaussians(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """(B, P, 2) points -> (B, P, H, W) with height 1."""
    return GaussianHeatmap(sigma=sigma, stride=1, window=1, sharpness=1.0).encode(points, size)


def _grey(films: Tensor, channels: int) -> Tensor:
    """(B, 1, H, W) in [0, 1] -> (B, channels, H, W) in [-1, 1]."""
    return (2 * films - 1).expand(-1, channels, -1, -1)

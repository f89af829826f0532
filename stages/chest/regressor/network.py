"""A residual network that regresses coordinates directly (He et al., CVPR 2016, basic blocks).

    film (B, C, h, w) -> stem -> 4 stages -> global average -> dropout, linear, ReLU ... -> sigmoid -> points

With the `Architecture` (3, (64, 128, 256, 512), (2, 2, 2, 2), (512, 256), 0.5) this is the ResNet-18
regressor that the system's descriptions give, with 11,578,206 parameters. The average over the film drops
where things are, so the head has to read positions from channel averages: a known weakness of this design.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.chest.regressor.architecture import Architecture


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class LandmarkRegressor(nn.Module):
    """Films to points.

    Args:
        architecture: size of the network.
        n_points: landmarks per film.
    """

    def __init__(self, architecture: Architecture, n_points: int) -> None:
        super().__init__()
        self.film_channels, self.n_points = architecture.film_channels, n_points
        self.backbone = build_backbone(architecture)
        self.head = build_head(architecture, 2 * n_points)

    def forward(self, films: Tensor) -> Tensor:
        """Films (B, h, w) in [0, 1] -> points (B, K, 2) in their pixels, never off the film."""
        height, width = films.shape[-2:]
        x = ((films - 0.5) / 0.25)[:, None].expand(-1, self.film_channels, -1, -1)
        shares = self.head(self.backbone(x)).reshape(-1, self.n_points, 2)
        size = shares.new_tensor([width, height])
        return (size - 1) / 2 + (shares - 0.5) * size  # (B, K, 2)

    @torch.no_grad()
    def start_at(self, shape: Tensor, height: int, width: int) -> None:
        """Have an untrained network answer about `shape` (K, 2), in px of films of (height, width)."""
        size = shape.new_tensor([width, height])
        shares = (0.5 + (shape - (size - 1) / 2) / size).clamp(0.01, 0.99)
        last = self.head[-2]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(torch.logit(shares).flatten())
        last.weight.mul_(0.1)


def build_backbone(architecture: Architecture) -> nn.Sequential:
    """Stem, four stages of residual blocks (each but the first halves the film) and the global average."""
    first = architecture.channels[0]
    layers: list[nn.Module] = [
        nn.Conv2d(architecture.film_channels, first, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    channels_in = first
    for stage, (channels, blocks) in enumerate(zip(architecture.channels, architecture.blocks, strict=True)):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(channels_in, channels, stride))
            channels_in = channels
    backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


def build_head(architecture: Architecture, outputs: int) -> nn.Sequential:
    """Dropout and linear layers with ReLU between them; the sigmoid keeps every point on the film."""
    layers: list[nn.Module] = []
    width, dropout = architecture.channels[-1], architecture.dropout
    for hidden in architecture.hidden:
        layers += [nn.Dropout(dropout), nn.Linear(width, hidden), nn.ReLU()]
        width, dropout = hidden, dropout / 2
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width, outputs), nn.Sigmoid())


def n_parameters(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in module.parameters())

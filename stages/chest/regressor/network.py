"""A residual network that regresses coordinates directly (He et al., CVPR 2016, basic blocks).

    film (B, C, h, w) -> stem -> 4 stages [-> attention] -> global average -> dropout, linear, ReLU ...
                                                                           -> sigmoid -> points

With the `Architecture` (3, (64, 128, 256, 512), (2, 2, 2, 2), (512, 256), 0.5) this is the ResNet-18
regressor that the system's descriptions give, with 11,578,206 parameters, and 25,648 more with attention. The
average over the film drops where things are, so the head has to read positions from channel averages: a known
weakness of this design. The spatial head keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.chest.regressor.architecture import Architecture
from stages.chest.regressor.attention import CoordinateAttention
from stages.core.model.inputs import n_parameters


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
        self.architecture, self.n_points = architecture, n_points
        last = architecture.channels[-1]
        self.backbone = build_backbone(architecture)
        self.attention = CoordinateAttention(last) if architecture.attention else nn.Identity()
        spatial = architecture.head == "spatial"
        self.head = SpatialHead(last, n_points) if spatial else build_head(architecture, 2 * n_points)

    @property
    def groups(self) -> dict[str, nn.Module]:
        """The parts that have a learning rate of their own: backbone, attention where there is one, head."""
        parts = {"backbone": self.backbone, "attention": self.attention, "head": self.head}
        return {name: part for name, part in parts.items() if n_parameters(part)}

    def forward(self, films: Tensor) -> Tensor:
        """Films (B, h, w) in [0, 1] -> points (B, K, 2) in their pixels, never off the film."""
        height, width = films.shape[-2:]
        grey = ((films - 0.5) / 0.25)[:, None].expand(-1, self.architecture.film_channels, -1, -1)
        shares = self.head(self.attention(self.backbone(grey))).reshape(-1, self.n_points, 2)
        x, y = shares.unbind(2)
        return torch.stack(((x - 0.5) * width + (width - 1) / 2, (y - 0.5) * height + (height - 1) / 2), 2)

    @torch.no_grad()
    def start_at(self, shape: Tensor, height: int, width: int) -> None:
        """Have an untrained network answer about `shape` (K, 2), in px of films of (height, width).

        A spatial head has no such constant and starts at the middle of the film.
        """
        if isinstance(self.head, SpatialHead):
            return
        size = shape.new_tensor([width, height])
        shares = (0.5 + (shape - (size - 1) / 2) / size).clamp(0.01, 0.99)
        last = self.head[-2]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(torch.logit(shares).flatten())
        last.weight.mul_(0.1)

    def continue_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over a parent's weights. Attention that the parent lacks keeps its own, fresh ones.

        Raises:
            RuntimeError: naming every other weight that is missing, left over or of another shape.
        """
        fresh = {
            n: v for n, v in self.state_dict().items() if n.startswith("attention.") and n not in weights
        }
        self.load_state_dict({**weights, **fresh})


def build_backbone(architecture: Architecture) -> nn.Sequential:
    """Stem and four stages of residual blocks (each but the first halves the map): to (B, C, h / 32, w / 32)."""
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
    backbone = nn.Sequential(*layers)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


class SpatialHead(nn.Module):
    """A map for each point, a softmax over its places, and the mean place (Nibali et al., 2018).

    Places run from edge to edge of the film, not from centre to centre of the map's cells: the mean of places
    never leaves them, and on a map of few cells the film's border would be out of reach.
    """

    def __init__(self, channels: int, n_points: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, n_points, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) -> (B, K, 2) places as shares of the film's width and height."""
        chance = self.maps(x).flatten(2).softmax(2).unflatten(2, x.shape[-2:])  # (B, K, h, w)
        columns, rows = (torch.linspace(0, 1, n, dtype=x.dtype, device=x.device) for n in x.shape[:1:-1])
        return torch.stack(((chance.sum(2) * columns).sum(2), (chance.sum(3) * rows).sum(2)), 2)


def build_head(architecture: Architecture, outputs: int) -> nn.Sequential:
    """Average, then dropout and linear layers with ReLU between them; the sigmoid keeps points on the film."""
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    width, dropout = architecture.channels[-1], architecture.dropout
    for hidden in architecture.hidden:
        layers += [nn.Dropout(dropout), nn.Linear(width, hidden), nn.ReLU()]
        width, dropout = hidden, dropout / 2
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width, outputs), nn.Sigmoid())

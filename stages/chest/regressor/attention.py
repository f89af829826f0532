"""Coordinate attention (Hou et al., CVPR 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION, LEAST = 32, 8


class CoordinateAttention(nn.Module):
    """Weights each row and each column of a map, channel by channel.

        map (B, C, h, w) -> means of rows (h) and columns (w) -> one squeezed strip of h + w places
                         -> a weight a row and a weight a column, both in (0, 1) -> map times both

    ReLU follows the normalisation where the paper has h-swish: so has the system that is compared with.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(LEAST, channels // REDUCTION)
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.norm = nn.BatchNorm2d(squeezed)
        self.rows = nn.Conv2d(squeezed, channels, 1)
        self.columns = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        strips = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)
        squeezed = torch.relu(self.norm(self.squeeze(strips)))  # (B, squeezed, h + w, 1)
        rows, columns = squeezed.split([height, width], 2)
        return x * torch.sigmoid(self.rows(rows)) * torch.sigmoid(self.columns(columns.transpose(2, 3)))

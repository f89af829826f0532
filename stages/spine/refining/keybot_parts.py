"""Parts of KeyBot's Refiner: its hint encoder, its interaction gate, its OCR heads, and products of enlarged maps.

Enlarging here is bilinear with aligned corners, as in the reference: the outer cells' centres fall on the
outer pixels' centres. It is linear and works on rows and columns apart,

    enlarged = rows @ map @ columns.T        rows (H, h) and columns (W, w) of `enlarging`

so that whatever linear follows it can be done on the small map first, at the same value.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.core.data import geometry
from stages.spine.refining.hints import Hints


def enlarging(count: int, cells: int, like: Tensor) -> Tensor:
    """(count, cells) weights of linear interpolation with aligned corners; each row sums to 1."""
    unit = torch.eye(cells, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], size=count, mode="linear", align_corners=True)[0].T


def enlarge(maps: Tensor, size: geometry.Size) -> Tensor:
    """(B, C, h, w) -> (B, C, H, W), bilinear with aligned corners."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def convolve_joined(maps: list[Tensor], weight: Tensor, bias: Tensor | None, direct: int = 2) -> Tensor:
    """The convolution of all maps, enlarged to the first and joined: (B, O, H, W).

    Only the first `direct` maps are enlarged. Every tap of the kernel multiplies the small other maps, and
    what it gives, shifted by the tap's place, is enlarged by products of matrices. That costs a small part
    of a convolution at full size once a map is four times smaller than the first.

    Args:
        maps: (B, C_i, h_i, w_i), finest first.
        weight: (O, sum of C_i, k, k) with odd k; the padding is k // 2.
    """
    size = maps[0].shape[-2], maps[0].shape[-1]
    fine = torch.cat([enlarge(m, size) for m in maps[:direct]], 1)
    coarse = maps[direct:]
    weights = weight.split([fine.shape[1], *(m.shape[1] for m in coarse)], dim=1)
    total = F.conv2d(fine, weights[0], bias, padding=weight.shape[-1] // 2)
    if not coarse:
        return total
    pairs = [_enlarged_down(m, w, size) for m, w in zip(coarse, weights[1:], strict=True)]
    columns = torch.cat([c for c, _ in pairs], 2).expand(len(total) * size[0], -1, -1)  # (B H, W, n)
    down = torch.cat([d for _, d in pairs], 2).flatten(0, 1)  # (B H, n, O)
    lines = total.permute(0, 2, 3, 1).contiguous().flatten(0, 1)  # (B H, W, O)
    return lines.baddbmm_(columns, down).unflatten(0, (-1, size[0])).permute(0, 3, 1, 2)


def _enlarged_down(maps: Tensor, weight: Tensor, size: geometry.Size) -> tuple[Tensor, Tensor]:
    """Columns (1, W, w k) and taps (B, H, w k, O), whose product is the convolution of the enlarged maps."""
    batch, _, h, w = maps.shape
    out, side = weight.shape[0], weight.shape[-1]
    each_tap = weight.permute(2, 3, 0, 1).flatten(0, 2)[..., None, None]
    taps = F.conv2d(maps, each_tap).permute(0, 2, 3, 1)  # (B, h, w, k k O)
    taps = taps.reshape(batch, h, w, side, side, out).permute(0, 3, 1, 2, 4, 5)  # (B, k, h, w, k, O)
    rows = _shifted(enlarging(size[0], h, maps), side)  # (H, k, h)
    columns = _shifted(enlarging(size[1], w, maps), side).transpose(1, 2)  # (W, w, k)
    down = rows.flatten(1) @ taps.reshape(batch, side * h, w * side * out)
    return columns.flatten(1)[None], down.view(batch, size[0], w * side, out)


def _shifted(weights: Tensor, side: int) -> Tensor:
    """(count, cells) -> (count, side, cells): row i of tap t is row i + t - side // 2; zeros outside."""
    reach = side // 2
    padded = F.pad(weights, (0, 0, reach, reach))
    return torch.stack([padded[tap : tap + len(weights)] for tap in range(side)], 1)


def profiles(points: Tensor, size: geometry.Size, sigma: float) -> tuple[Tensor, Tensor]:
    """(B, K, 2) points in px of films of `size` -> (B, K, H) and (B, K, W).

    The Gaussian of height 1 around a point, exp(-r^2 / 2 sigma^2), is the first times the second; zeros
    where a point is NaN.
    """
    given = torch.isfinite(points).all(-1, keepdim=True)
    vertical, horizontal = (
        torch.exp(-((torch.arange(n, device=points.device) - points[..., axis, None]) ** 2) / (2 * sigma**2))
        for n, axis in zip(size, (1, 0), strict=True)
    )
    return torch.where(given, vertical, 0.0), torch.where(given, horizontal, 0.0)


class HintEncoder(nn.Module):
    """Previous maps and hints, 2K channels at full size -> features at stride 2, added to the film's.

    `squeeze` is a 1x1 convolution: it commutes with the enlarging of previous maps, and applied to Gaussians
    it is a product of matrices. The 2K maps of full size are never made; only its 16 channels are.
    """

    def __init__(self, n_points: int, channels: int, sigma: float) -> None:
        """`channels` is the width of the film's features at stride 2; `sigma` of the hints in input px."""
        super().__init__()
        self.sigma = sigma
        self.squeeze = nn.Conv2d(2 * n_points, 16, 1)
        self.spread = nn.Conv2d(16, channels, 3, stride=2, padding=1)
        self.scale = nn.Parameter(torch.full((1,), 0.05))

    def forward(self, hints: Hints, size: geometry.Size) -> Tensor:
        """Hints for films of `size` (H, W) -> (B, channels, H / 2, W / 2)."""
        of_previous, of_hints = self.squeeze.weight.flatten(1).chunk(2, dim=1)  # (16, K) each
        vertical, horizontal = profiles(hints.points, size, self.sigma)
        weighted = of_hints[:, None] * vertical.transpose(1, 2)[:, None]  # (B, 16, H, K)
        squeezed = (weighted.flatten(1, 2) @ horizontal).unflatten(1, weighted.shape[1:3])
        if hints.previous is not None:
            squeezed = squeezed + enlarge(F.conv2d(hints.previous, of_previous[..., None, None]), size)
        assert self.squeeze.bias is not None
        return self.spread_out(squeezed + self.squeeze.bias[:, None, None])

    def spread_out(self, squeezed: Tensor) -> Tensor:
        """(B, 16, H, W), before its activation -> (B, channels, H / 2, W / 2)."""
        return self.spread(F.leaky_relu(squeezed, 0.2)) * self.scale.abs()


class InteractionGate(nn.Module):
    """How much each channel of the film's features counts, given where the hints are.

    The pooling is the global maximum: one hint is enough to open a channel.
    """

    def __init__(self, channels: int, n_points: int, width: int, gated: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_block(channels + n_points, width, stride=2), *_block(width, width), *_block(width, width)
        )
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        self.narrow = nn.Conv2d(width, width // 16, 1)
        self.widen = nn.Conv2d(width // 16, gated, 1)

    def forward(self, features: Tensor, hint_maps: Tensor) -> Tensor:
        """(B, channels, h, w) features and (B, K, h, w) maps of the hints -> (B, gated, 1, 1) in (0, 1)."""
        first: Any = self.convolutions[0]
        own, told = first.weight.split([features.shape[1], hint_maps.shape[1]], dim=1)
        # Two convolutions, for joined maps would ask for a gradient of the hints.
        of_film = F.conv2d(features, own, first.bias, stride=2, padding=1)
        joined = of_film + F.conv2d(hint_maps, told, stride=2, padding=1)
        return self.weigh(self.convolutions[1:](joined))

    def weigh(self, convolved: Tensor) -> Tensor:
        """(B, width, h / 2, w / 2) maps -> (B, gated, 1, 1) in (0, 1)."""
        highest = convolved.amax((-2, -1), keepdim=True)
        return torch.sigmoid(self.widen(F.relu(self.narrow(highest))))


def hint_maps(hints: Hints, size: geometry.Size, sigma: float, grid: geometry.Size) -> Tensor:
    """Gaussians of the hints on films of `size`, shrunk to `grid` with aligned corners: (B, K, h, w)."""
    down, across = (
        F.interpolate(profile, size=cells, mode="linear", align_corners=True)
        for profile, cells in zip(profiles(hints.points, size, sigma), grid, strict=True)
    )
    maps = down.unsqueeze(-1) * across.unsqueeze(-2)
    return maps.contiguous(memory_format=torch.channels_last)


class ObjectContext(nn.Module):
    """OCR: each cell of the map looks at what the map holds at every landmark (Yuan 2020, arXiv 1909.11065)."""

    def __init__(self, channels: int, width: int, dropout: float = 0.05) -> None:
        super().__init__()
        self.query = nn.Sequential(*_block(channels, width, 1), *_block(width, width, 1))
        self.key = nn.Sequential(*_block(channels, width, 1), *_block(width, width, 1))
        self.value = nn.Sequential(*_block(channels, width, 1))
        self.back = nn.Sequential(*_block(width, channels, 1))
        self.merge = nn.Sequential(*_block(2 * channels, channels, 1), nn.Dropout2d(dropout))

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """(B, C, h, w) features and (B, K, h, w) logits of where the landmarks are -> (B, C, h, w)."""
        cells = features.flatten(2)
        gathered = torch.softmax(regions.flatten(2), -1) @ cells.transpose(1, 2)  # (B, K, C)
        objects = gathered.transpose(1, 2).unsqueeze(-1)  # (B, C, K, 1)
        query, key = self.query(features).flatten(2), self.key(objects).flatten(2)
        alike = torch.softmax(query.transpose(1, 2) @ key * key.shape[1] ** -0.5, -1)  # (B, h w, K)
        context = alike @ self.value(objects).flatten(2).transpose(1, 2)  # (B, h w, width)
        context = context.transpose(1, 2).unflatten(2, features.shape[-2:])
        return self.merge(torch.cat((self.back(context), features), 1))


def _block(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]

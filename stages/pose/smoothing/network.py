"""A temporal smoothing network after SmoothNet (Zeng et al., ECCV 2022), written from the paper.

    window of T frames -> Linear T to width -> residual blocks -> Linear width to T -> smoothed window

Every coordinate of every joint is a series of its own and all share the weights: the network knows how
estimates move, and neither joints nor bones. What it cannot do, remove an error that lasts, is what a refiner
is for.
"""

from __future__ import annotations

from torch import Tensor, nn

from stages.pose.smoothing.architecture import Sizes

_SLOPE = 0.2


class Block(nn.Module):
    """Series (..., width) plus what two layers make of them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(sizes.width, sizes.hidden),
            nn.Dropout(sizes.dropout),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(sizes.hidden, sizes.width),
            nn.Dropout(sizes.dropout),
            nn.LeakyReLU(_SLOPE),
        )

    def forward(self, series: Tensor) -> Tensor:
        return series + self.layers(series)


class SmoothingNetwork(nn.Module):
    """Series (..., T) -> smoothed series (..., T), in the same unit; each alone."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(sizes.frames, sizes.width), nn.LeakyReLU(_SLOPE))
        self.blocks = nn.Sequential(*(Block(sizes) for _ in range(sizes.blocks)))
        self.decode = nn.Linear(sizes.width, sizes.frames)

    def forward(self, series: Tensor) -> Tensor:
        return self.decode(self.blocks(self.encode(series)))


def losses(smoothed: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """`position`: mean absolute error of series (..., T); `acceleration`: that of their second differences."""
    second = [s[..., 2:] - 2 * s[..., 1:-1] + s[..., :-2] for s in (smoothed, truth)]
    return {
        "position": (smoothed - truth).abs().mean(),
        "acceleration": (second[0] - second[1]).abs().mean(),
    }

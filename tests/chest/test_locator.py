"""The locating network's heads: one map a landmark, or one distribution an axis."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from stages.chest.locating.network import Axes, Locator
from stages.chest.locating.settings import Network
from stages.core.errors import StageError
from stages.core.model import landmark_loss as losses
from stages.core.model.codecs import SoftmaxHeatmap

SIDE = 64


def _network(head: Literal["map", "axes"], bin_px: int = 4) -> Network:
    return Network(
        backbone="tf_efficientnet_lite0", weights="random", channels=8, mixer_layers=1, stride=8, head=head,
        bin=bin_px, sigma=8.0,
    )  # fmt: skip


def test_the_loss_of_the_product_map_is_the_sum_of_the_losses_of_the_axes() -> None:
    torch.manual_seed(0)
    logits = Axes(8, 16)(torch.randn(2, 3, 8, 8))
    points = torch.rand(2, 3, 2) * (SIDE - 8) + 4
    codec = SoftmaxHeatmap(sigma=8.0, stride=4)
    target = codec.encode(points, (SIDE, SIDE))
    counted = torch.ones(2, 3, dtype=torch.bool)
    joint = losses.cross_entropy(logits, target, counted)
    x, y = (
        -(target.sum(over) * torch.log_softmax(logits.logsumexp(over), -1)).sum(-1).mean()
        for over in (-2, -1)
    )
    torch.testing.assert_close(joint, x + y)


@pytest.mark.parametrize("head", ["map", "axes"])
def test_a_head_learns_where_a_bright_spot_is(head: Literal["map", "axes"]) -> None:
    torch.manual_seed(0)
    network = Locator(_network(head), 1, SIDE)
    codec = SoftmaxHeatmap(sigma=8.0, stride=_network(head).cell)
    rng = np.random.default_rng(0)
    centres = torch.from_numpy(rng.uniform(12, SIDE - 12, (16, 1, 2))).float()
    grid = torch.arange(SIDE).float()
    films = torch.exp(
        -((grid - centres[..., :1]) ** 2).unsqueeze(-2) / 50
        - ((grid - centres[..., 1:]) ** 2).unsqueeze(-1) / 50
    )
    target, counted = codec.encode(centres, (SIDE, SIDE)), torch.ones(16, 1, dtype=torch.bool)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.003)

    def error() -> float:
        with torch.no_grad():
            return float(torch.linalg.vector_norm(codec.decode(network(films)) - centres, dim=-1).mean())

    before = error()
    for _ in range(25):
        optimiser.zero_grad()
        losses.cross_entropy(network(films), target, counted).backward()
        optimiser.step()
    assert error() < before / 2


def test_bins_that_do_not_divide_the_picture_are_refused() -> None:
    with pytest.raises(StageError, match="bins of 5 px"):
        Locator(_network("axes", 5), 1, SIDE)

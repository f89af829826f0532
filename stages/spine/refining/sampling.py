"""Which hints a Refiner is given while it learns: those of an imagined user, and of its own earlier passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from stages.spine.refining.sampling_plan import HintPlan

CORNERS = 4
"""points of a vertebra, which follow each other in every vertebral schema"""


def draw_hints(rng: np.random.Generator, plan: HintPlan, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Hints at random points of each sample, and the truth that they belong to.

    Args:
        truth: (B, K, 2), NaN where a point has no label: it is never hinted.
    Returns:
        Hints (B, K, 2), NaN where there is none; and the truth, slipped by a vertebra in some of the samples
        that have hints (see HintPlan.slips).
    """
    batch = len(truth)
    counts = rng.choice(len(plan.counts), size=batch, p=_normalised(plan.counts))
    slipped = (rng.random(batch) < plan.slips) & (counts > 0)
    down = rng.random(batch) < 0.5
    hints, meant = torch.full_like(truth, torch.nan), truth.clone()
    for i, count in enumerate(counts):
        if slipped[i]:
            meant[i] = slip(truth[i], 1 if down[i] else -1)
        labelled = np.flatnonzero(torch.isfinite(meant[i]).all(-1).cpu().numpy())
        chosen = torch.from_numpy(rng.permutation(labelled)[: int(count)])
        hints[i, chosen] = meant[i, chosen]
    return hints, meant


def slip(points: Tensor, by: int) -> Tensor:
    """(4 V, 2) points with every vertebra at the place of the one `by` below it; NaN where there is none."""
    slipped = torch.full_like(points, torch.nan)
    offset = by * CORNERS
    if by > 0:
        slipped[:-offset] = points[offset:]
    else:
        slipped[-offset:] = points[:offset]
    return slipped


def draw_passes(rng: np.random.Generator, plan: HintPlan) -> int:
    """How many passes come before the one that is learned from."""
    return int(rng.choice(len(plan.passes), p=_normalised(plan.passes)))


def add_worst(hints: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """Hints with the worst point of each sample added that has none: the oracle's click.

    Args:
        hints: (B, K, 2), NaN where there is none.
        predicted, truth: (B, K, 2) in the same frame; a point without a label (NaN) is never clicked.
    """
    error = (predicted - truth).square().sum(-1)
    error = torch.where(torch.isfinite(error) & ~torch.isfinite(hints).all(-1), error, -1.0)
    value, worst = error.max(1)
    rows = torch.arange(len(hints), device=hints.device)
    added = hints.clone()
    added[rows, worst] = torch.where((value >= 0)[:, None], truth[rows, worst].to(hints), hints[rows, worst])
    return added


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients within; every module's own mode is restored after."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _normalised(shares: tuple[float, ...]) -> np.ndarray:
    values = np.asarray(shares, np.float64)
    return values / values.sum()

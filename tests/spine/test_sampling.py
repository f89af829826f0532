"""The hints that a Refiner learns with: as many as planned, where the truth is, and sometimes of another count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stages.spine.refining.sampling import add_worst, draw_hints, draw_passes, evaluating, slip
from stages.spine.refining.sampling_plan import HintPlan

NAN = float("nan")


def plan(**changes: object) -> HintPlan:
    return HintPlan.model_validate({"counts": (1.0,), "passes": (1.0,), "slips": 0.0} | changes)


def truth(batch: int, n_points: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, n_points, 2, generator=torch.Generator().manual_seed(seed)) * 60


def test_hints_lie_at_the_truth_and_are_as_many_as_planned() -> None:
    points = truth(3000)
    hints, meant = draw_hints(np.random.default_rng(0), plan(counts=(2.0, 1.0, 0.0, 1.0)), points)
    given = torch.isfinite(hints).all(-1)
    assert torch.equal(hints[given], points[given])
    assert torch.equal(meant, points)
    shares = torch.bincount(given.sum(1), minlength=4) / 3000
    assert shares.tolist() == pytest.approx([0.5, 0.25, 0.0, 0.25], abs=0.03)
    assert (given.sum(0) / given.sum()).tolist() == pytest.approx([1 / 12] * 12, abs=0.02), "any point"


def test_points_without_a_label_are_never_hinted() -> None:
    points = truth(200)
    points[:, ::2] = NAN
    hints, _ = draw_hints(np.random.default_rng(0), plan(counts=(0.0,) * 9 + (1.0,)), points)
    assert torch.isfinite(hints).all(-1).sum(1).tolist() == [6] * 200


def test_slipped_samples_mean_the_neighbouring_vertebrae_with_hints_and_truth_alike() -> None:
    points = truth(2000)
    chosen = plan(counts=(1.0, 1.0), slips=0.5)
    hints, meant = draw_hints(np.random.default_rng(0), chosen, points)
    given = torch.isfinite(hints).all(-1)
    assert torch.equal(hints[given], meant[given])
    down = (meant[:, :8] == points[:, 4:]).all((1, 2)) & meant[:, 8:].isnan().all((1, 2))
    up = (meant[:, 4:] == points[:, :8]).all((1, 2)) & meant[:, :4].isnan().all((1, 2))
    same = (meant == points).all((1, 2))
    assert (down | up | same).all()
    assert same[~given.any(1)].all(), "a sample without hints means what its film shows"
    told = given.any(1)
    for which, share in ((down, 0.25), (up, 0.25), (same, 0.5)):
        assert float(which[told].float().mean()) == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("by", [1, -1])
def test_a_slip_back_restores_all_but_the_end(by: int) -> None:
    points = truth(1)[0]
    back = slip(slip(points, by), -by)
    kept = torch.isfinite(back).all(-1)
    assert kept.sum() == 8
    assert torch.equal(back[kept], points[kept])


def test_passes_come_in_the_planned_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = np.bincount([draw_passes(rng, plan(passes=(3.0, 0.0, 1.0))) for _ in range(2000)]) / 2000
    assert drawn.tolist() == pytest.approx([0.75, 0.0, 0.25], abs=0.03)


def test_the_worst_point_without_a_hint_gets_one() -> None:
    points, hints = truth(1, 4), torch.full((1, 4, 2), NAN)
    predicted = points + torch.tensor([[[1.0, 0.0], [0.0, 9.0], [5.0, 0.0], [0.0, 20.0]]])
    points[0, 3] = NAN
    given = []
    for _ in range(4):
        hints = add_worst(hints, predicted, points)
        given.append(torch.isfinite(hints).all(-1)[0].tolist())
    assert given[0] == [False, True, False, False]
    assert given[1] == [False, True, True, False]
    assert given[2] == given[3] == [True, True, True, False], "a point without a label stays without"
    assert torch.equal(hints[0, :3], points[0, :3])


def test_looking_ahead_leaves_every_part_in_its_own_mode_and_learns_nothing() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5)))
    network.train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with evaluating(network):
        assert not any(module.training for module in network.modules())
        assert not network(torch.randn(4, 3)).requires_grad
    assert [module.training for module in network.modules()] == [True, True, False, False]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(KeyboardInterrupt), evaluating(network):
        raise KeyboardInterrupt
    assert network.training


@pytest.mark.parametrize(
    "wrong", [{"counts": (0.0, 0.0)}, {"passes": (1.0, -0.5)}, {"counts": ()}, {"slips": 1.5}]
)
def test_a_plan_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="counts|passes|slips"):
        plan(**wrong)

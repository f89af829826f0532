"""The expected error: a rising function of whichever score orders the points better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.spine.looping.expected import ExpectedError, Score, spread


def made(seed: int, better: Score) -> tuple[dict[Score, np.ndarray], np.ndarray]:
    """Scores of 20 films of 16 points, one of them telling, and errors."""
    rng = np.random.default_rng(seed)
    errors = rng.gamma(1.0, 0.4, (20, 16))
    telling, blind = errors**2 + rng.normal(0, 0.1, errors.shape), rng.uniform(0, 1, errors.shape)
    other: Score = "spread" if better == "detector" else "detector"
    return {better: telling, other: blind}, errors


@pytest.mark.parametrize("better", ["detector", "spread"])
def test_the_score_that_orders_the_errors_better_is_chosen(better: Score) -> None:
    for seed in range(3):
        assert ExpectedError.fit(*made(seed, better)).score == better


def test_a_score_that_says_nothing_is_not_chosen() -> None:
    scores, errors = made(0, "spread")
    scores["detector"] = np.zeros_like(errors)
    assert ExpectedError.fit(scores, errors).score == "spread"


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=50))
def test_more_risk_is_never_less_error(asked: list[float]) -> None:
    fitted = ExpectedError.fit(*made(1, "detector"))
    expected = fitted.of(np.sort(asked))
    assert (np.diff(expected) >= 0).all()
    assert fitted.heights[0] <= expected.min()
    assert expected.max() <= fitted.heights[-1], "not beyond what was seen"


def test_it_is_right_on_average_and_low_where_errors_are_low() -> None:
    scores, errors = made(2, "detector")
    expected = ExpectedError.fit(scores, errors).of(scores["detector"])
    assert expected.mean() == pytest.approx(errors.mean(), rel=0.02)
    assert expected[errors < 0.2].mean() < 0.3 < 0.7 < expected[errors > 0.8].mean()


def test_points_without_a_label_do_not_count() -> None:
    scores, errors = made(3, "detector")
    some = errors.copy()
    some[::3, ::2] = np.nan
    known = np.isfinite(some)
    left_out = ExpectedError.fit({name: s[known] for name, s in scores.items()}, some[known])
    assert ExpectedError.fit(scores, some) == left_out


def test_scores_of_any_shape_and_a_round_trip_through_json() -> None:
    fitted = ExpectedError.fit(*made(4, "spread"))
    assert fitted.of(np.zeros((2, 3))).shape == (2, 3)
    assert ExpectedError.model_validate_json(fitted.model_dump_json()) == fitted


def test_spread_is_the_deviation_of_the_map() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    narrow = torch.exp(-((rows - 30) ** 2 + (columns - 20) ** 2) / (2 * 2.0**2))
    oblong = torch.exp(-((rows - 30) ** 2) / (2 * 4.0**2) - (columns - 20) ** 2 / (2 * 3.0**2))
    spike = torch.zeros(64, 48)
    spike[3, 4] = 0.2
    found = spread(torch.stack([narrow, 7 * oblong, spike, torch.zeros(64, 48)])[None])
    assert found.shape == (1, 4)
    np.testing.assert_allclose(found, [[2 * np.sqrt(2), 5, 0, 0]], atol=1e-3)

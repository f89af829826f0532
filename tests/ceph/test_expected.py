"""The expected error of a point: mean kept, order kept, landmarks told apart, and nothing absurd from few films."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ceph.expected import (
    ExpectedError,
    calibration_error,
    cross_fitted,
    rank_agreement,
    reliability,
)

K = 19


def made(n: int, seed: int, slope: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spreads, peaks and errors (n, K); the mean error is 0.9 spread^slope, twice that for the last landmark."""
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(0.5, 0.4, (n, K)))
    factor = np.ones(K)
    factor[-1] = 2.0
    errors = 0.9 * factor * spread**slope * rng.gamma(3.0, 1 / 3.0, (n, K))
    return spread, 1 / (1 + spread**2), errors


def test_expected_errors_have_the_mean_of_the_actual_ones() -> None:
    spread, peak, errors = made(20, 0)
    assert ExpectedError.fit(spread, peak, errors).of(spread, peak).mean() == pytest.approx(
        errors.mean(), rel=0.01
    )


def test_on_other_films_groups_of_expected_errors_come_true() -> None:
    fitted = ExpectedError.fit(*made(200, 1))
    spread, peak, errors = made(400, 2)
    table = reliability(fitted.of(spread, peak), errors)
    assert [row["n"] for row in table] == [1520] * 5
    for row in table:
        assert row["expected"] == pytest.approx(row["actual"], rel=0.12)
    assert table[-1]["expected"] > 1.8 * table[0]["expected"]


def test_a_landmark_that_is_harder_is_told_apart() -> None:
    spread, peak, errors = made(100, 3)
    found = ExpectedError.fit(spread, peak, errors).of(np.ones((1, K)), np.full((1, K), 0.5))[0]
    assert found[-1] / np.median(found) == pytest.approx(2.0, rel=0.15)


def test_one_film_says_little_about_a_landmark() -> None:
    """Of one film, a landmark that was missed by ten times the usual is not expected to be."""
    spread, peak = np.ones((1, K)), np.full((1, K), 0.5)
    errors = np.ones((1, K))
    errors[0, 0] = 10.0
    found = ExpectedError.fit(spread, peak, errors).of(spread, peak)[0]
    assert 1.0 < found[0] / found[1] < 5.0


@given(seed=st.integers(0, 1000), slope=st.floats(-1.0, 1.5))
def test_a_wider_map_is_never_expected_to_be_nearer(seed: int, slope: float) -> None:
    fitted = ExpectedError.fit(*made(6, seed, slope))
    spread = np.linspace(0.2, 20, 50)[:, None] * np.ones(K)
    rising = fitted.of(spread, np.full(spread.shape, 0.3))
    assert (np.diff(rising, axis=0) >= -1e-12).all()
    falling = fitted.of(np.ones(spread.shape), np.linspace(1, 0.01, 50)[:, None] * np.ones(K))
    assert (np.diff(falling, axis=0) >= -1e-12).all()


def test_an_expected_error_has_a_bound() -> None:
    spread, peak, errors = made(10, 4)
    found = ExpectedError.fit(spread, peak, errors).of(np.full((1, K), 1e6), np.full((1, K), 1e-9))
    assert (found == 2 * errors.max()).all()


def test_missing_labels_and_perfect_models_are_no_obstacle() -> None:
    spread, peak, errors = made(8, 5)
    errors[:, 3] = np.nan
    assert np.isfinite(ExpectedError.fit(spread, peak, errors).of(spread, peak)).all()
    none = ExpectedError.fit(spread, peak, np.zeros_like(errors))
    assert (none.of(spread, peak) < 0.01).all()


def test_saved_and_read_again_it_says_the_same() -> None:
    spread, peak, errors = made(10, 6)
    fitted = ExpectedError.fit(spread, peak, errors)
    again = ExpectedError.from_arrays(fitted.to_arrays())
    assert (again.of(spread, peak) == fitted.of(spread, peak)).all()


def test_a_film_is_judged_by_the_others() -> None:
    """An error of one film changes what is expected of others, and nothing of its own."""
    spread, peak, errors = made(10, 7)
    changed = errors.copy()
    changed[4] *= 5
    before, after = (cross_fitted(spread, peak, e, 5) for e in (errors, changed))
    assert (before[4] == after[4]).all()
    assert (before[9] == after[9]).all()  # of the same fold
    assert (before[3] != after[3]).any()


def test_agreement_and_calibration_say_what_is_wrong() -> None:
    errors = np.random.default_rng(8).gamma(2.0, 1.0, (50, K))
    assert rank_agreement(errors, errors) == pytest.approx(1.0)
    assert np.isnan(rank_agreement(np.ones_like(errors), errors))
    assert calibration_error(reliability(errors, errors)) == pytest.approx(0.0)
    assert calibration_error(reliability(errors + 1.0, errors)) == pytest.approx(1.0)

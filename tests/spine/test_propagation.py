"""What a hint says about the other points: as much as their errors have gone together, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from stages.spine.looping.propagation import Propagation

K = 12


def predictions(n: int, shared: float, own: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, K, 2) that are off together by `shared` px along y and each by `own` px, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (n, K, 2))
    slip = np.stack([np.zeros(n), rng.normal(0, shared, n)], -1)[:, None]
    return truth + slip + rng.normal(0, own, truth.shape), truth


def hint_at(truth: np.ndarray, *points: int) -> np.ndarray:
    hints = np.full(truth.shape, np.nan)
    hints[:, list(points)] = truth[:, list(points)]
    return hints


def errors(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - truth, axis=-1)


@pytest.mark.parametrize("n", [3, 40])
def test_the_covariance_is_symmetric_and_positive(n: int) -> None:
    covariance = Propagation.fit(*predictions(n, 10.0, 1.0), noise=1.0, reach=8.0).covariance
    assert covariance.shape == (2 * K, 2 * K)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-9)
    assert np.linalg.eigvalsh(covariance).min() > 0, "also with fewer films than coordinates"


def test_a_shared_shift_is_repaired_by_one_hint() -> None:
    fitted = Propagation.fit(*predictions(60, 10.0, 0.5), noise=0.5, reach=8.0)
    points, truth = predictions(20, 10.0, 0.5, seed=1)
    repaired = errors(fitted.apply(points, hint_at(truth, 4)), truth)
    assert repaired.mean() < 0.25 * errors(points, truth).mean()
    assert repaired[:, [0, K - 1]].mean() < 0.25 * errors(points, truth)[:, [0, K - 1]].mean()


def test_points_whose_errors_have_nothing_in_common_are_left_alone() -> None:
    fitted = Propagation.fit(*predictions(400, 0.0, 5.0), noise=0.5, reach=8.0)
    points, truth = predictions(20, 0.0, 5.0, seed=1)
    moved = errors(fitted.apply(points, hint_at(truth, 4)), points)
    assert moved[:, 4].mean() > 3
    assert np.delete(moved, 4, axis=1).max() < 1


def test_no_hint_changes_nothing() -> None:
    fitted = Propagation.fit(*predictions(40, 10.0, 0.5), noise=0.5, reach=8.0)
    points, truth = predictions(3, 10.0, 0.5, seed=2)
    hints = hint_at(truth, 1)
    hints[1] = np.nan
    corrected = fitted.apply(points, hints)
    np.testing.assert_array_equal(corrected[1], points[1])
    assert (corrected[[0, 2]] != points[[0, 2]]).any((1, 2)).all()
    np.testing.assert_allclose(fitted.apply(points, hint_at(points, 0, 3)), points, atol=1e-12)


def test_a_hint_is_believed_as_far_as_its_noise_allows() -> None:
    points, truth = predictions(40, 10.0, 0.5)
    left = [
        errors(Propagation.fit(points, truth, noise, reach=8.0).apply(points, hint_at(truth, 4)), truth)[
            :, 4
        ].mean()
        for noise in (1e-3, 3.0, 1e3)
    ]
    assert left[0] < 0.01 < left[1] < left[2]
    assert left[2] == pytest.approx(errors(points, truth)[:, 4].mean(), rel=0.01)


def test_more_hints_leave_less() -> None:
    fitted = Propagation.fit(*predictions(60, 10.0, 2.0), noise=0.5, reach=8.0)
    points, truth = predictions(20, 10.0, 2.0, seed=3)
    left = [errors(fitted.apply(points, hint_at(truth, *range(n))), truth).mean() for n in (0, 1, 4, K)]
    assert left == sorted(left, reverse=True)


def test_a_hint_at_the_wrong_end_of_the_spine_is_not_believed() -> None:
    fitted = Propagation.fit(*predictions(60, 10.0, 0.5), noise=0.5, reach=8.0)
    points, truth = predictions(3, 10.0, 0.5, seed=4)
    hints = hint_at(truth, 2, 4)
    hints[1, 4] = truth[1, 4] + (0.0, 500.0)  # the label of another vertebra
    believed = fitted.believable(points, hints)
    assert np.isnan(believed[1, 4]).all()
    hints[1, 4] = np.nan
    np.testing.assert_array_equal(believed, hints)

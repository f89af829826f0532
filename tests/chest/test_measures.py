"""Measures of shapes against the label, counts of published figures, and what a disc promises."""

from __future__ import annotations

import numpy as np
import pytest

from stages.chest import measures
from stages.chest.raw.structure import axis_frame, shape_from_structure
from stages.chest.schema import CHEST, LEFT, RIGHT

RNG = np.random.default_rng(2)


def shapes(n: int) -> np.ndarray:
    """(n, 15, 2) lungs of different place, size, tilt and width of each side, px at 224."""
    top = np.array([112, 50]) + RNG.normal(0, 8, (n, 2))
    length, tilt = RNG.normal(148, 20, n), np.deg2rad(RNG.normal(0, 4, n))
    bottom = top + length[:, None] * np.stack([np.sin(tilt), np.cos(tilt)], axis=1)
    mean = np.array([35, 64, 74, 80, 84.0])
    sides = [mean * RNG.normal(1, 0.1, (n, 1)) + RNG.normal(0, 4, (n, 5)) for _ in range(2)]
    return shape_from_structure(top, bottom, *sides)


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def test_the_truth_and_what_is_moved_as_a_whole_is_consistent() -> None:
    truth = shapes(20)
    for found in (truth, truth + np.array([7.0, -3.0]), turned(truth, 11)):
        for measure in measures.inconsistency(found, truth):
            np.testing.assert_allclose(measure, 0, atol=1e-9)


def test_a_wider_left_lung_is_an_asymmetry_of_that_much() -> None:
    truth = shapes(8)
    wider = truth.copy()
    rightward = axis_frame(truth)[2]
    wider[:, LEFT] -= 5.0 * rightward[:, None]
    np.testing.assert_allclose(measures.asymmetries(wider) - measures.asymmetries(truth), 5.0)
    np.testing.assert_allclose(measures.inconsistency(wider, truth)[0], 5.0)


def test_mirrored_films_have_opposite_asymmetries() -> None:
    truth = shapes(8)
    mirrored = (truth * [-1, 1] + [223, 0])[:, CHEST.swap]
    np.testing.assert_allclose(measures.asymmetries(mirrored), -measures.asymmetries(truth), atol=1e-9)
    np.testing.assert_allclose(measures.distances(mirrored), measures.distances(truth))


def published_score(predicted: np.ndarray, truth: np.ndarray) -> float:
    """The reference's consistency: coordinates in [0, 1], mirrored about a vertical, of 1 at its best."""
    points, labels = predicted / 224, truth / 224
    weights = np.array([1.2, 1.2, 1.5, 1.3, 1.3]) / 6.5
    axis = (points[:, [0, 1, 8, 9, 10], 0] * weights).sum(1)
    mirrored = points[:, LEFT] * [-1, 1]
    mirrored[..., 0] += 2 * axis[:, None]
    unlike = np.linalg.norm(points[:, RIGHT] - mirrored, axis=2).mean()
    pairs = np.abs(measures.distances(points) - measures.distances(labels))[:, :3].mean()
    return float(0.4 / (1 + unlike) + 0.6 / (1 + pairs))


def test_a_constant_is_told_from_a_good_model() -> None:
    """The published score is within 0.04 for both; the measures here differ fourfold."""
    truth = shapes(200)
    constant = np.tile(truth.mean(0), (200, 1, 1))
    good = truth + RNG.normal(0, 1.0, truth.shape)
    assert published_score(constant, truth) > 0.93
    assert published_score(good, truth) - published_score(constant, truth) < 0.04
    for of_constant, of_good in zip(
        measures.inconsistency(constant, truth), measures.inconsistency(good, truth), strict=True
    ):
        assert of_constant.mean() > 4 * of_good.mean()


def test_lengths_do_not_depend_on_the_size_of_the_film() -> None:
    points = shapes(5)
    sizes = np.array([[299, 299]] * 5)
    np.testing.assert_allclose(measures.at_224(points * 299 / 224, sizes), points)
    assert measures.widths(points)[0] == pytest.approx(np.linalg.norm(points[0, 13] - points[0, 14]))


def test_bins_shares_and_range_of_known_errors() -> None:
    errors = np.array([4.99, 5.0, 8.4, 8.5, 20.0])
    summary = measures.summarise_films(errors)
    assert list(measures.in_bins(errors).values()) == [1, 2, 1, 1]
    assert [summary[f"n_films_{name}_px224"] for name in measures.QUALITY_BINS] == [1, 2, 1, 1]
    assert sum(summary[f"share_{name}_px224"] for name in measures.QUALITY_BINS) == pytest.approx(1)
    under = [summary[f"share_under_{step}_px224"] for step in ("5", "8.5", "10", "15", "20")]
    assert under == pytest.approx([0.2, 0.6, 0.8, 0.8, 0.8])
    assert (summary["best_px224"], summary["median_px224"], summary["worst_px224"]) == (4.99, 8.4, 20.0)


@pytest.mark.parametrize(
    ("error", "bin_"), [(4.99, 0), (5.0, 1), (8.5, 2), (14.99, 2), (15.0, 3), (400.0, 3), (np.nan, None)]
)
def test_every_film_with_an_error_falls_into_one_bin(error: float, bin_: int | None) -> None:
    assert list(measures.in_bins(np.array([error])).values()) == [int(k == bin_) for k in range(4)]


def test_success_rates_count_points() -> None:
    errors = np.array([[1.0, 3.0], [4.5, 30.0]])
    rates = measures.success_rates(errors)
    assert [rates[f"sdr_{t}_px224"] for t in ("2", "4", "5", "8.5", "10", "15")] == [0.25, 0.5, *[0.75] * 4]
    named = measures.by_name(("A", "B"), errors)
    assert named["mean_A_px224"] == pytest.approx(2.75)
    assert named["median_B_px224"] == pytest.approx(16.5)


def test_a_statement_within_a_limit_is_made_of_small_discs_only() -> None:
    errors, radii = np.array([1.0, 5.0, 9.0]), np.array([3.0, 4.0, 20.0])
    said, holds = measures.held(errors, radii)
    assert said.tolist() == [True] * 3
    assert holds.tolist() == [True, False, True]
    said, holds = measures.held(errors, radii, 6.0)
    assert said.tolist() == [True, True, False]
    assert holds[said].tolist() == [True, True]

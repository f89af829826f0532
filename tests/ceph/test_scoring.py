"""The scorers: each finds the doubt that it is for, and the measures that judge them say what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.ceph.schema import CEPH
from stages.ceph.scoring import measures
from stages.ceph.scoring.choice import film_scores, typical_errors
from stages.ceph.scoring.described import band, described_uncertainty
from stages.ceph.scoring.measures import Estimate, Resampling
from stages.ceph.scoring.peaks import second_peak_ratio
from stages.ceph.scoring.reasons import reason_for
from stages.ceph.scoring.rising import fit_expected, fit_reference
from stages.ceph.scoring.scorers import MEASURES, RankMean, fit_references
from stages.ceph.scoring.shape import align, fit_shape_prior
from stages.core.errors import StageError
from tests.ceph.unsure import K, evidence, gaussians, shapes

SIZE = (64, 80)
SIGMA = 2.5


def maps(*peaks: tuple[float, float, float, float]) -> np.ndarray:
    """(1, 1, h, w): the highest of Gaussians, each (x, y, height, sigma)."""
    found = np.array(peaks)
    return (found[:, 2, None, None] * gaussians(found[:, :2], found[:, 3], SIZE)).max(0)[None, None]


# ------------ second peak


@pytest.mark.parametrize("sigma", [1.5, SIGMA, 8.0])
@pytest.mark.parametrize("x", [40.0, 40.5])
def test_one_peak_has_no_second_however_broad_and_wherever_in_its_cell(sigma: float, x: float) -> None:
    assert second_peak_ratio(maps((x, 30.5, 1, sigma)), SIGMA).item() == 0


@pytest.mark.parametrize("height", [1.0, 0.9, 0.3])
def test_a_separate_peak_is_found_with_its_height(height: float) -> None:
    seen = maps((20, 20, 1, SIGMA), (55, 40, height, SIGMA))
    assert second_peak_ratio(seen, SIGMA).item() == pytest.approx(height, rel=1e-3)


def test_two_peaks_within_the_radius_are_one() -> None:
    seen = maps((30, 30, 1, SIGMA), (30 + 2.5 * SIGMA, 30, 0.95, SIGMA))
    assert second_peak_ratio(seen, SIGMA).item() == 0


@pytest.mark.parametrize("width", [2, 30])
def test_a_plateau_is_one_peak(width: int) -> None:
    seen = maps((40, 30, 0.5, SIGMA))
    seen[..., 29:32, 20 : 20 + width] = 1.0
    seen[..., 29:32, 20 : 20 + width] -= 1e-8 * np.random.default_rng(0).random((3, width))
    apart = second_peak_ratio(seen, SIGMA).item()
    assert apart == (0 if width == 30 else pytest.approx(0.5, rel=1e-3))


def test_an_empty_map_and_noise_have_no_second_peak() -> None:
    noise = 0.005 * np.random.default_rng(0).random((1, 1, *SIZE))
    assert second_peak_ratio(np.zeros((2, 3, *SIZE)), SIGMA).tolist() == [[0.0] * 3] * 2
    assert second_peak_ratio(np.maximum(noise, maps((30, 30, 1, SIGMA))), SIGMA).item() == 0


def test_maps_do_not_disturb_each_other() -> None:
    one, two = maps((20, 20, 1, SIGMA)), maps((20, 20, 1, SIGMA), (60, 40, 0.6, SIGMA))
    together = np.concatenate([np.concatenate([one, two], 1), np.concatenate([two, one], 1)])
    np.testing.assert_allclose(second_peak_ratio(together, SIGMA), [[0, 0.6], [0.6, 0]], rtol=1e-3)


# ------------ the described formula


def test_the_described_formula_is_less_sure_of_a_perfect_point_than_of_two_equal_peaks() -> None:
    centred, between = (described_uncertainty(maps((x, x, 1, SIGMA))).item() for x in (30.0, 30.5))
    two = described_uncertainty(maps((20, 20, 1, SIGMA), (55, 40, 1, SIGMA))).item()
    assert centred == pytest.approx(0.369, abs=1e-3)
    assert between == pytest.approx(0.424, abs=1e-3)
    assert two < between, (
        "two equal peaks are less certain only to a second peak that is no neighbouring pixel"
    )
    assert band(between) == "yellow"
    assert second_peak_ratio(maps((30.5, 30.5, 1, SIGMA)), SIGMA) < second_peak_ratio(
        maps((20, 20, 1, SIGMA), (55, 40, 1, SIGMA)), SIGMA
    )


# ------------ shape


def test_a_moved_point_is_the_outlier_and_its_neighbours_hardly_notice() -> None:
    prior = fit_shape_prior(shapes(60, 0))
    films = shapes(20, 5)
    before = prior.distances(films)
    films[:, 9] += [30, -20]
    after = prior.distances(films)
    assert (after.argmax(1) == 9).all()
    others = np.delete(np.arange(K), 9)
    assert after[:, others].mean() == pytest.approx(before[:, others].mean(), rel=0.15)
    assert np.sqrt((before**2).mean() / 2) == pytest.approx(1, abs=0.2), (
        "films like the training's: 2 per point"
    )


@given(angle=st.floats(-np.pi, np.pi), scale=st.floats(0.1, 10), shift=st.tuples(*[st.floats(-500, 500)] * 2))
def test_where_a_film_lies_and_how_large_it_is_does_not_matter(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    prior, films = fit_shape_prior(shapes(30, 0)), shapes(3, 5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(
        prior.distances(scale * films @ turn + shift), prior.distances(films), rtol=1e-5
    )


def test_alignment_by_some_points_ignores_the_others() -> None:
    mean, film = shapes(1, 0)[0], shapes(1, 1)
    by = np.arange(1, K)
    moved = film.copy()
    moved[0, 0] += 100
    np.testing.assert_allclose(align(film, mean, by)[0, 1:], align(moved, mean, by)[0, 1:])
    np.testing.assert_allclose(align(mean[None], mean, by)[0], mean, atol=1e-9)


def test_too_few_shapes_are_an_error() -> None:
    with pytest.raises(StageError, match="needs 8 films"):
        fit_shape_prior(shapes(7, 0))


# ------------ scorers


DOUBTS: dict[str, dict[str, np.ndarray]] = {
    "peak": {"peak": np.full((4, K), 1.0)},
    "second_peak": {"second_peak": np.zeros((4, K))},
    "spread": {"spread": np.ones((4, K))},
    "tta": {"augmented": np.zeros((5, 4, K, 2))},
    "ensemble": {"dropped": np.zeros((5, 4, K, 2))},
    "shape": {"shape": np.ones((4, K))},
}


@pytest.mark.parametrize("name", DOUBTS)
def test_a_scorer_is_highest_where_its_evidence_is_in_doubt(name: str) -> None:
    ((field, values),) = DOUBTS[name].items()
    values = values.copy()
    if values.ndim == 4:
        values[:, 2, 7, 0] = [-3, 3, 0, 2, -2]
    else:
        values[2, 7] = 0.1 if name == "peak" else 5.0
    scores = MEASURES[name].score(evidence(4, **{field: values}))
    assert scores.shape == (4, K)
    assert np.unravel_index(scores.argmax(), scores.shape) == (2, 7)
    for other in DOUBTS.keys() - {name}:
        assert np.ptp(MEASURES[other].score(evidence(4, **{field: values}))) == 0


def test_a_uniform_shift_of_all_draws_is_no_disagreement() -> None:
    draws = np.broadcast_to(shapes(4, 0), (5, 4, K, 2))
    assert MEASURES["tta"].score(evidence(4, augmented=draws)).max() == pytest.approx(0, abs=1e-9)


def test_rank_mean_does_not_depend_on_the_films_beside_a_film_and_goes_on_beyond_known_scores() -> None:
    rng = np.random.default_rng(0)
    known = evidence(30, spread=rng.gamma(2, 1, (30, K)), peak=rng.uniform(0.2, 1, (30, K)))
    mean = RankMean(("spread", "peak"), fit_references(known))
    spread = np.linspace(0, 40, 3 * K).reshape(3, K)
    together = mean.score(evidence(3, spread=spread))
    for i in range(3):
        np.testing.assert_array_equal(mean.score(evidence(1, spread=spread[i : i + 1]))[0], together[i])
    beyond = together.ravel()[spread.ravel() > 12]
    assert len(beyond) > 20
    assert (np.diff(beyond) > 0).all(), "films worse than any known one still differ"
    assert 0 <= mean.score(known).min() <= mean.score(known).max() <= 1


# ------------ curves


@given(
    scores=arrays.arrays(np.float64, 120, elements=st.floats(0, 9).map(lambda v: round(v, 1))),
    slope=st.floats(-2, 5),
)
def test_expected_errors_never_fall_with_the_score_and_their_mean_is_that_of_the_errors(
    scores: np.ndarray, slope: float
) -> None:
    errors = np.maximum(0, slope * scores + np.random.default_rng(0).normal(0, 1, 120) + 5)
    curve = fit_expected(scores, errors, bins=10)
    grid = curve(np.linspace(-5, 30, 200))
    assert (np.diff(grid) >= 0).all()
    assert (np.diff(curve.x) > 0).all()
    assert (np.diff(curve.y) > 0).all()
    assert errors.min() - 1e-9 <= curve.y[0] <= curve.y[-1] <= errors.max() + 1e-9


def test_a_curve_finds_what_the_scores_say() -> None:
    rng = np.random.default_rng(0)
    scores = rng.gamma(2, 1, 2000)
    curve = fit_expected(scores, 0.5 + 2 * scores + rng.normal(0, 0.3, 2000), bins=20)
    middle = np.quantile(scores, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(curve(middle), 0.5 + 2 * middle, rtol=0.05)


def test_a_reference_is_the_share_at_or_below() -> None:
    known = np.r_[np.zeros(50), np.arange(1, 51)]
    rank = fit_reference(known)
    assert float(rank(np.array(0.0))) == pytest.approx(0.5, abs=0.02)
    assert float(rank(np.array(25.0))) == pytest.approx(0.75, abs=0.02)
    assert float(rank(np.array(60.0))) > 1


# ------------ measures


def ones(n: int) -> np.ndarray:
    return np.ones((1, n))


def test_measures_agree_with_the_library_and_with_the_definition() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores = rng.normal(size=200).round(1)
    wrong = rng.random(200) < 1 / (1 + np.exp(-scores))
    weights = np.vstack([ones(200), rng.integers(0, 4, (5, 200))])
    found = measures.auroc(scores, wrong, weights)
    expected = [roc_auc_score(wrong, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(found, expected, atol=1e-9)

    errors = rng.gamma(2, 1, 200)
    order = np.argsort(errors)
    by_hand = np.mean([errors[order[: i + 1]].mean() for i in range(200)])
    assert measures.aurc(errors, errors, ones(200))[0] == pytest.approx(by_hand)
    assert measures.aurc(-errors, errors, ones(200))[0] > measures.aurc(errors, errors, ones(200))[0]
    assert measures.aurc(np.zeros(200), errors, ones(200))[0] == pytest.approx(errors.mean())


def test_precision_counts_the_least_certain_points_and_shares_out_ties() -> None:
    wrong = np.array([True, True, False, False, False, True])
    assert measures.precision_at(2, np.array([9, 8, 1, 2, 3, 4.0]), wrong, ones(6))[0] == 1
    assert measures.precision_at(3, np.zeros(6), wrong, ones(6))[0] == pytest.approx(0.5)
    assert measures.precision_at(99, np.arange(6.0), wrong, ones(6))[0] == pytest.approx(0.5)


def test_without_wrong_points_there_is_no_auroc() -> None:
    assert np.isnan(measures.auroc(np.arange(5.0), np.zeros(5, bool), ones(5)))
    assert np.isnan(measures.auroc(np.arange(5.0), np.ones(5, bool), ones(5)))


def test_intervals_draw_films_and_so_are_wider_than_those_of_points() -> None:
    rng = np.random.default_rng(0)
    film = np.repeat(np.arange(20), 19)
    scores = rng.normal(size=20)[film] + 0.1 * rng.normal(size=380)
    wrong = rng.normal(size=20)[film] > 0.5
    settings = Resampling(resamples=300, level=0.9)
    width = {}
    for unit, groups in (("film", film), ("point", np.arange(380))):
        weights = measures.film_weights(groups, settings, 0)
        assert (weights.sum(1)[1:].mean()) == pytest.approx(380, rel=0.05)
        found = Estimate.of(measures.auroc(scores, wrong, weights), 0.9)
        assert found.low < found.value < found.high
        width[unit] = found.high - found.low
    assert width["film"] > 2 * width["point"]


def test_calibration_error_is_0_where_expectations_come_true_and_the_gap_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    expected = rng.uniform(1, 5, 4000)
    errors = expected * rng.gamma(4, 0.25, 4000)
    true = measures.calibration_error(measures.reliability(expected, errors, 8))
    low = measures.calibration_error(measures.reliability(expected - 0.7, errors, 8))
    assert true < 0.1
    assert low == pytest.approx(0.7, abs=0.1)


# ------------ films and reasons


def test_a_film_is_worth_its_three_worst_points_and_an_always_hard_landmark_does_not_count() -> None:
    expected = np.ones((40, K))
    expected[:, 4] = 10.0
    expected[7, [1, 2, 3]] = 4.0
    scores = film_scores(expected / typical_errors(expected))
    assert scores.argmax() == 7
    assert np.ptp(np.delete(scores, 7)) < 0.01
    raw = film_scores(expected)
    assert raw.min() > 3, "unnormalised, one landmark would carry every film"


def test_a_reason_names_the_cause_found_and_its_landmarks() -> None:
    rng = np.random.default_rng(0)
    known = evidence(
        40,
        peak=rng.uniform(0.5, 1, (40, K)),
        second_peak=rng.uniform(0, 0.1, (40, K)),
        shape=rng.gamma(2, 0.5, (40, K)),
        augmented=rng.normal(0, 1, (5, 40, K, 2)),
        dropped=rng.normal(0, 1, (5, 40, K, 2)),
    )
    augmented = rng.normal(0, 1, (5, 1, K, 2)) * 0.5
    augmented[:, 0, 9] *= 30
    augmented[:, 0, 3] *= 20
    second, peak, shape = np.full((1, K), 0.15), np.full((1, K), 0.9), np.full((1, K), 0.5)
    second[0, 12], peak[0, 5] = 0.8, 0.01
    found = evidence(
        1, peak=peak, second_peak=second, shape=shape, augmented=augmented, dropped=np.zeros((5, 1, K, 2))
    )
    unusual = np.zeros((1, K))
    unusual[0, [9, 3, 12]] = [9, 8, 7]
    references = fit_references(known)
    assert (
        reason_for(0, unusual, found, references)
        == f"tta_disagreement at {CEPH.names[9]} and {CEPH.names[3]}; multi_peak at {CEPH.names[12]}"
    )
    unusual[0, [9, 3, 12, 5]] = [0, 0, 0, 9]
    assert reason_for(0, unusual, found, references).startswith(f"low_peak at {CEPH.names[5]}")
    # A second peak of 15 % is rarer than any known one, and still no cause.
    unusual[0] = np.eye(K)[8]
    assert "multi_peak at gnathion" not in reason_for(0, unusual, found, references)

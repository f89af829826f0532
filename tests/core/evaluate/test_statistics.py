"""Intervals know their unit is the patient, cover what they promise, and are not made from nothing."""

import numpy as np
import pandas as pd
import pytest

from stages.core.evaluate.statistics import (
    Bootstrap,
    bootstrap_mean,
    compare,
    compare_methods,
    write_comparison,
)

BCA = Bootstrap(resamples=1000, level=0.95, method="bca", minimum_groups=6)
PERCENTILE = BCA.model_copy(update={"method": "percentile"})


def simulated(rng: np.random.Generator, gain: float, n_patients: int = 40) -> tuple[np.ndarray, ...]:
    """Skewed errors of two methods on two to eight films of each patient, alike within a patient."""
    films = rng.integers(2, 9, n_patients)
    patients = np.repeat(np.arange(n_patients), films)
    b = rng.gamma(3.0, 6.0, len(patients))
    per_patient, per_film = rng.normal(0, 4, n_patients)[patients], rng.normal(0, 3, len(patients))
    return b + per_patient + per_film - gain, b, patients


@pytest.mark.parametrize("settings", [BCA, PERCENTILE], ids=lambda s: s.method)
@pytest.mark.parametrize("n_patients", [12, 40])
def test_equal_methods_are_called_equal_as_often_as_promised(settings: Bootstrap, n_patients: int) -> None:
    rng = np.random.default_rng(7)
    verdicts = [compare(*simulated(rng, 0.0, n_patients), settings, seed=i).verdict for i in range(200)]
    assert 0.90 <= verdicts.count("no difference") / 200 <= 0.98


def test_counting_films_as_if_they_were_patients_would_find_differences_where_there_are_none() -> None:
    rng = np.random.default_rng(7)
    verdicts = []
    for i in range(100):
        a, b, patients = simulated(rng, 0.0)
        verdicts.append(compare(a, b, np.arange(len(patients)), BCA, seed=i).verdict)
    assert verdicts.count("no difference") < 80


def test_a_planted_gain_is_found_and_signed() -> None:
    a, b, patients = simulated(np.random.default_rng(1), gain=4.0)
    found = compare(a, b, patients, BCA, seed=0)
    assert found.verdict == "better"
    assert found.mean_difference == pytest.approx(-4.0, abs=1.5)
    assert found.low is not None
    assert found.high is not None
    assert found.low < -4.0 < found.high < 0
    assert found.p_wilcoxon is not None
    assert found.p_wilcoxon < 0.01
    back = compare(b, a, patients, BCA, seed=0)
    assert back.verdict == "worse"
    assert back.mean_difference == pytest.approx(-found.mean_difference)


def test_the_order_of_films_changes_no_bit() -> None:
    a, b, patients = simulated(np.random.default_rng(2), gain=1.0)
    shuffled = np.random.default_rng(3).permutation(len(a))
    assert compare(a, b, patients, BCA, 5) == compare(a[shuffled], b[shuffled], patients[shuffled], BCA, 5)


def test_rounding_does_not_depend_on_the_order_of_films_either() -> None:
    values, patients = [1e16, 1.0, -1e16, *range(8)], ["a", "a", "a", *"bcdefghi"]
    order = [1, 0, 2, *range(10, 2, -1)]
    there = bootstrap_mean(values, patients, BCA, 0)
    assert there == bootstrap_mean([values[i] for i in order], [patients[i] for i in order], BCA, 0)


def test_copies_of_a_patients_film_do_not_narrow_the_interval() -> None:
    values, patients = np.random.default_rng(4).normal(10, 3, 30), np.arange(30)
    once = bootstrap_mean(values, patients, BCA, seed=0)
    copied = bootstrap_mean(np.tile(values, 5), np.tile(patients, 5), BCA, seed=0)
    assert (copied.n_films, copied.n_groups) == (150, 30)
    assert copied.mean == pytest.approx(once.mean)
    assert copied.low == pytest.approx(once.low)
    assert copied.high == pytest.approx(once.high)
    as_if_independent = bootstrap_mean(np.tile(values, 5), np.arange(150), BCA, seed=0)
    assert as_if_independent.high is not None
    assert as_if_independent.low is not None
    assert copied.high is not None
    assert copied.low is not None
    assert as_if_independent.high - as_if_independent.low < 0.6 * (copied.high - copied.low)


def test_the_estimate_is_the_mean_over_films_not_over_patients() -> None:
    interval = bootstrap_mean([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"], BCA, seed=0)
    assert interval.mean == 2.0


def test_no_interval_over_two_sequences() -> None:
    few = compare([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], ["x", "x", "y"], BCA, seed=0)
    assert few.verdict == "too few groups"
    assert (few.low, few.high, few.p_wilcoxon) == (None, None, None)
    assert (few.mean_difference, few.n_films, few.n_groups) == (-1.0, 3, 2)
    nothing = bootstrap_mean([np.nan], ["x"], BCA, seed=0)
    assert np.isnan(nothing.mean)
    assert nothing.n_films == nothing.n_groups == 0


def test_films_without_an_error_are_left_out_of_both_sides() -> None:
    a, b, patients = simulated(np.random.default_rng(5), gain=2.0)
    kept = np.ones(len(a), bool)
    kept[[3, 8]] = False
    lost_a, lost_b = a.copy(), b.copy()
    lost_a[3], lost_b[8] = np.nan, np.nan
    assert compare(lost_a, lost_b, patients, BCA, 0) == compare(a[kept], b[kept], patients[kept], BCA, 0)


def test_identical_methods_and_a_constant_gain_have_an_interval_of_one_point() -> None:
    b = np.random.default_rng(6).gamma(2, 5, 20)
    same = compare(b, b, range(20), BCA, 0)
    assert (same.low, same.high, same.p_wilcoxon, same.verdict) == (0, 0, 1, "no difference")
    constant = compare(np.full(20, 1.0), np.full(20, 3.0), range(20), BCA, 0)
    assert (constant.low, constant.high, constant.verdict) == (-2, -2, "better")


def test_another_level_widens_the_interval_and_few_groups_widen_it_too() -> None:
    values = np.random.default_rng(8).normal(0, 1, 50)
    narrow = bootstrap_mean(values, range(50), BCA.model_copy(update={"level": 0.8}), 0)
    wide = bootstrap_mean(values, range(50), BCA, 0)
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low
    rng = np.random.default_rng(9)
    covered = []
    for i in range(400):
        interval = bootstrap_mean(rng.normal(0, 1, 8), range(8), PERCENTILE, i)
        assert interval.low is not None
        assert interval.high is not None
        covered.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) > 0.92  # an interval by plain quantiles covers 89 % here


def test_methods_are_compared_role_by_role(tmp_path) -> None:
    rng = np.random.default_rng(10)
    rows = []
    for role in ("gate", "test"):
        for film in range(20):
            floor = rng.gamma(3, 5)
            for method, error in (("floor", floor), ("net", floor - (3 if role == "test" else 0))):
                rows.append((f"{role}{film}", f"p{film // 2}", role, method, error))
    per_film = pd.DataFrame(rows, columns=["id", "patient", "role", "method", "error_raw_px"])
    table = compare_methods(per_film, [("net", "floor")], "error_raw_px", ["gate", "test"], BCA, seed=0)
    assert table["verdict"].tolist() == ["no difference", "better"]
    assert table["n_groups"].tolist() == [10, 10]
    write_comparison(tmp_path / "comparison.csv", table)
    read = pd.read_csv(tmp_path / "comparison.csv")
    assert read.loc[1, "mean_difference"] == pytest.approx(-3)
    with pytest.raises(ValueError, match="no errors of the methods"):
        compare_methods(per_film, [("net", "absent")], "error_raw_px", ["test"], BCA, seed=0)


def test_unpaired_input_is_refused() -> None:
    with pytest.raises(ValueError, match="paired"):
        compare([1.0], [1.0, 2.0], ["a"], BCA, 0)
    with pytest.raises(ValueError, match="needs a group"):
        compare([1.0, 2.0], [1.0, 2.0], ["a"], BCA, 0)

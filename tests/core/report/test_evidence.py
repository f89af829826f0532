"""What is read from an evaluation is what stands in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import StageError
from stages.core.evaluate.statistics import compare_methods
from stages.core.report.evidence import (
    Points,
    Sampling,
    estimate,
    extremes,
    finite_mean,
    list_methods,
    ranked,
    read_csv,
    read_points,
)
from tests.report_pages import BOOTSTRAP

SAMPLING = Sampling(BOOTSTRAP, seed=3)


def cases(n: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"{i}", "patient": f"p{i // 2}", "role": role, "method": method, "error": rng.normal(mean, 1)}
        for method, mean in (("net", 5.0), ("flat", 30.0), ("ridge", 20.0), ("second_net", 6.0))
        for role in ("test", "gate")
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def test_methods_come_models_first_then_by_error_with_their_verdicts() -> None:
    table = cases()
    pairs = [("net", "flat"), ("net", "ridge")]
    compared = compare_methods(table, pairs, "error", ["test", "gate"], BOOTSTRAP, 1)
    found = list_methods(
        table, compared, ("net", "second_net"), {"ridge": "ridge, linear"}, "error", SAMPLING
    )
    assert [m.name for m in found] == ["net", "second net", "ridge, linear", "flat"]
    assert [m.is_model for m in found] == [True, True, False, False]
    assert [m.verdict for m in found] == ["", "", "better", "better"]
    assert found[3].difference is not None
    assert found[3].difference.value == pytest.approx(found[0].error.value - found[3].error.value)


def test_estimates_have_the_interval_of_groups_not_of_films() -> None:
    table = cases().query("method == 'net' and role == 'test'")
    alike = table.assign(error=table.groupby("patient")["error"].transform("first"))
    alone = alike.assign(patient=alike["id"])
    together, apart = estimate(alike, "error", SAMPLING), estimate(alone, "error", SAMPLING)
    assert together.high - together.low > apart.high - apart.low
    assert together.level == BOOTSTRAP.level


def test_too_few_groups_leave_no_interval() -> None:
    assert not estimate(cases(2).query("method == 'net'").assign(patient="p"), "error", SAMPLING).has_interval


@given(st.lists(st.one_of(st.floats(0, 100), st.just(float("nan"))), max_size=30), st.integers(1, 5))
def test_every_case_is_shown_at_most_once_and_worst_are_worst(errors: list[float], each: int) -> None:
    values = np.array(errors, float)
    found = extremes(values, each)
    shown = [k for kind in found.values() for k in kind]
    assert len(shown) == len(set(shown))
    assert np.isfinite(values[shown]).all()
    finite = values[np.isfinite(values)]
    if len(finite):
        assert values[found["worst"][0]] == finite.max()
        assert all(len(kind) <= each for kind in found.values())
    if len(finite) >= 3 * each:
        assert [len(kind) for kind in found.values()] == [each] * 3
        assert max(values[found["best"]]) <= min(values[found["median"]])


def test_means_and_ranks_pass_over_missing_values() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(finite_mean(values), [2.0, np.nan])
    assert ranked(np.array([3.0, np.nan, 1.0, 3.0])) == [2, 0, 3]


def test_points_are_stretched_to_a_frame() -> None:
    points = Points(np.array(["a"]), np.array([[[10.0, 40.0]]]), np.array([[[4.0, 40.0]]]))
    assert points.scaled(np.array([[100, 400]]), 50, 100).errors == pytest.approx(3.0)


def test_points_of_another_method_or_count_are_refused(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "id": ["a", "a", "b"],
            "role": "test",
            "method": "net",
            "point": [0, 1, 0],
            **dict.fromkeys(("x_raw", "y_raw", "x_label_raw", "y_label_raw"), 1.0),
        }
    )
    rows.to_parquet(tmp_path / "per_point.parquet")
    with pytest.raises(StageError, match="'other', found net"):
        read_points(tmp_path, "other", "test", 2)
    with pytest.raises(StageError, match="points a film"):
        read_points(tmp_path, "net", "test", 2)
    rows[:2].to_parquet(tmp_path / "per_point.parquet")
    assert read_points(tmp_path, "net", "test", 2).predicted.shape == (1, 2, 2)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"comparison\.csv does not exist"):
        read_csv(tmp_path / "comparison.csv")

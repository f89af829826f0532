"""Charts put values where their axes say."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.report.charts import Axis, Bar, Series, bars, columns, curves, error_curve, spanning
from stages.core.report.svg import legend
from stages.core.report.wording import Estimate


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5))
def test_ticks_are_round_inside_the_range_and_evenly_spaced(low: float, size: float) -> None:
    axis = Axis(low, low + size, "error (px)")
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * size + 1e-9 * abs(low)
    assert all(low - slack <= t <= low + size + slack for t in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0], rtol=1e-3)
    assert len({axis.text(t) for t in ticks}) == len(ticks)


def test_log_axis_places_decades_evenly() -> None:
    axis = Axis(1, 100, "error (px)", log=True)
    assert axis.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert [axis.place(v, 0, 100) for v in (1, 10, 100)] == pytest.approx([0, 50, 100])


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_an_axis_holds_every_finite_value_whatever_comes(values: list[float], zero: bool, log: bool) -> None:
    axis = spanning(values, "x", zero, log)
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    assert axis.low < axis.high
    assert all(axis.low <= v <= axis.high for v in kept)
    assert axis.ticks() is not None


def test_bar_length_and_whiskers_follow_the_axis() -> None:
    axis = Axis(0, 100, "mean error (raw px)")
    drawn = bars(
        [Bar("model", Estimate(50, 40, 60), "model"), Bar("mean shape", Estimate(100))], axis, "label"
    )
    widths = [float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.02)
    assert drawn.count('class="whisker"') == 3
    assert "model: 50.0 (40.0 to 60.0)" in drawn


def test_a_bar_without_a_figure_says_so() -> None:
    drawn = bars([Bar("model", Estimate(math.nan))], Axis(0, 1, "error"), "label")
    assert "no figure" in drawn
    assert "nan" not in drawn


def test_curves_break_at_missing_values_and_show_every_name() -> None:
    x = np.arange(4.0)
    series = [Series("loss", x, np.array([3, np.nan, 2, 1.0]), "model"), Series("val", x, x, "other2")]
    drawn = curves(series, Axis(0, 3, "epoch"), Axis(0, 3, "loss"), "label", mark=(3, 1, "kept"))
    assert "nan" not in drawn
    assert all(f"<title>{name}</title>" in drawn for name in ("loss", "val"))
    assert "kept" in drawn


def test_one_point_and_no_points_draw_nothing_and_do_not_fail() -> None:
    for y in ([1.0], [math.nan]):
        drawn = curves(
            [Series("loss", np.array([1.0]), np.array(y), "model")],
            Axis(0, 2, "epoch"),
            Axis(0, 2, "loss"),
            "",
        )
        assert "nan" not in drawn


def test_columns_leave_out_missing_values() -> None:
    drawn = columns(
        ["T1", "T2"], [("|dx|", "truth", np.array([1, np.nan])), ("|dy|", "model", np.ones(2))], "", "px", ""
    )
    assert drawn.count("<title>T") == 3
    assert "nan" not in drawn


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=400))
def test_error_curve_is_the_share_of_cases_within(errors: list[float]) -> None:
    x, share = error_curve(np.array(errors))
    assert len(x) <= 160
    assert share[-1] == 1
    for a, s in zip(x[:20], share[:20], strict=True):
        assert np.mean(np.array(errors) < a) <= s <= np.mean(np.array(errors) <= a) + 1e-12


def test_cases_without_a_figure_are_never_reached() -> None:
    _, share = error_curve(np.array([1.0, 2.0, math.nan, math.inf]))
    assert share[-1] == 0.5
    assert len(error_curve(np.array([math.nan]))[0]) == 0


def test_a_long_legend_takes_more_rows() -> None:
    _, one = legend([("a", "model")], 0, 300)
    _, many = legend([(f"a rather long name {k}", "model") for k in range(6)], 0, 300)
    assert one < many

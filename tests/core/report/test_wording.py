"""Figures and verdicts read the same on every page."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.report.wording import Estimate, count, figure, interval, listing, share, verdict, with_interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (1.2345, "1.23"),
        (9.999, "10.0"),
        (58.6, "58.6"),
        (123.4, "123"),
        (1234.5, "1,234"),
        (-5.67, "−5.67"),
        (0.0, "0"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert figure(value) == text


def test_signed_figures_show_a_plus() -> None:
    assert figure(1.5, signed=True) == "+1.50"
    assert figure(-1.5, signed=True) == "−1.50"
    assert figure(0.0, signed=True) == "0"


def test_intervals_appear_only_where_there_are_bounds() -> None:
    assert with_interval(Estimate(23.14, 20.4, 26.0), "raw px") == "23.1 raw px (20.4 to 26.0)"
    assert with_interval(Estimate(23.14), "raw px") == "23.1 raw px"
    assert interval(Estimate(1.0)) == ""


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-3.0, -0.1, "beats"),
        (0.1, 3.0, "worse"),
        (-1.0, 1.0, "no difference shown"),
        (-1.0, 0.0, "no difference shown"),
        (0.0, 1.0, "no difference shown"),
        (math.nan, math.nan, "not tested"),
    ],
)
def test_verdict_needs_the_whole_interval_on_one_side(low: float, high: float, word: str) -> None:
    assert verdict(Estimate(0.0, low, high)) == word


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
def test_verdict_turns_round_with_the_sign(value: float, below: float, above: float) -> None:
    opposite = {"beats": "worse", "worse": "beats", "no difference shown": "no difference shown"}
    given_ = Estimate(value, value - below, value + above)
    turned = Estimate(-value, -value - above, -value + below)
    assert verdict(turned) == opposite[verdict(given_)]


def test_counts_and_lists() -> None:
    assert [count(n, "film") for n in (0, 1, 1234)] == ["0 films", "1 film", "1,234 films"]
    assert count(2, "body", "bodies") == "2 bodies"
    assert [listing(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["none", "a", "a and b", "a, b and c"]
    assert [share(0.256), share(math.nan)] == ["26 %", "–"]

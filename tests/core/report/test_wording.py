"""Figures and verdicts read the same on every page."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from stages.core.evaluate.statistics import Verdict
from stages.core.report.wording import (
    VERDICTS,
    Estimate,
    count,
    figure,
    interval,
    listing,
    share,
    with_interval,
)


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


def test_every_verdict_of_a_comparison_has_words() -> None:
    assert set(VERDICTS) == set(get_args(Verdict))
    assert [VERDICTS[v][1] for v in ("better", "worse", "no difference")] == ["good", "bad", "open"]


def test_counts_and_lists() -> None:
    assert [count(n, "film") for n in (0, 1, 1234)] == ["0 films", "1 film", "1,234 films"]
    assert count(2, "body", "bodies") == "2 bodies"
    assert [listing(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [share(0.256), share(math.nan)] == ["26 %", "–"]

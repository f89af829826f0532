"""The imagined user: every click is a new point, the worst one, and worth what it should be."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.spine.looping.clicks import Clicked, click_by_hand, click_through
from stages.spine.looping.counting import clicks_needed
from stages.spine.looping.loop import Loop, LoopRule, Round
from stages.spine.refining.clicking import click_worst
from stages.spine.refining.inference import Refined, Refiner

N, K = 4, 6
FILMS = np.zeros((N, 64, 32), np.uint8)
SCALE = np.tile([10.0, 20.0], (N, 1, 1))


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A first answer and the truth."""
    first, truth = np.random.default_rng(seed).uniform(0, 30, (2, N, K, 2))
    return first, truth


class Moody:
    """A Refiner that is off somewhere else every time it is asked, and follows no hint."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def run(
        self, images: np.ndarray, hints: np.ndarray | None = None, previous: Tensor | None = None
    ) -> Refined:
        return Refined(self.rng.uniform(0, 30, (len(images), K, 2)), torch.zeros(len(images), K, 2, 2))


def nobody(*_: Any) -> np.ndarray:
    raise AssertionError("the loop is not asked")


def alone(seed: int) -> Loop:
    off = LoopRule(update="hint", rounds=3, threshold=0.0, accept=0.0)
    return Loop(cast(Refiner, Moody(seed)), None, nobody, nobody, off)


def errors(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm((points - truth) * SCALE, axis=-1)


@given(st.integers(0, 1000))
def test_no_point_is_clicked_twice_and_each_is_the_worst_left(seed: int) -> None:
    _, truth = drawn(seed)
    course = click_through(alone(seed), FILMS, truth, SCALE, K, with_loop=False)
    assert course.points.shape == (K + 1, N, K, 2)
    np.testing.assert_array_equal(course.hinted.sum(-1), np.arange(K + 1)[:, None].repeat(N, 1))
    for count in range(K):
        before, after = course.hinted[count], course.hinted[count + 1]
        assert not (before & ~after).any(), "a hint stays"
        left = np.where(before, -1.0, errors(course.points[count], truth))
        np.testing.assert_array_equal(left.argmax(1), (after & ~before).argmax(1))


@given(st.integers(0, 1000))
def test_as_many_clicks_as_points_leave_no_pasted_error(seed: int) -> None:
    first, truth = drawn(seed)
    for course in (
        click_through(alone(seed), FILMS, truth, SCALE, K + 2, with_loop=False),
        click_by_hand(first, truth, SCALE, K + 2),
    ):
        assert errors(course.pasted(truth)[K - 1], truth).max() > 0
        assert (course.pasted(truth)[K:] == truth).all(), "and further clicks change nothing"


@given(st.integers(0, 1000))
def test_manual_revision_is_the_first_answer_with_clicked_points_pasted(seed: int) -> None:
    first, truth = drawn(seed)
    course = click_by_hand(first, truth, SCALE, 3)
    np.testing.assert_array_equal(course.points, np.where(course.hinted[..., None], truth, first))
    np.testing.assert_array_equal(course.points, course.pasted(truth))
    totals = errors(course.points, truth).sum((1, 2))
    assert (np.diff(totals) < 0).all()


def test_points_without_a_label_are_never_clicked() -> None:
    first, truth = drawn(1)
    truth[0, 2:], truth[1] = np.nan, np.nan
    course = click_by_hand(first, truth, SCALE, K)
    assert course.hinted[-1].sum(1).tolist() == [2, 0, K, K]
    assert np.isfinite(course.points).all()


def test_the_worst_point_is_the_worst_in_raw_px() -> None:
    truth = np.zeros((1, 2, 2))
    predicted = np.array([[[3.0, 0.0], [0.0, 2.0]]])
    none = np.full((1, 2, 2), np.nan)
    square, tall = np.array([[[1.0, 1.0]]]), np.array([[[1.0, 2.0]]])
    assert np.isfinite(click_worst(none, predicted, truth, square)).all(-1).tolist() == [[True, False]]
    assert np.isfinite(click_worst(none, predicted, truth, tall)).all(-1).tolist() == [[False, True]]
    assert np.isnan(none).all(), "the hints that came in stay as they were"


def test_without_the_loop_nobody_is_asked_and_with_it_the_answer_is_its_own() -> None:
    _, truth = drawn(2)

    def flags_all(_: np.ndarray, __: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.full(points.shape[:2], 0.9)

    def puts_right(rows: np.ndarray, _: np.ndarray, __: np.ndarray) -> np.ndarray:
        return truth[rows]

    rule = LoopRule(update="replace", rounds=2, threshold=0.5, accept=0.0)
    with_loop = Loop(cast(Refiner, Moody(3)), None, flags_all, puts_right, rule)
    course = click_through(with_loop, FILMS, truth, SCALE, 1, with_loop=True)
    np.testing.assert_allclose(course.pasted(truth), np.stack([truth, truth]))
    assert len(course.rounds) == 2
    assert all(isinstance(one, Round) for one in course.rounds)
    assert click_through(alone(3), FILMS, truth, SCALE, 1, with_loop=False).rounds == []


def test_clicks_needed_on_a_table_by_hand() -> None:
    per_film = np.array(
        [
            [9.0, 5.0, 9.0, 9.0],
            [7.0, 1.0, 5.0, 9.0],
            [5.0, 6.0, 4.0, 9.0],
        ]
    )  # after 0, 1 and 2 clicks
    assert clicks_needed(per_film, 5.0) == pytest.approx(((2 + 0 + 1 + 2) / 4, 1 / 4))
    assert clicks_needed(per_film, 9.0) == (0.0, 0.0)
    assert clicks_needed(per_film, 0.5) == (2.0, 1.0)


def test_pasting_touches_clicked_points_only() -> None:
    first, truth = drawn(4)
    hinted = np.zeros((1, N, K), bool)
    hinted[0, 0, 0] = True
    pasted = Clicked(first[None], hinted, []).pasted(truth)
    np.testing.assert_array_equal(pasted[0][hinted[0]], truth[hinted[0]])
    np.testing.assert_array_equal(pasted[0][~hinted[0]], first[~hinted[0]])

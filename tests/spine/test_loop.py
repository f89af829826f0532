"""The loop's rules, with Refiner, Detector and Corrector as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.spine.looping.loop import Loop, LoopRule, Round, State, Update
from stages.spine.looping.propagation import Propagation
from stages.spine.refining.inference import Refined, Refiner

N, K = 3, 8
FILMS = np.repeat(np.arange(N, dtype=np.uint8), 64 * 32).reshape(N, 64, 32)
"""each of one grey, its row number"""
TRUTH = np.random.default_rng(0).uniform(5, 25, (N, K, 2))
NO_HINTS = np.full(TRUTH.shape, np.nan)
UPDATES: tuple[Update, ...] = ("hint", "replace")


@dataclass
class Obedient:
    """A Refiner that puts hinted points where it is told and knows no better about the others.

    Its maps count how often a film has been seen.
    """

    told: list[np.ndarray] = field(default_factory=list)
    first: np.ndarray = field(default_factory=lambda: TRUTH)

    def run(
        self, images: np.ndarray, hints: np.ndarray | None = None, previous: Tensor | None = None
    ) -> Refined:
        hints = np.full((len(images), K, 2), np.nan) if hints is None else hints
        self.told.append(hints)
        rows = images[:, 0, 0]
        seen = torch.zeros(len(images), K, 2, 2) if previous is None else previous + 1
        return Refined(np.where(np.isfinite(hints), hints, self.first[rows]), seen)


def is_off(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A Detector that knows the truth: 0.1 of suspicion a px, at most 1."""
    return (0.1 * np.linalg.norm(points - TRUTH[rows], axis=-1)).clip(0, 1)


def put_right(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
    return TRUTH[rows]


def never(*_: Any) -> np.ndarray:
    raise AssertionError("nobody is asked")


def rule(update: Update = "hint", **changes: Any) -> LoopRule:
    return LoopRule(**({"update": update, "rounds": 3, "threshold": 0.5, "accept": 0.0} | changes))


def loop(
    check: Callable[..., np.ndarray],
    propose: Callable[..., np.ndarray],
    chosen: LoopRule,
    refiner: Obedient | None = None,
    propagation: Propagation | None = None,
) -> Loop:
    return Loop(cast(Refiner, refiner or Obedient()), propagation, check, propose, chosen)


def planted(film: int = 1, points: slice = slice(2, 5), shift: float = 9.0) -> np.ndarray:
    """The truth with a few points of one film off."""
    wrong = TRUTH.copy()
    wrong[film, points, 1] += shift
    return wrong


def state_of(points: np.ndarray) -> State:
    return State(points, torch.zeros(N, K, 2, 2))


@pytest.mark.parametrize("update", UPDATES)
def test_a_perfect_pair_repairs_a_planted_error_in_one_round(update: Update) -> None:
    wrong = planted()
    both = loop(is_off, put_right, rule(update), Obedient(first=wrong))
    last, rounds = both.run(FILMS, NO_HINTS, both.refine(FILMS, NO_HINTS))
    np.testing.assert_allclose(last.points, TRUTH)
    assert len(rounds) == 1, "nothing is left to flag"
    np.testing.assert_array_equal(rounds[0].flagged, np.linalg.norm(wrong - TRUTH, axis=-1) > 5)
    np.testing.assert_array_equal(rounds[0].kept, [False, True, False])
    np.testing.assert_array_equal(rounds[0].before, wrong)
    np.testing.assert_array_equal(rounds[0].after, last.points)


def test_the_state_that_came_in_is_left_as_it_was() -> None:
    state = state_of(planted())
    loop(is_off, put_right, rule("hint")).run(FILMS, NO_HINTS, state)
    np.testing.assert_array_equal(state.points, planted())
    assert not state.maps.any()


def test_nothing_flagged_stops_at_once() -> None:
    refiner = Obedient()
    quiet = loop(is_off, never, rule(threshold=0.95), refiner)
    last, rounds = quiet.run(FILMS, NO_HINTS, state_of(planted()))
    assert rounds == []
    assert refiner.told == []
    np.testing.assert_array_equal(last.points, planted())


def test_no_rounds_switch_the_loop_off() -> None:
    last, rounds = loop(is_off, never, rule(rounds=0)).run(FILMS, NO_HINTS, state_of(planted()))
    assert rounds == []
    np.testing.assert_array_equal(last.points, planted())


@pytest.mark.parametrize("update", UPDATES)
def test_a_round_that_raises_suspicion_is_taken_back(update: Update) -> None:
    """Film 0 is made worse, film 1 better; film 2 is fine."""
    wrong = planted(0) + planted(1) - TRUTH

    def propose(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.where((rows == 0)[:, None, None], points + 30.0, TRUTH[rows])

    refiner = Obedient(first=wrong)
    both = loop(is_off, propose, rule(update), refiner)
    last, rounds = both.run(FILMS, NO_HINTS, both.refine(FILMS, NO_HINTS))
    np.testing.assert_array_equal(last.points[0], wrong[0])
    np.testing.assert_allclose(last.points[1], TRUTH[1])
    np.testing.assert_array_equal(rounds[0].kept, [False, True, False])
    np.testing.assert_array_equal(rounds[0].before[0], rounds[0].after[0])
    assert rounds[0].flagged[0].any(), "flagged, but in vain"
    assert len(rounds) == 1, "a film whose round was taken back has left the loop"
    expected = [0, 1, 0] if update == "hint" else [0, 0, 0]
    assert last.maps[:, 0, 0, 0].tolist() == expected, "maps are those of the last pass that was kept"


@pytest.mark.parametrize(("accept", "kept"), [(0.0, True), (0.2, True), (0.3, False), (-0.5, True)])
def test_a_round_is_kept_if_suspicion_falls_by_the_share_asked_for(accept: float, kept: bool) -> None:
    """From 8 px off to 6: a quarter less."""

    def nearer(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        return TRUTH[rows] + np.array([0.0, 6.0])

    wrong = planted(points=slice(0, K), shift=8.0)
    chosen = rule("replace", rounds=1, accept=accept)
    last, rounds = loop(is_off, nearer, chosen).run(FILMS, NO_HINTS, state_of(wrong))
    assert rounds[0].kept[1] == kept
    np.testing.assert_allclose(last.points[1], (TRUTH[1] + [0, 6]) if kept else wrong[1])


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_users_points_are_never_flagged_nor_moved(update: Update, threshold: float) -> None:
    hints = NO_HINTS.copy()
    hints[1, 3], hints[1, 6] = (7.0, 8.0), (9.0, 10.0)
    given = np.isfinite(hints).all(-1)
    refiner = Obedient()

    def suspicious(_: np.ndarray, __: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.ones(points.shape[:2])

    def elsewhere(_: np.ndarray, __: np.ndarray, points: np.ndarray) -> np.ndarray:
        return points + 5.0

    both = loop(suspicious, elsewhere, rule(update, threshold=threshold), refiner)
    state = both.refine(FILMS, hints)
    last, rounds = both.run(FILMS, hints, state)
    assert len(rounds) == 3
    assert all(not one.flagged[given].any() and one.flagged[~given].all() for one in rounds)
    np.testing.assert_array_equal(last.points[given], hints[given])
    assert (last.points[~given] != state.points[~given]).all()
    for told in refiner.told[1:]:
        np.testing.assert_array_equal(told[given], hints[given])


@pytest.mark.parametrize("update", UPDATES)
def test_detector_and_corrector_see_a_users_points_where_the_user_put_them(update: Update) -> None:
    """Also where the Refiner did not follow: they have learned from points that stand at their hints."""
    hints = NO_HINTS.copy()
    hints[1, 3] = (7.0, 8.0)
    shown: list[np.ndarray] = []

    def check(rows: np.ndarray, films: np.ndarray, points: np.ndarray) -> np.ndarray:
        shown.append(points[rows.tolist().index(1)])
        return is_off(rows, films, points)

    def propose(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        shown.append(points[rows.tolist().index(1)])
        return TRUTH[rows]

    both = loop(check, propose, rule(update))
    both.run(FILMS, hints, state_of(planted()))
    both.probabilities(FILMS, planted(), hints)
    assert len(shown) >= 3
    assert all((points[3] == hints[1, 3]).all() for points in shown)


def test_a_users_points_count_for_no_suspicion() -> None:
    hints = NO_HINTS.copy()
    hints[1, 2] = (0.0, 0.0)
    probability = loop(is_off, never, rule()).probabilities(FILMS, planted(), hints)
    assert probability[1, 2] == 0
    np.testing.assert_allclose(probability[1, 3:5], 0.9)


def test_proposals_of_earlier_rounds_stay_and_the_latest_wins() -> None:
    """The Detector flags point 0, then 0 and 1, then 1 alone; the Corrector's answers change every time."""
    flags = iter([[0], [0, 1], [1], []])
    proposals = iter([10.0, 20.0, 30.0])
    refiner = Obedient()

    def check(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        probability = np.zeros(points.shape[:2])
        probability[rows == 2, next(flags)] = 0.9
        return probability

    def propose(rows: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.full_like(points, next(proposals))

    _, rounds = loop(check, propose, rule("hint", accept=-9.0), refiner).run(FILMS, NO_HINTS, state_of(TRUTH))
    assert len(rounds) == 3
    told = [np.where(np.isfinite(t[0, :2, 0]), t[0, :2, 0], -1).tolist() for t in refiner.told]
    assert told == [[10.0, -1], [20.0, 20.0], [20.0, 30.0]]
    assert all(len(t) == 1 for t in refiner.told), "films that are done are not looked at again"


def test_what_hints_say_of_other_points_is_part_of_every_pass() -> None:
    """All points are off together; the one proposal that is made brings them all back."""
    wrong = TRUTH + np.array([0.0, 9.0])

    class Stubborn(Obedient):
        def run(
            self, images: np.ndarray, hints: np.ndarray | None = None, previous: Tensor | None = None
        ) -> Refined:
            return super().run(images, None, previous)

    def check(rows: np.ndarray, films: np.ndarray, points: np.ndarray) -> np.ndarray:
        probability = is_off(rows, films, points)
        probability[:, 1:] *= 0.5
        return probability

    shared = Propagation(np.kron(np.ones((K, K)), np.eye(2)) * 50, noise=0.01, reach=8.0)
    both = loop(check, put_right, rule("hint"), Stubborn(first=wrong), shared)
    last, _ = both.run(FILMS, NO_HINTS, both.refine(FILMS, NO_HINTS))
    np.testing.assert_allclose(last.points, TRUTH, atol=0.01)


def test_a_set_without_films_is_no_trouble() -> None:
    empty: tuple[State, list[Round]] = loop(is_off, never, rule()).run(
        FILMS[:0], NO_HINTS[:0], State(TRUTH[:0], torch.zeros(0, K, 2, 2))
    )
    assert empty[0].points.shape == (0, K, 2)

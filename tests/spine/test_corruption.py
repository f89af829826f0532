"""Mistakes played on labels: each does what its name says, on any vertebral schema."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.data.schema import LandmarkSchema
from stages.spine import corruption
from stages.spine.corruption import CORRUPTIONS, as_vertebrae
from stages.spine.schema import LEVELS, vertebral_schema

SCHEMAS = st.integers(2, 17).map(lambda n: vertebral_schema(LEVELS[:n]))
SEEDS = st.integers(0, 10_000)


def spine(schema: LandmarkSchema, seed: int) -> np.ndarray:
    """Corners (K, 2) of boxes under each other, no two distances alike."""
    rng = np.random.default_rng(seed)
    n = schema.n_points // 4
    y = np.cumsum(rng.uniform(8, 12, n))
    boxes = np.array([[-5, -3], [5, -3], [-5, 3], [5, 3]]) + rng.uniform(-0.5, 0.5, (n, 4, 2))
    boxes[..., 1] += y[:, None]
    boxes[..., 0] += rng.uniform(20, 24, (n, 1))
    return boxes.reshape(-1, 2)


@settings(deadline=None, max_examples=80)
@given(SCHEMAS, SEEDS)
def test_a_shift_moves_one_stretch_by_exactly_one_vertebra(schema: LandmarkSchema, seed: int) -> None:
    points = spine(schema, seed)
    before, after = (
        as_vertebrae(p) for p in (points, corruption.shift(points, schema, np.random.default_rng(seed)))
    )
    moved = np.flatnonzero((before != after).any((1, 2)))
    assert len(moved) >= 1
    assert (np.diff(moved) == 1).all(), "one stretch without gaps"
    above, below = 2 * before[0] - before[1], 2 * before[-1] - before[-2]
    around = np.stack([above, *before, below])
    down, up = around[moved + 2], around[moved]
    assert np.array_equal(after[moved], down) or np.array_equal(after[moved], up)


def test_shifts_reach_either_end_neither_and_both() -> None:
    schema = vertebral_schema(LEVELS)
    before = as_vertebrae(spine(schema, 0))
    kinds = set()
    for seed in range(80):
        after = as_vertebrae(corruption.shift(spine(schema, 0), schema, np.random.default_rng(seed)))
        moved = (before != after).any((1, 2))
        kinds.add((bool(moved[0]), bool(moved[-1])))
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}


def test_a_single_vertebra_cannot_be_shifted() -> None:
    schema = vertebral_schema(("L5",))
    with pytest.raises(ValueError, match="at least 2 vertebrae, there are 1"):
        corruption.shift(spine(schema, 0), schema, np.random.default_rng(0))


@settings(deadline=None, max_examples=80)
@given(SCHEMAS, SEEDS)
def test_neighbours_move_few_points_onto_places_nearby(schema: LandmarkSchema, seed: int) -> None:
    points = spine(schema, seed)
    moved = corruption.neighbours(points, schema, np.random.default_rng(seed))
    changed = np.flatnonzero((points != moved).any(1))
    assert len(changed) <= 9
    for point in changed:
        places = np.flatnonzero((points == moved[point]).all(1))
        assert len(places) == 1
        assert 1 <= abs(places[0] - point) <= 4


def test_neighbours_leave_a_quarter_of_the_films_alone() -> None:
    schema = vertebral_schema(LEVELS)
    points = spine(schema, 0)
    rng = np.random.default_rng(0)
    counts = [(corruption.neighbours(points, schema, rng) != points).any(1).sum() for _ in range(800)]
    assert np.mean(np.array(counts) == 0) == pytest.approx(0.25, abs=0.05)
    assert np.mean(counts) == pytest.approx(np.dot(corruption.MOVED, range(10)), abs=0.4)


@settings(deadline=None, max_examples=40)
@given(SCHEMAS, SEEDS)
def test_exchanging_all_sides_twice_changes_nothing(schema: LandmarkSchema, seed: int) -> None:
    points, rng = spine(schema, seed), np.random.default_rng(seed)
    once = corruption.sides(points, schema, rng, exchanged=1.0)
    np.testing.assert_array_equal(once, points[schema.swap])
    np.testing.assert_array_equal(corruption.sides(once, schema, rng, exchanged=1.0), points)


@settings(deadline=None, max_examples=40)
@given(SCHEMAS, SEEDS, st.sampled_from(sorted(CORRUPTIONS)))
def test_corruptions_leave_their_argument_alone_and_repeat(
    schema: LandmarkSchema, seed: int, name: str
) -> None:
    points = spine(schema, seed)
    kept = points.copy()
    first, second = (CORRUPTIONS[name](points, schema, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(points, kept)
    np.testing.assert_array_equal(first, second)
    assert first.shape == points.shape
    assert not np.shares_memory(first, points)
    assert name != "clean" or np.array_equal(first, points)

"""Distances and angles for the morphology losses: each criterion finds what it promises, and only in training films."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.spine import pairs
from stages.spine.refining.pairs import Criterion, Pairs, choose_pairs
from stages.spine.schema import SCHEMA, vertebral_schema
from tests.spine.drawn import draw_spines, write_store

FOUR = vertebral_schema(("T1", "T2", "T3", "T4"))
STEADY: tuple[Criterion, ...] = ("lowest_variation", "lowest_deviation")


def shapes(n: int = 40, noise: float = 0.01, seed: int = 0) -> np.ndarray:
    """Labels (n, 16, 2) of four vertebrae in shares of the film's sides; every film is scaled on its own."""
    rng = np.random.default_rng(seed)
    points = draw_spines(rng, n, 4)[1] / [32, 64]
    points = points.mean(1, keepdims=True) + rng.uniform(0.6, 1.4, (n, 1, 1)) * (
        points - points.mean(1, keepdims=True)
    )
    return points + rng.normal(0, noise, points.shape)


def lengths(points: np.ndarray, chosen: Pairs) -> np.ndarray:
    """(N, P)"""
    first, second = np.array(chosen.pairs).T
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def angle(points: np.ndarray, a: int, b: int, c: int) -> np.ndarray:
    """(N,) at b from a to c, radians, by another formula than the code's."""
    u, v = points[:, a] - points[:, b], points[:, c] - points[:, b]
    return np.arctan2(v[:, 1], v[:, 0]) - np.arctan2(u[:, 1], u[:, 0])


def test_anatomical_pairs_are_sides_and_gaps_and_corners() -> None:
    chosen = choose_pairs(np.empty((0, 68, 2)), SCHEMA, "anatomical", count=3)
    assert (len(chosen.pairs), len(chosen.triplets)) == (17 * 4 + 16 * 2, 17 * 4)
    assert len({frozenset(pair) for pair in chosen.pairs}) == 100, "each once"
    inner = [pair for pair in chosen.pairs if pair[0] // 4 == pair[1] // 4]
    assert {frozenset(pair) for pair in inner} == {frozenset(edge) for edge in SCHEMA.edges}
    gaps = [(SCHEMA.names[a], SCHEMA.names[b]) for a, b in chosen.pairs if a // 4 != b // 4]
    assert gaps[:2] == [("T1 BL", "T2 TL"), ("T1 BR", "T2 TR")]
    assert [b for _, b, _ in chosen.triplets] == list(range(68)), "every corner is an angle's vertex once"
    for a, b, c in chosen.triplets:
        assert {frozenset((a, b)), frozenset((b, c))} <= {frozenset(edge) for edge in SCHEMA.edges}


def test_lowest_deviation_finds_short_distances() -> None:
    """What the reference's file turned out to hold: on films of several sizes, short varies least."""
    points = shapes()
    chosen = choose_pairs(points, FOUR, "lowest_deviation", 12)
    every = Pairs(criterion="anatomical", pairs=tuple(itertools.combinations(range(16), 2)), triplets=())
    assert lengths(points, chosen).mean() < 0.5 * lengths(points, every).mean()
    relative = choose_pairs(points, FOUR, "lowest_variation", 12)
    assert lengths(points, chosen).mean() < 0.7 * lengths(points, relative).mean()


@pytest.mark.parametrize("criterion", STEADY)
def test_a_planted_constant_distance_and_angle_are_found_first(criterion: Criterion) -> None:
    """Points 3, 9 and 14 keep their distance on every film, and turn together about a right angle at 9."""
    points = shapes(noise=0.02)
    rng = np.random.default_rng(1)
    turn = rng.uniform(0, 2 * np.pi, len(points))
    towards = np.stack([np.cos(turn), np.sin(turn)], -1)
    points[:, 3] = points[:, 9] + 0.2 * towards
    points[:, 14] = points[:, 9] + rng.uniform(0.1, 0.3, (len(points), 1)) * towards[:, ::-1] * [-1, 1]
    chosen = choose_pairs(points, FOUR, criterion, 5)
    assert chosen.pairs[0] == (3, 9)
    assert chosen.triplets[0] == (3, 9, 14)
    assert (len(chosen.pairs), len(chosen.triplets)) == (5, 5)


@pytest.mark.parametrize("criterion", STEADY)
def test_chosen_distances_vary_less_than_those_left_out(criterion: Criterion) -> None:
    points = shapes()
    some = lengths(points, choose_pairs(points, FOUR, criterion, 20))
    every = choose_pairs(points, FOUR, criterion, 120)
    rest = lengths(points, every)[:, 20:]
    by = (lambda x: x.std(0) / x.mean(0)) if criterion == "lowest_variation" else (lambda x: x.std(0))
    assert by(some).max() <= by(rest).min()


def test_angles_of_lowest_variation_are_no_straight_lines() -> None:
    points = shapes()
    for a, b, c in choose_pairs(points, FOUR, "lowest_variation", 30).triplets:
        turn = np.abs(np.angle(np.exp(1j * angle(points, a, b, c)).mean()))
        assert np.deg2rad(20) < turn < np.deg2rad(160)
    flat = [
        np.abs(np.sin(angle(points, *t))).mean()
        for t in choose_pairs(points, FOUR, "lowest_deviation", 30).triplets
    ]
    assert np.median(flat) < 0.3, "whereas by deviation alone, most are"


def test_few_films_and_landmarks_named_twice_are_refused() -> None:
    with pytest.raises(StageError, match="'lowest_variation' needs at least 3 labelled training films"):
        choose_pairs(shapes(2), FOUR, "lowest_variation", 5)
    with pytest.raises(ValueError, match=r"\(3, 4, 3\) names a landmark twice"):
        Pairs(criterion="anatomical", pairs=((0, 1),), triplets=((3, 4, 3),))


def run(store_folder: Path, output: Path, criterion: str) -> dict[str, float]:
    params = pairs.Params.model_validate({"criterion": criterion, "count": 9})
    films, audit, split = (store_folder / name for name in ("films", "audit", "split.parquet"))
    return pairs.run(params, films, audit, split, output, Observer.quiet(store_folder / "scratch"))


@pytest.mark.parametrize("criterion", ["anatomical", *STEADY])
def test_run_twice_writes_the_same_bytes(tmp_path: Path, criterion: str) -> None:
    write_store(tmp_path, SCHEMA)
    found = [run(tmp_path, tmp_path / "made" / name, criterion) for name in ("a.json", "b.json")]
    assert found[0] == found[1]
    assert found[0]["n_films"] == 7, "8 films have the role train, and the audit drops one"
    assert (tmp_path / "made" / "a.json").read_bytes() == (tmp_path / "made" / "b.json").read_bytes()
    read = Pairs.load(tmp_path / "made" / "a.json")
    assert (len(read.pairs), len(read.triplets)) == (found[0]["n_pairs"], found[0]["n_triplets"])
    assert read.criterion == criterion


def test_only_films_that_may_be_trained_on_decide(tmp_path: Path) -> None:
    store = write_store(tmp_path, SCHEMA)
    run(tmp_path, tmp_path / "a.json", "lowest_variation")
    labels = tables.read_table(store.audit / "labels.parquet")
    used = set(store.open().trainable())
    rng = np.random.default_rng(0)
    schema = pq.read_schema(store.audit / "labels.parquet")
    for name, spoilt in (("b.json", used ^ set(range(len(labels)))), ("c.json", used)):
        points = [rng.permutation(p) if i in spoilt else p for i, p in enumerate(labels["landmarks"])]
        other = labels.assign(landmarks=pd.Series(points, index=labels.index))
        tables.write_table(store.audit / "labels.parquet", other, schema)
        run(tmp_path, tmp_path / name, "lowest_variation")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes() != (tmp_path / "c.json").read_bytes()

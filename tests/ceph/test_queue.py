"""Stage ceph-queue: the films worth a reviewer's minute, the audit drawn by chance, and no film held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.ceph import queue, scores
from stages.ceph.schema import CEPH
from stages.ceph.scoring import selection
from stages.ceph.scoring.choice import Choice
from stages.ceph.scoring.evidence import gather
from stages.ceph.scoring.selection import Mix, Shares
from stages.ceph.scoring.shape import fit_shape_prior
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, save_model
from stages.core.review.events import ReviewEvent, write_events
from stages.core.review.queue import read_queue
from stages.core.stage import Observer
from tests.ceph import test_scores
from tests.ceph.unsure import BAD, RAW, STORED, Set, UnsureModel, write_set

SEED = 50
POOL, GATE, TEST = 40, 8, 8
WORST_FILMS = (4, 11, 23, 30)
SHARES = Shares(uncertain=0.7, random_audit=0.2, repeat=0.1)
BLINDED = Mix(uncertain=0.0, random_audit=0.25, repeat=0.5)


def params(**changes: object) -> queue.Params:
    values: dict[str, object] = {
        "seed": 3,
        "threads": 1,
        "films": 20,
        "shares": SHARES,
        "blinded": BLINDED,
        "gate_films": 0,
        "landmark_cap": 0.5,
        "diversity": 0.5,
    }
    return queue.Params.model_validate(values | changes)


@dataclass(frozen=True)
class Made:
    base: Set
    clinic: Set
    model: Path
    scores: Path
    stand_in: UnsureModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("queue")
    base = write_set(folder, "base", test_scores.ROLES, test_scores.SEED, spacing_mm=0.1)
    clinic = write_set(folder, "clinic", {"train": POOL, "gate": GATE, "test": TEST}, SEED, labelled=False)
    bad = frozenset((SEED, film) for film in WORST_FILMS)
    model = UnsureModel({test_scores.SEED: base, SEED: clinic}, bad)
    import torch

    card = ModelCard(
        lane="ceph", dataset="phantom", architecture="none", key="f" * 64, params={}, input=None,
        schema=CEPH.names, n_train=1, split_sha256="0" * 64,
    )  # fmt: skip
    save_model(folder / "model", {"none": torch.zeros(1)}, card)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "open_model", lambda *_: model)
        test_scores.run(base, folder / "scores")
    return Made(base, clinic, folder / "model", folder / "scores", model)


def run(made: Made, output: Path, reviewed: Path | None = None, **changes: object) -> dict[str, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "open_model", lambda *_: made.stand_in)
        return queue.run(
            params(**changes), made.base.films, made.base.split, made.clinic.films, made.clinic.split,
            made.model, made.scores, output, Observer.quiet(output.parent), reviewed,
        )  # fmt: skip


def test_a_second_run_writes_the_same_bytes_and_another_seed_another_queue(
    made: Made, tmp_path: Path
) -> None:
    first, again = run(made, tmp_path / "a.parquet"), run(made, tmp_path / "b.parquet")
    assert first == again
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    run(made, tmp_path / "c.parquet", seed=4)
    assert (tmp_path / "a.parquet").read_bytes() != (tmp_path / "c.parquet").read_bytes()


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_kinds_have_their_shares_and_the_worst_films_are_in_it(
    made: Made, tmp_path: Path, diversity: float
) -> None:
    metrics = run(made, tmp_path / "queue.parquet", diversity=diversity)
    found = read_queue(tmp_path / "queue.parquet")
    assert found["kind"].value_counts().to_dict() == {"uncertain": 14, "random_audit": 4, "repeat": 2}
    assert metrics["n_films"] == found["id"].nunique() == 18
    worst = {made.clinic.ids[i] for i in WORST_FILMS}
    audited = set(found["id"][found["kind"] == "random_audit"])
    assert worst <= set(found["id"])
    first = found[found["kind"] == "uncertain"].head(len(worst - audited))
    assert set(first["id"]) == worst - audited, "the worst films come first"
    assert set(found["model_key"]) == {"f" * 64}
    assert found["spacing_x_mm"].isna().all()


def test_reasons_are_those_that_were_planted_and_name_the_landmarks(made: Made, tmp_path: Path) -> None:
    run(made, tmp_path / "queue.parquet")
    found = read_queue(tmp_path / "queue.parquet")
    planted = found[found["id"].isin(made.clinic.ids[list(WORST_FILMS)]) & (found["kind"] == "uncertain")]
    assert len(planted) >= 2
    for reason in planted["reason"]:
        assert "tta_disagreement at" in reason
        assert any(CEPH.names[k] in reason for k in BAD)
    for kind in ("random_audit", "repeat"):
        assert found["reason"][found["kind"] == kind].str.startswith(kind).all()


def test_predictions_are_the_models_in_raw_px(made: Made, tmp_path: Path) -> None:
    run(made, tmp_path / "queue.parquet")
    found = read_queue(tmp_path / "queue.parquet")
    where = [made.clinic.ids.tolist().index(film) for film in found["id"]]
    images = np.load(made.clinic.films / "images.npy")[where]
    answer = made.stand_in.predict(images)
    scale = np.array([RAW[1] / STORED[1], RAW[0] / STORED[0]])
    raw = (answer.points + 0.5) * scale - 0.5
    np.testing.assert_allclose(np.stack(found["landmarks"].tolist()), raw, atol=1e-3)
    np.testing.assert_allclose(
        np.stack(found["expected_error"].tolist()), answer.expected_error * np.sqrt(scale.prod()), rtol=1e-5
    )


def test_the_audit_speaks_for_the_whole_pool(made: Made) -> None:
    base, clinic = (LabelledFilms.open(s.films, s.split) for s in (made.base, made.clinic))
    pool = queue.gather_pool(base, clinic, set(), params())
    choice = Choice.open(made.scores)
    prior = fit_shape_prior(made.base.truth[made.base.roles == "train"])
    found = gather(made.stand_in, clinic.films, pool.rows, choice.draws, prior, 3)
    audited, seeds = np.zeros(POOL), 200
    for seed in range(seeds):
        rows, _ = queue.choose(params(seed=seed), clinic, pool, found, choice)
        audited[[row.film for row in rows if row.kind == "random_audit"]] += 1
    expected = seeds * 4 / POOL
    assert audited.sum() == seeds * 4
    assert np.abs(audited - expected).max() < 5 * np.sqrt(expected)
    assert audited[list(WORST_FILMS)].mean() == pytest.approx(expected, rel=0.4), (
        "films that the model is unsure of are audited as often as all others"
    )


# ------------ held-out and reviewed films


def test_no_film_of_gate_or_test_is_asked_about(made: Made, tmp_path: Path) -> None:
    for films in (20, 500):
        run(made, tmp_path / "queue.parquet", films=films)
        found = read_queue(tmp_path / "queue.parquet")
        assert set(found["id"]) <= set(made.clinic.ids[made.clinic.roles == "train"])
    assert found["id"].nunique() == POOL, "a queue asked for more than there is takes the whole pool"


@pytest.mark.parametrize(
    ("row", "name", "where"),
    [(POOL + GATE, "clinic", "test of the clinic set"), (POOL, "clinic", "gate of the clinic set"),
     (-1, "base", "test of the base set"), (-8, "base", "gate of the base set")],
)  # fmt: skip
def test_a_held_out_film_in_the_queue_is_refused_by_name(
    made: Made, tmp_path: Path, row: int, name: str, where: str
) -> None:
    run(made, tmp_path / "queue.parquet")
    found = read_queue(tmp_path / "queue.parquet")
    base, clinic = (LabelledFilms.open(s.films, s.split) for s in (made.base, made.clinic))
    queue.require_not_held_out(found, base, clinic)
    film = (made.clinic if name == "clinic" else made.base).ids[row]
    ids = found["id"].to_numpy().copy()
    ids[np.flatnonzero(~found["blinded"])[0]] = film
    with pytest.raises(StageError, match=f"{film} .{where}."):
        queue.require_not_held_out(found.assign(id=ids), base, clinic)


def test_gate_films_are_added_on_demand_and_always_blinded(made: Made, tmp_path: Path) -> None:
    metrics = run(made, tmp_path / "queue.parquet", gate_films=3)
    found = read_queue(tmp_path / "queue.parquet")
    gate = found[found["id"].isin(made.clinic.ids[made.clinic.roles == "gate"])]
    assert metrics["n_gate"] == len(gate) == 3
    assert gate["blinded"].all()
    assert (gate["kind"] == "random_audit").all()
    assert not gate["id"].duplicated().any()
    shown = found.assign(blinded=False)
    base, clinic = (LabelledFilms.open(s.films, s.split) for s in (made.base, made.clinic))
    with pytest.raises(StageError, match="gate of the clinic set"):
        queue.require_not_held_out(shown, base, clinic)


def test_a_copy_of_a_test_film_under_another_name_is_left_out(made: Made, tmp_path: Path) -> None:
    clinic = write_set(tmp_path, "clinic", {"train": POOL, "gate": GATE, "test": TEST}, SEED, labelled=False)
    images = np.load(clinic.films / "images.npy")
    images[5], images[6] = images[POOL + GATE + 1], np.load(made.base.films / "images.npy")[-1]
    np.save(clinic.films / "images.npy", images)
    metrics = run(replace(made, clinic=clinic), tmp_path / "queue.parquet", films=500)
    found = read_queue(tmp_path / "queue.parquet")
    assert metrics["n_held_out_copies"] == 2
    assert not set(found["id"]) & {clinic.ids[5], clinic.ids[6]}


def event(film: str, number: int, verdict: str = "accept", supersedes: int | None = None) -> ReviewEvent:
    placed = {"x": 1.0, "y": 1.0} if verdict == "accept" else {}
    return ReviewEvent.model_validate(
        {
            "event_id": f"{number:032x}", "ts_utc": f"2026-01-01T00:00:{number % 60:02d}+00:00", "lane": "ceph",
            "round": 1, "film": film, "landmark": "sella", "model_key": "m", "queue_kind": "uncertain",
            "blinded": False, "rank": 1, "uncertainty": 1.0, "pred_x": 1.0, "pred_y": 1.0, "verdict": verdict,
            "dwell_ms": 1, "annotator": "a", "ui_version": "1",
            "supersedes": None if supersedes is None else f"{supersedes:032x}", **placed,
        }
    )  # fmt: skip


def test_reviewed_films_are_not_asked_again_and_taken_back_ones_are(made: Made, tmp_path: Path) -> None:
    ids = made.clinic.ids
    rounds = tmp_path / "reviews"
    write_events(rounds / "round-1" / "events.parquet", [event(ids[0], 1), event(ids[1], 2)])
    write_events(
        rounds / "round-2" / "events.parquet", [event(ids[2], 3), event(ids[2], 4, "undo", supersedes=3)]
    )
    metrics = run(made, tmp_path / "queue.parquet", rounds, films=500)
    found = set(read_queue(tmp_path / "queue.parquet")["id"])
    assert metrics["n_reviewed"] == 2
    assert not found & {ids[0], ids[1]}
    assert ids[2] in found


def test_a_pool_that_is_all_reviewed_says_what_to_do(made: Made, tmp_path: Path) -> None:
    events = [event(film, i) for i, film in enumerate(made.clinic.ids[:POOL])]
    write_events(tmp_path / "events.parquet", events)
    with pytest.raises(StageError, match=r"40 are reviewed.*add films to raw.ceph_clinic"):
        run(made, tmp_path / "queue.parquet", tmp_path)


# ------------ selection


def test_shares_must_add_up() -> None:
    with pytest.raises(ValidationError, match="must add up to 1"):
        Shares(uncertain=0.7, random_audit=0.2, repeat=0.2)
    with pytest.raises(ValidationError, match="a third time"):
        Shares(uncertain=0.2, random_audit=0.2, repeat=0.6)


@given(
    rows=st.integers(1, 80),
    available=st.integers(1, 80),
    repeat=st.sampled_from([0.0, 0.1, 0.33, 0.5]),
    audit=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 5),
)
def test_every_film_comes_once_and_repeats_come_later(
    rows: int, available: int, repeat: float, audit: float, seed: int
) -> None:
    shares = Shares(uncertain=1 - repeat - audit, random_audit=audit, repeat=repeat)
    wanted = selection.counts(rows, shares, available)
    distinct = wanted.uncertain + wanted.random_audit
    assert 1 <= distinct <= available
    assert wanted.repeat <= distinct
    assert distinct + wanted.repeat <= rows
    films = np.random.default_rng(seed).permutation(available)[:distinct]
    uncertain, chance = np.split(films, [wanted.uncertain])
    arranged = selection.arrange(
        uncertain, chance, np.array([900, 901]), wanted.repeat, BLINDED, np.random.default_rng(seed)
    )
    seen: dict[int, int] = {}
    for place, row in enumerate(arranged):
        if row.kind == "repeat":
            assert row.repeat_of is not None
            assert seen[row.film] == row.repeat_of < place
            assert not arranged[row.repeat_of].blinded
            assert arranged[row.repeat_of].kind != "repeat"
        else:
            assert row.film not in seen
            seen[row.film] = place
    assert set(seen) == {*films.tolist(), 900, 901}
    assert [row.film for row in arranged if row.kind == "uncertain"] == uncertain.tolist()
    assert all(row.blinded for row in arranged if row.film >= 900)


def test_chance_films_are_spread_over_the_queue() -> None:
    arranged = selection.arrange(
        np.arange(40), np.arange(40, 50), np.array([], int), 5, BLINDED, np.random.default_rng(0)
    )
    audit = [place for place, row in enumerate(arranged) if row.kind == "random_audit"]
    gaps = np.diff([0, *audit, len(arranged)])
    assert gaps.max() <= 10, "who stops early has still audited"
    gap = [place - row.repeat_of for place, row in enumerate(arranged) if row.repeat_of is not None]
    assert min(gap) >= 5


def pick(score: np.ndarray, looks: np.ndarray, **changes: object) -> list[int]:
    values: dict[str, object] = {
        "worst": np.arange(len(score)) % 5,
        "candidates": np.arange(len(score)),
        "chosen": np.array([], int),
        "count": 4,
        "diversity": 0.5,
        "landmark_cap": 1.0,
    }
    return selection.pick_uncertain(score, looks=looks, **(values | changes)).tolist()  # type: ignore[arg-type]


def test_a_copy_of_a_chosen_film_is_not_chosen() -> None:
    looks = np.random.default_rng(0).normal(size=(10, 20))
    score = np.linspace(10, 1, 10)
    looks[1] = looks[0]
    assert pick(score, looks, diversity=0.0) == [0, 1, 2, 3]
    assert 1 not in pick(score, looks)
    looks[9] = looks[0]
    assert 0 not in pick(score, looks, chosen=np.array([9])), "nor one of a film that is audited"


def test_one_landmark_brings_in_no_more_than_its_share() -> None:
    looks = np.random.default_rng(0).normal(size=(12, 20))
    score = np.linspace(20, 9, 12)
    worst = np.array([7] * 8 + [1, 2, 3, 4])
    picked = pick(score, looks, worst=worst, landmark_cap=0.5, diversity=0.0)
    assert [worst[i] for i in picked].count(7) == 2
    assert pick(score, looks, worst=np.full(12, 7), landmark_cap=0.25, diversity=0.0) == [0, 1, 2, 3], (
        "where there is no other, the cap gives way"
    )


def test_thumbnails_know_a_film_at_another_contrast() -> None:
    rng = np.random.default_rng(0)
    film, other = rng.integers(60, 180, (2, 96, 80)).astype(np.uint8)
    darker = (film * 0.5 + 20).astype(np.uint8)
    a, b, c = selection.thumbnails(np.stack([film, darker, other]))
    assert np.abs(a - b).mean() < 0.2 * np.abs(a - c).mean()


def test_a_queue_row_says_which_row_it_repeats(made: Made, tmp_path: Path) -> None:
    run(made, tmp_path / "queue.parquet")
    found = read_queue(tmp_path / "queue.parquet")
    first: pd.DataFrame = found[found["kind"] != "repeat"].set_index("id")
    for _, row in found[found["kind"] == "repeat"].iterrows():
        assert row["reason"] == f"repeat: the film of rank {first.loc[row['id'], 'rank']} again"
        assert row["rank"] > first.loc[row["id"], "rank"]

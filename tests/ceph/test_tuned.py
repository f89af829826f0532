"""Fine-tuning learns what reviewers said, keeps what the base knew, and looks at nothing that it may not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.ceph import base, tuned
from stages.ceph.locating.model import TrainedCeph
from stages.ceph.readers import reader_points
from stages.ceph.schema import CEPH, INDEX
from stages.ceph.tuning.films import balanced, base_films, hold_out, reviewed_films, with_replay
from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, write_split
from stages.core.errors import StageError
from stages.core.model.card import load_card
from stages.core.review.events import LABELS_SCHEMA
from stages.core.stage import Observer
from tests.ceph.judged import SHIFTED, SIZE, Judged, write_lane

INPUT = {"height": 64, "width": 64}
NETWORK = {
    "form": "unet",
    "backbone": "",
    "weights": "random",
    "channels": (4, 8),
    "stride": 1,
    "dropout": 0.0,
    "maps": "softmax",
    "sigma": 2.0,
    "decode": "mean",
}
LOSSES = {"cross_entropy": 1.0, "l1_cells": 0.1}


def plan(epochs: int, rate: float, monitor: str = "") -> dict[str, Any]:
    return {
        "batch_size": 8,
        "weight_decay": 0.0,
        "schedule": "constant",
        "warmup": 0.0,
        "clip_norm": 1.0,
        "ema_decay": 0.0,
        "patience": 0,
        "monitor": monitor,
        "precision": "float32",
        "checkpoint_every": 1,
        "phases": [
            {"name": "all", "epochs": epochs, "rates": {"backbone": rate, "head": rate}, "weights": LOSSES}
        ],
    }


def params(**changes: Any) -> tuned.Params:
    values: dict[str, Any] = {
        "seed": 4,
        "threads": 1,
        "device": "cpu",
        "replay": 0.5,
        "watched": 4,
        "fit": plan(3, 0.01, "val_error_model_px"),
    }
    return tuned.Params.model_validate(values | changes)


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A lane whose base is a real network, a little trained."""
    lane = write_lane(tmp_path_factory.mktemp("tuned") / "lane")
    settings = {
        "seed": 4,
        "threads": 1,
        "device": "cpu",
        "world_size": 1,
        "coarse": None,
        "input": INPUT,
        "network": NETWORK,
        "augment": {
            "mirror": 0,
            "rotation": 2.0,
            "log_scale": 0.02,
            "shift": 0.01,
            "photometric": [],
            "stretch": 0.0,
        },
        "views": [{"rotation": 0.0, "log_scale": 0.0}],
        "fit": plan(4, 0.01),
    }
    model = lane.root / "network"
    base.run(base.Params.model_validate(settings), lane.films, lane.split, model, lane.observe)
    return lane


def learned(lane: Judged, provenance: str = "corrected", films: int = 8) -> pd.DataFrame:
    """Labels of the first films of the pool at reader A's points."""
    split = read_split(lane.clinic_split)
    ids = sorted(split.loc[split["role"] == "train", "id"])[:films]
    points = reader_points(lane.clinic, "a", ids)
    rows = [
        {
            "id": film,
            "landmark": name,
            "x": points[i, k, 0],
            "y": points[i, k, 1],
            "weight": 1.0,
            "provenance": provenance,
            "annotators": ["a"],
            "event_ids": [f"{i * 100 + k:032x}"],
        }
        for i, film in enumerate(ids)
        for k, name in enumerate(CEPH.names)
    ]
    return pd.DataFrame(rows)


def run(
    lane: Judged, folder: Path, labels: pd.DataFrame, films: Path | None = None, **changes: Any
) -> tuple[TrainedCeph, dict[str, float]]:
    tables.write_table(folder / "labels.parquet", labels, LABELS_SCHEMA)
    figures = tuned.run(
        params(**changes),
        films=films or lane.films,
        split=lane.split,
        clinic=lane.clinic,
        clinic_split=lane.clinic_split,
        labels=folder / "labels.parquet",
        base=lane.root / "network",
        output=folder / "tuned",
        observe=Observer.quiet(folder / "scratch", key="k" * 64),
    )
    return TrainedCeph.open(folder / "tuned"), figures


def test_the_same_inputs_give_the_same_bytes_and_a_card_that_names_the_base(
    lane: Judged, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        _, figures = run(lane, tmp_path / name, learned(lane))
    for file in ("weights.pt", "card.json"):
        assert (tmp_path / "one" / "tuned" / file).read_bytes() == (
            tmp_path / "two" / "tuned" / file
        ).read_bytes()
    card = load_card(tmp_path / "one" / "tuned")
    assert card.params["base_key"] == load_card(lane.root / "network").key
    assert card.split_sha256 == load_card(lane.root / "network").split_sha256
    assert card.n_train == 12 + 6
    assert (figures["n_reviewed"], figures["n_watched"], figures["n_replayed"]) == (6, 2, 12)


@pytest.mark.parametrize("why", ["nothing was reviewed", "phantoms for a model of real films"])
def test_where_there_is_nothing_to_learn_from_it_is_the_base(lane: Judged, tmp_path: Path, why: str) -> None:
    labels, films = learned(lane), tmp_path / "films"
    shutil.copytree(lane.films, films)
    if why == "nothing was reviewed":
        labels = labels.iloc[:0]
    else:
        info = json.loads((films / "dataset.json").read_text(encoding="utf-8"))
        (films / "dataset.json").write_text(json.dumps(info | {"name": "isbi"}), encoding="utf-8")
    model, figures = run(lane, tmp_path, labels, films)
    assert (figures["epochs"], figures["n_reviewed"]) == (0, 0)
    assert figures["val_base_model_px"] == figures["val_tuned_model_px"]
    before = TrainedCeph.open(lane.root / "network").state
    assert before.keys() == model.state.keys()
    assert all(torch.equal(before[name], model.state[name]) for name in before)


def test_it_opens_and_answers_like_the_base(lane: Judged, tmp_path: Path) -> None:
    model, _ = run(lane, tmp_path, learned(lane))
    images = np.asarray(FilmSet.open(lane.clinic).images[:3])
    found = model.predict(images)
    assert found.points.shape == (3, CEPH.n_points, 2)
    assert (found.expected_error > 0).all()
    assert model.stored_size == SIZE


def test_landmarks_without_a_label_have_no_part_in_it(lane: Judged, tmp_path: Path) -> None:
    """What stands where the weight is 0 changes no bit of the weights."""
    labels = learned(lane)
    masked = labels["landmark"] == "porion"
    labels.loc[masked, ["weight", "provenance"]] = 0.0, "unsure"
    elsewhere = labels.copy()
    elsewhere.loc[masked, ["x", "y"]] = 5.0
    without = labels[~masked]
    for name, table in (("here", labels), ("elsewhere", elsewhere), ("without", without)):
        run(lane, tmp_path / name, table)
    weights = {(tmp_path / n / "tuned" / "weights.pt").read_bytes() for n in ("here", "elsewhere", "without")}
    assert len(weights) == 1
    run(lane, tmp_path / "all", learned(lane))
    assert (tmp_path / "all" / "tuned" / "weights.pt").read_bytes() not in weights


def test_a_label_moves_the_answer_towards_it(lane: Judged, tmp_path: Path) -> None:
    """Where reviewers put a landmark further to the right, so does the model; everything else is the same."""
    labels = learned(lane)
    moved = labels.copy()
    moved.loc[moved["landmark"] == CEPH.names[SHIFTED], "x"] += 60.0
    store = FilmSet.open(lane.clinic)
    images = np.asarray(store.images[store.rows(sorted(set(labels["id"])))])
    here, there = (
        run(lane, tmp_path / name, table, fit=plan(8, 0.02))[0].predict(images).points[:, SHIFTED, 0]
        for name, table in (("here", labels), ("there", moved))
    )
    assert (there > here).all()
    assert (there - here).mean() > 1.0


def test_the_kept_epoch_is_the_best_of_those_that_were_watched(lane: Judged, tmp_path: Path) -> None:
    observe = Observer.quiet(tmp_path / "scratch", key="k" * 64)
    labels = learned(lane)
    tables.write_table(tmp_path / "labels.parquet", labels, LABELS_SCHEMA)
    tuned.run(
        params(fit=plan(4, 0.1, "val_error_model_px")),
        lane.films, lane.split, lane.clinic, lane.clinic_split, tmp_path / "labels.parquet",
        lane.root / "network", tmp_path / "tuned", observe,
    )  # fmt: skip
    best = min(row["val_error_model_px"] for row in observe.history.values())
    data = LabelledFilms.open(lane.films, lane.split)
    store = FilmSet.open(lane.clinic)
    films = reviewed_films(store, labels)
    _, watched = hold_out(films, 4, 4)
    judged = balanced(base_films(data, "val"), films.take(watched))
    found = TrainedCeph.open(tmp_path / "tuned").locator.locate_once(judged.images).points
    error = np.linalg.norm(found - judged.points, axis=-1).mean()
    assert error == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("role", ["gate", "test"])
def test_labels_of_locked_films_are_refused_by_name(lane: Judged, tmp_path: Path, role: str) -> None:
    split = read_split(lane.clinic_split)
    locked = str(split.loc[split["role"] == role, "id"].iloc[0])
    labels = learned(lane)
    labels.loc[labels.index[:3], "id"] = locked
    with pytest.raises(StageError, match=locked):
        run(lane, tmp_path, labels)
    assert not (tmp_path / "tuned").exists()


def test_a_base_of_another_split_is_refused(lane: Judged, tmp_path: Path) -> None:
    split = read_split(lane.split)
    split.loc[split["role"] == "gate", "role"] = ["train"] * 2 + ["gate"] * 4
    write_split(tmp_path / "split.parquet", split)
    tables.write_table(tmp_path / "labels.parquet", learned(lane), LABELS_SCHEMA)
    with pytest.raises(StageError, match="was trained on the split"):
        tuned.run(
            params(), lane.films, tmp_path / "split.parquet", lane.clinic, lane.clinic_split,
            tmp_path / "labels.parquet", lane.root / "network", tmp_path / "tuned",
            Observer.quiet(tmp_path / "scratch"),
        )  # fmt: skip


def test_replay_is_at_least_half() -> None:
    with pytest.raises(ValidationError, match="replay"):
        params(replay=0.4)


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.5, 0.9))
def test_an_epoch_has_every_film_and_the_asked_share_of_the_base(n: int, m: int, replay: float) -> None:
    base_rows, reviewed_rows = with_replay(n, m, replay)
    assert set(base_rows) == set(range(n))
    assert set(reviewed_rows) == set(range(m))
    share = len(base_rows) / (len(base_rows) + len(reviewed_rows))
    assert share >= replay - 1e-9
    counts = [np.bincount(rows) for rows in (base_rows, reviewed_rows)]
    assert all(c.max() - c.min() <= 1 for c in counts)
    if n * (1 - replay) / replay >= m:
        assert share <= replay + 1 / len(base_rows)


def test_watched_films_are_whole_patients_and_not_learned_from(lane: Judged) -> None:
    films = reviewed_films(FilmSet.open(lane.clinic), learned(lane))
    learn, watch = hold_out(films, 4, 0)
    assert sorted([*learn, *watch]) == list(range(8))
    assert len(watch) == 2
    assert len(hold_out(films.take(np.arange(3)), 4, 0)[1]) == 0


def test_reviewed_films_carry_their_labels_and_weights(lane: Judged) -> None:
    labels = learned(lane, films=2)
    labels.loc[(labels["landmark"] == "ans"), "weight"] = 0.25
    labels = labels[labels["landmark"] != "pns"]
    store = FilmSet.open(lane.clinic)
    films = reviewed_films(store, labels)
    assert set(films.weight[:, INDEX["ans"]]) == {0.25}
    assert np.isnan(films.points[:, INDEX["pns"]]).all()
    assert (films.weight[:, INDEX["pns"]] == 0).all()
    rows = store.rows(sorted(set(labels["id"])))
    back = store.to_raw(films.points, rows)
    sella = labels[labels["landmark"] == "sella"].sort_values("id")
    np.testing.assert_allclose(back[:, INDEX["sella"]], sella[["x", "y"]], atol=1e-6)

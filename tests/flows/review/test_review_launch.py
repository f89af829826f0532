"""What `plumbline review` gathers before it serves."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows import lanes
from flows.review import launch as launching
from flows.review.config import read_items, table_of
from flows.review.launch import lane_schema, prepare
from flows.review.predicted import queue_from_predictions
from flows.review.store import EventStore, database_file
from stages.chest.schema import CHEST
from stages.core.data.split import SPLIT_SCHEMA
from stages.core.data.tables import write_table
from stages.core.errors import StageError
from stages.core.model.card import ModelCard
from stages.core.review.queue import write_queue
from stages.spine.schema import SCHEMA as SPINE
from tests.flows.review.desks import FILMS, PLACES, SCHEMA, film_store, queue_items, review_config

CARD = {
    "lane": "ceph", "dataset": "phantom", "architecture": "stand-in", "key": "ab" * 32, "params": {},
    "input": None, "schema": list(SCHEMA.names), "n_train": 3, "split_sha256": "cd" * 32,
}  # fmt: skip


def _checkout(root: Path, stages: dict[str, Any]) -> Path:
    """A checkout whose ceph lane has films, a split, a model card and these stages."""
    store = film_store(root / "data" / "ceph" / "films")
    (store.folder / "dataset.json").write_text('{"name": "phantom", "lane": "ceph", "frame": "raw"}')
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    (root / "params.yaml").write_text("raw:\n  ceph: data/raw/ceph-phantom\n")
    model = root / "models" / "ceph" / "base"
    model.mkdir(parents=True)
    (model / "card.json").write_text(json.dumps(CARD))
    roles = ["train", "train", "train", "val", "gate", "test"]
    split = pd.DataFrame({"id": FILMS, "patient": FILMS, "role": roles})
    write_table(root / "data" / "ceph" / "split.parquet", split, SPLIT_SCHEMA)
    return root


@pytest.fixture(autouse=True)
def ceph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane `ceph` of five landmarks whose model puts every point where PLACES says, less surely each film."""

    def predict_files(model: Path, files: list[Path], out: Path, allow_phantom: bool) -> list[dict[str, Any]]:
        assert allow_phantom, "the films of a phantom's model are phantoms, whatever their copies say"
        return [
            {
                "file": str(file),
                "landmarks": [
                    {"name": n, "x": x + i, "y": y + i, "expected_error_px": 1.0 + i + (n == "gonion")}
                    for n, (x, y) in zip(SCHEMA.names, PLACES.tolist(), strict=True)
                ],
            }
            for i, file in enumerate(files)
        ]

    known = lanes.Lane("ceph", Path("models/ceph/base"))
    monkeypatch.setitem(lanes.LANES, "ceph", known)
    stand_in = SimpleNamespace(predict_files=predict_files)
    monkeypatch.setattr(lanes.Lane, "module", lambda self, stage: stand_in)
    monkeypatch.setattr(launching, "lane_schema", lambda lane: SCHEMA)


def test_a_lane_with_a_queue_stage_shows_that_queue(tmp_path: Path) -> None:
    root = _checkout(tmp_path, {"ceph-queue": {}})
    write_queue(root / "data" / "ceph" / "queue.parquet", table_of(queue_items()))
    config = prepare("ceph", root, port=8123)
    assert [item.film for item in config.items] == [item.film for item in queue_items()]
    np.testing.assert_allclose(config.items[0].points, queue_items()[0].points, atol=1e-3)
    assert (config.round, config.dataset, config.lane) == (1, "phantom", "ceph")
    assert config.database == root / ".plumbline" / "review" / "ceph" / "events.sqlite"


def test_heatmaps_are_those_of_the_model_that_made_the_queue(tmp_path: Path) -> None:
    root = _checkout(tmp_path, {"ceph-queue": {}})
    write_queue(root / "data" / "ceph" / "queue.parquet", table_of(queue_items()))
    base, tuned = (
        root / "models" / "ceph" / "base" / "card.json",
        root / "models" / "ceph" / "tuned" / "card.json",
    )
    tuned.parent.mkdir()
    tuned.write_text(json.dumps(CARD | {"key": "ef" * 32}))
    lanes.LANES["ceph"] = lanes.Lane("ceph", Path("models/ceph/tuned"))
    assert prepare("ceph", root).heatmap is not None
    base.unlink()
    assert prepare("ceph", root).heatmap is None


def test_a_lane_without_one_gets_a_queue_of_its_models_predictions_once(tmp_path: Path) -> None:
    root = _checkout(tmp_path, {})
    said: list[str] = []
    config = prepare("ceph", root, say=said.append)
    assert [item.film for item in config.items] == [FILMS[2], FILMS[1], FILMS[0]], (
        "least sure first, train only"
    )
    assert config.items[0].expected_error.tolist() == [3, 3, 4, 3, 3]
    assert "gonion" in config.items[0].reason
    assert len(said) == 1
    prepare("ceph", root, say=said.append)
    assert len(said) == 1, "it is kept"


def test_the_first_open_round_is_the_one_after_the_closed_ones(tmp_path: Path) -> None:
    root = _checkout(tmp_path, {})
    with closing(EventStore(database_file(root, "ceph"), lambda: 0.0)) as store:
        store.close_round(1)
        store.close_round(2)
    assert prepare("ceph", root, say=lambda line: None).round == 3


def test_films_without_training_role_are_never_queued(tmp_path: Path) -> None:
    root = _checkout(tmp_path, {})
    split = pd.DataFrame({"id": FILMS, "patient": FILMS, "role": ["test"] * len(FILMS)})
    write_table(root / "data" / "ceph" / "split.parquet", split, SPLIT_SCHEMA)
    with pytest.raises(StageError, match="no films of the role train"):
        prepare("ceph", root)


def test_a_queue_of_films_that_are_not_here_is_an_error(tmp_path: Path) -> None:
    root = _checkout(tmp_path, {"ceph-queue": {}})
    items = [*queue_items()]
    write_queue(root / "data" / "ceph" / "queue.parquet", table_of(items))
    shutil.rmtree(root / "data" / "ceph" / "films")
    with pytest.raises(StageError, match="no films here"):
        prepare("ceph", root)


def test_a_queue_of_another_lane_is_an_error(tmp_path: Path) -> None:
    write_queue(tmp_path / "queue.parquet", table_of(queue_items()))
    with pytest.raises(StageError, match="not of the lane chest, which has 15 landmarks"):
        read_items(tmp_path / "queue.parquet", CHEST)


def test_a_lane_is_known_by_its_schema() -> None:
    assert lane_schema("chest") == CHEST
    assert lane_schema("spine") == SPINE


def test_a_lane_without_films_has_nothing_to_review() -> None:
    with pytest.raises(StageError, match="the lane pose has no landmarks on films"):
        lane_schema("pose")


def test_a_port_that_is_taken_is_an_error_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StageError, match=rf"127\.0\.0\.1:{port} cannot be listened on.*--port"):
            launching.launch("ceph", tmp_path, port=port)


def test_predictions_of_a_lane_without_expected_errors_still_make_a_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _checkout(tmp_path, {})
    plain = SimpleNamespace(
        predict_files=lambda model, files, out, allow: [
            {"landmarks": [{"name": n, "x": 1.0, "y": 2.0} for n in SCHEMA.names]} for _ in files
        ]
    )
    monkeypatch.setattr(lanes.Lane, "module", lambda self, stage: plain)
    pictures = review_config(tmp_path / "other").pictures
    card = ModelCard.model_validate(CARD)
    queue_from_predictions(root, SCHEMA, pictures, Path(), card, tmp_path / "q.parquet")  # type: ignore[arg-type]
    items = read_items(tmp_path / "q.parquet", SCHEMA)
    assert [item.score for item in items] == [0, 0, 0]
    assert np.isfinite(items[0].points).all()

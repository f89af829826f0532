"""A logged model answers row by row: each has its own file, hints and failure, whatever the others have."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.ceph.predict import predict_files
from stages.core import tracking
from stages.core.tracking.bundle import LaneModel
from stages.core.tracking.example import input_example
from stages.core.tracking.models import log_model
from stages.core.tracking.runs import ensure_experiment
from stages.pose.pose_file import read_pose_file
from tests.ceph.untrained import write_untrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def model(folder: Path) -> LaneModel:
    opened = LaneModel()
    opened.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    return opened


@pytest.fixture
def example() -> bytes:
    content: bytes = input_example({"height": 80, "width": 64})["content"][0]
    return content


def asked(model: LaneModel, *rows: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    answers = model.predict(None, pd.DataFrame(list(rows)), params).to_dict("records")
    return [{**row, "answer": json.loads(row["answer"])} for row in answers]


def test_a_row_that_cannot_be_answered_takes_none_from_the_others(
    model: LaneModel, example: bytes, tmp_path: Path
) -> None:
    person, film = tmp_path / "person.png", tmp_path / "film.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8)).save(person)
    film.write_bytes(example)
    rows = [
        {"content": b"no film"},
        {"path": str(person)},
        {"content": example, "hints": "S=1,2"},
        {"path": str(film), "content": example},
        {"path": str(tmp_path / "gone.png")},
        {"path": None, "content": None},
        {"path": str(film)},
        {"content": example},
    ]
    answers = asked(model, *rows)
    details = [row["answer"].get("error", {}) for row in answers]
    assert details[0]["reason"] == "film_format"
    for said, words in zip(
        details[1:6],
        ("person.png", "takes no hints", "path and content", "gone.png", "has none"),
        strict=True,
    ):
        assert words in said["detail"]
    assert [len(row["landmarks"]) for row in answers] == [0] * 6 + [19, 19]
    assert answers[6]["landmarks"] == answers[7]["landmarks"]
    assert [row["file"] for row in answers[6:]] == ["film.jpg", "content"]
    (told,) = asked(model, {"path": str(person)}, allow_phantom=True)
    assert len(told["landmarks"]) == 19


def test_an_answer_is_that_of_predict(model: LaneModel, folder: Path, example: bytes, tmp_path: Path) -> None:
    film = tmp_path / "film.jpg"
    film.write_bytes(example)
    (row,) = asked(model, {"path": str(film)})
    (wanted,) = predict_files(folder, [film], tmp_path / "out")
    del wanted["overlay"]
    assert row["answer"] == wanted | {"file": "film.jpg"}


def test_a_table_that_names_no_files_is_refused(model: LaneModel) -> None:
    with pytest.raises(ValueError, match=r"`path` or `content` .* \['film'\]"):
        model.predict(None, pd.DataFrame({"film": ["a.png"]}))


def test_spines_take_hints(model: LaneModel) -> None:
    spine = LaneModel()
    spine._lane = "spine"
    assert spine._options({"hints": "L4 TL=412,980; 7=1,2;"}) == {"hints": ["L4 TL=412,980", "7=1,2"]}
    assert spine._options({}) == {}


def test_the_poses_of_the_example_are_poses(tmp_path: Path) -> None:
    file = tmp_path / "example.npz"
    file.write_bytes(input_example(None)["content"][0])
    assert input_example(None)["content"][0] == file.read_bytes()
    assert read_pose_file(file).phantom


def test_the_server_of_mlflow_answers_its_own_example(folder: Path, example: bytes, tmp_path: Path) -> None:
    """`mlflow models serve` as a process of its own, the model by its alias."""
    from bench.bundles import ask, by_content, served

    (tmp_path / ".plumbline").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tracking.connected(tmp_path) as client:
            experiment = ensure_experiment(client, tmp_path, "ceph")
            logged = log_model(client, experiment, folder, {}, {}, None)
            client.create_registered_model("ceph-phantom")
            source = f"models:/{logged}"
            version = client.create_model_version("ceph-phantom", source=source, model_id=logged).version
            client.set_registered_model_alias("ceph-phantom", "champion", str(version))
        (written,) = (tmp_path / "mlartifacts").rglob("serving_input_example.json")
        request = json.loads(written.read_text())
        with served(tmp_path, "models:/ceph-phantom@champion") as url:
            (own,) = ask(url, request)
            film, broken = ask(url, by_content(example, b"no film"))
    assert len(own["landmarks"]) == 19
    assert film["answer"]["model"]["notice"] == "research use only"
    assert broken["landmarks"] == []
    assert broken["answer"]["error"]["reason"] == "film_format"

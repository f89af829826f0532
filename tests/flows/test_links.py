"""The MLflow run that belongs to a stage's present outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import artifacts, links
from stages.core import tracking
from tests.mlflow_checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Checkout(tmp_path / "checkout", empty_mlflow)


def test_a_link_follows_the_outputs_to_another_run(checkout: Checkout) -> None:
    first = checkout.run("spine-train", {"models/spine": b"one"}, params={"rate": 1})
    tracking.sync(checkout.root)
    before = links.refresh(checkout.root).url("spine-train", "http://ui")
    (run,) = checkout.runs()
    assert before == f"http://ui/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"

    second = checkout.run("spine-train", {"models/spine": b"two"}, params={"rate": 2})
    unknown = links.read(checkout.root)
    assert unknown.keys == {"spine-train": second} != {"spine-train": first}
    assert unknown.url("spine-train", "http://ui") is None, "the run of other outputs is not theirs"

    tracking.sync(checkout.root)
    after = links.refresh(checkout.root).url("spine-train", "http://ui")
    assert after not in (None, before)
    assert links.read(checkout.root).url("spine-train", "http://ui") == after, "not noted"


def test_no_link_without_a_ui_and_for_an_unknown_stage(checkout: Checkout) -> None:
    checkout.run("spine-train", {"models/spine": b"one"})
    tracking.sync(checkout.root)
    found = links.refresh(checkout.root)
    assert found.url("spine-train", None) is None
    assert found.url("chest-train", "http://ui") is None


def test_the_ui_is_a_foreign_server_or_that_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert links.ui_url(tmp_path) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example/")
    assert links.ui_url(tmp_path) == "https://mlflow.example"


def test_a_row_names_lane_key_and_run(checkout: Checkout) -> None:
    key = checkout.run("spine-train", {"models/spine": b"one"})
    checkout.run("index", {"reports/index.html": b"page"})
    tracking.sync(checkout.root)
    (checkout.root / "data/lanes").mkdir(parents=True)
    (checkout.root / "data/lanes/hands.json").write_text("{}", encoding="utf-8")
    outcomes = {"spine-train": "Ran", "index": "Unchanged", "chest-train": "Failed", "hands-report": "Ran"}
    found = links.refresh(checkout.root)
    train, index, chest, hands = artifacts.rows(
        checkout.root, outcomes, {"spine-train": 1.5}, found, "http://ui"
    )
    assert (train["lane"], train["key"], train["seconds"]) == ("spine", key[:12], 1.5)
    assert str(train["MLflow run"]).startswith("http://ui/#/experiments/")
    assert (index["lane"], index["outcome"]) == ("", "Unchanged")
    assert (chest["lane"], chest["key"], chest["MLflow run"]) == ("chest", "", "")
    assert hands["lane"] == "hands"

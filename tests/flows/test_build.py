"""The flow on the miniature: outcomes, overlap, failures, and what Prefect shows of them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

from flows import publishing, repro
from flows.profiles import selection
from tests.miniature import Miniature

ALL = ("source", "left", "right", "merge")


def test_outcomes_of_failure_repair_flip_and_flip_back(
    miniature: Miniature, undisturbed: dict[str, bytes]
) -> None:
    miniature.set("left", fail=True)
    state, outcomes = miniature.build()
    assert outcomes == {"source": "Ran", "left": "Failed", "right": "Ran", "merge": "NotReady"}
    assert state == "FAILED: 4 stages: 2 Ran, 1 Failed, 1 NotReady; failed: left"
    runs = {run["name"]: run for run in miniature.task_runs()}
    assert "left.txt was told to fail" in runs["left"]["state"]["message"]
    assert runs["merge"]["state"]["message"] == "above it failed: left"
    assert runs["merge"]["end_time"] is not None
    needed = {run["id"]: run["name"] for run in runs.values()}
    edges = {
        (needed[source["id"]], n) for n, r in runs.items() for source in r["task_inputs"].get("wait_for", [])
    }
    assert edges == {("source", "left"), ("source", "right"), ("left", "merge"), ("right", "merge")}
    begun, ended = (max(_moments(runs, "start_time")), min(_moments(runs, "end_time")))
    assert begun < ended, "left and right did not overlap"

    miniature.set("left", fail=False)
    expected = {"source": "Unchanged", "left": "Ran", "right": "Unchanged", "merge": "Ran"}
    assert miniature.build() == ("COMPLETED: 4 stages: 2 Ran, 2 Unchanged", expected)
    assert miniature.outputs() == undisturbed
    (table,) = (entry for entry in miniature.artifacts() if entry["type"] == "table")
    assert table["key"] == "stages"
    assert {row["stage"]: row["outcome"] for row in json.loads(table["data"])} == expected

    assert miniature.build()[1] == dict.fromkeys(ALL, "Unchanged")
    assert miniature.outputs() == undisturbed

    (miniature.root / "stumble").touch()
    miniature.set("right", factor=7)
    flipped = {"source": "Unchanged", "left": "Unchanged", "right": "Ran", "merge": "Ran"}
    assert miniature.build()[1] == flipped, "not tried again as its meta says"
    assert miniature.outputs() != undisturbed
    assert {r["name"]: r["run_count"] for r in miniature.task_runs()}["right"] == 2

    miniature.set("right", factor=5)
    assert miniature.build()[1] == flipped | {"right": "Restored", "merge": "Restored"}
    assert miniature.outputs() == undisturbed
    assert "up to date" in miniature.run("dvc", "repro")[1]


def _moments(runs: dict[str, dict[str, str]], which: str) -> list[datetime.datetime]:
    return [datetime.datetime.fromisoformat(runs[name][which]) for name in ("left", "right")]


def test_what_ran_is_published_once_more_at_the_end_and_only_what_is_whole_is_promoted(
    miniature: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, bool]] = []

    def record(root: Path, promote: bool) -> Iterator[str]:
        calls.append((root, promote))
        yield "MLflow: up to date"

    monkeypatch.setattr(publishing, "publish", record)
    assert miniature.build(track=True, stages=["source"])[0] == "COMPLETED: 1 stage: 1 Ran"
    assert calls[-1] == (miniature.root, True)
    assert set(calls[:-1]) <= {(miniature.root, False)}

    calls.clear()
    miniature.set("left", fail=True)
    assert miniature.build(track=True, stages=["left"])[1]["left"] == "Failed"
    assert {promote for _, promote in calls} <= {False}

    calls.clear()
    assert miniature.build(track=True, stages=["source"])[1] == {"source": "Unchanged"}
    assert calls == [], "MLflow was told already"


def test_a_served_flow_reaches_the_one_runner_of_its_process() -> None:
    from flows.pipeline import build, run_stage

    for shipped in (build, run_stage):
        arrived = cloudpickle.loads(cloudpickle.dumps(shipped))
        assert arrived.fn.__globals__["repro"].RUNNER is repro.RUNNER


def test_a_build_switches_the_profile_once_no_other_build_runs(
    miniature: Miniature, undisturbed: dict[str, bytes]
) -> None:
    code, said = miniature.run("flows.build", "--profile", "cpu", "--stages", "left")
    assert (code, "params.yaml: profile cpu (was demo)" in said) == (0, True), said
    with repro.RUNNER.exclusive(miniature.root):
        waiting = miniature.start("flows.build", "--profile", "demo")
        assert waiting.stdout is not None
        assert any("another build runs" in line for line in waiting.stdout)
        assert selection(miniature.root).profile == "cpu", "changed under the build that runs"
    said, _ = waiting.communicate(timeout=240)
    assert (waiting.returncode, "params.yaml: profile demo (was cpu)" in said) == (0, True), said
    assert miniature.outputs() == undisturbed

    code, refused = miniature.run("flows.build", "--profile", "night")
    assert (code, "no profile 'night' in params.yaml; there are" in refused) == (1, True), refused


def test_progress_of_a_long_stage_is_shown(miniature: Miniature) -> None:
    miniature.set("left", seconds=3.0)
    assert miniature.build()[0].startswith("COMPLETED")
    shown = {entry["key"]: entry for entry in miniature.artifacts()}
    assert "lines" in shown["progress-left"]["description"]
    assert 0.0 < float(shown["progress-left"]["data"]) <= 100.0

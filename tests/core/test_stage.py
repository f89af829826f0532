"""The frame around a stage, without DVC (identity under DVC: tests/flows)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from stages.core import stage
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

PARAMS = "profile: demo\nseed: 3\nlane: {step: {factor: 2}}\nprofiles: {demo: {}}\n"


class Params(StageParams):
    section: ClassVar[str] = "lane.step"
    seed: int
    factor: int


def run(
    params: Params, numbers: Path, output: Path, observe: Observer, extra: Path | None = None
) -> dict[str, float]:
    for epoch in range(2):
        observe(epoch, loss=1 / (epoch + 1))
    observe(1, val=0.25)
    (observe.scratch / "half").write_text("done")
    value = int(numbers.read_text()) * params.factor
    output.write_text(f"{value}\n{extra}")
    return {"value": value, "third": 1 / 3, "nothing": float("nan")}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "numbers.txt").write_text("21")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(stage, "end_with_dvc", lambda: None)
    return tmp_path


def test_arguments_metrics_and_history(project: Path) -> None:
    words = "--numbers numbers.txt --output out/value.txt --metrics reports/m.json --history reports/h.csv"
    stage_main(run, words.split())
    assert (project / "out/value.txt").read_text() == "42\nNone"
    assert json.loads((project / "reports/m.json").read_text()) == {
        "value": 42,
        "third": 0.333333,
        "nothing": None,
    }
    assert (project / "reports/h.csv").read_text() == "step,loss,val\n0,1,\n1,0.5,0.25\n"
    assert not list(project.glob(".plumbline/scratch/*")), "scratch is for unfinished work alone"


def report(params: Params, history: Path, output: Path, observe: Observer) -> dict[str, float]:
    output.write_text(history.read_text())
    return {}


def test_a_stage_may_read_a_history_instead_of_writing_one(project: Path) -> None:
    (project / "h.csv").write_text("step,loss\n")
    stage_main(report, ["--history", "h.csv", "--output", "page.txt", "--metrics", "m.json"])
    assert (project / "page.txt").read_text() == (project / "h.csv").read_text() == "step,loss\n"


def test_missing_and_unknown_arguments_end_with_usage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        stage_main(run, ["--output", "x", "--number", "y"])
    assert "--numbers" in capsys.readouterr().err


def failing(params: Params, output: Path, observe: Observer) -> dict[str, float]:
    (observe.scratch / "half").write_text("kept")
    if params.factor == 2:
        raise StageError("film a.jpg is broken; film b.jpg is broken")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("factor", "words"), [(2, "a.jpg is broken; film b"), (3, "the disk is full")])
def test_a_failure_is_one_message_and_keeps_the_scratch(project: Path, factor: int, words: str) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("factor: 2", f"factor: {factor}"))
    with pytest.raises(SystemExit) as exit_:
        stage_main(failing, ["--output", "out"])
    assert words in str(exit_.value.code)
    assert [f.read_text() for f in project.glob(".plumbline/scratch/*/half")] == ["kept"]


def test_observing_a_step_again_replaces_it(tmp_path: Path) -> None:
    observe = Observer.quiet(tmp_path)
    observe(0, loss=2.0)
    observe(0, loss=1.0, val=3.0)
    assert observe.history == {0: {"loss": 1.0, "val": 3.0}}


@pytest.mark.parametrize("module", ["stages.core.stage", "flows.cli"])
def test_light_modules_bring_no_heavy_library(module: str) -> None:
    heavy = ("torch", "mlflow", "prefect", "matplotlib")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Repeated(Params):
    each: ClassVar[str | None] = "lane.rounds"


def repeated(params: Repeated, output: Path, observe: Observer) -> dict[str, float]:
    output.write_text(str(params.factor))
    return {}


def test_the_output_s_name_says_which_entry_of_a_repeated_stage_this_is(project: Path) -> None:
    rounds = "lane: {step: {factor: 2}, rounds: {one: {}, two: {factor: 5}}}"
    (project / "params.yaml").write_text(PARAMS.replace("lane: {step: {factor: 2}}", rounds))
    for name in ("one", "two"):
        stage_main(repeated, ["--output", f"out/{name}"])
    assert [(project / "out" / name).read_text() for name in ("one", "two")] == ["2", "5"]
    with pytest.raises(SystemExit) as exit_:
        stage_main(repeated, ["--output", "out/three"])
    assert "has no 'three', only one, two" in str(exit_.value.code)

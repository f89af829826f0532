"""The journal in MLflow: once, whole, whichever version lies in the checkout, and never in a stage's way."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.deps import imported_files
from flows.lanes import LANES
from stages.core import tracking
from stages.core.identity import locked_identity, locked_stages
from stages.core.tracking.journal import Record
from stages.core.tracking.models import SERVING_PACKAGES
from stages.core.tracking.runs import flatten, metric_name
from tests.mlflow_checkout import Checkout, card, md5

FILMS = "f" * 32 + ".dir"


@pytest.fixture
def checkout(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_STRICT"):
        monkeypatch.delenv(name, raising=False)
    return Checkout(tmp_path / "check out é", empty_mlflow)


def figures(run: Any) -> dict[str, float]:
    return {k: v for k, v in run.data.metrics.items() if not k.startswith("history/")}


def artifacts(checkout: Checkout, run: Any) -> dict[str, bytes]:
    folder = checkout.root / "mlartifacts" / run.data.tags["dvc.stage"].split("-")[0]
    below = folder / run.info.run_id / "artifacts"
    return {f.relative_to(below).as_posix(): f.read_bytes() for f in below.rglob("*") if f.is_file()}


def test_a_record_becomes_one_run_however_often_it_is_synced(checkout: Checkout) -> None:
    checkout.stages["toy-train"] = {"desc": "Learns nothing"}
    checkout.write_settings()
    key = checkout.run(
        "toy-train",
        outs={"reports/toy/train.json": b'{"mre_raw_px@0": 2.5}'},
        deps={"data/toy/films": FILMS, "stages/toy/train.py": "a" * 32},
        params={"epochs": 2, "loss": {"sigma": 1.5}},
        metrics={"mre_raw_px@0": 2.5, "undefined": None},
        history=[{"step": 0, "train_loss": 1.0}, {"step": 1, "train_loss": 0.5, "val_error_px": 3.0}],
    )
    first, second = tracking.sync(checkout.root), tracking.sync(checkout.root)
    assert (first.added, first.present) == (("toy-train",), 0)
    assert (second.added, second.present, second.failed) == ((), 1, {})

    (run,) = checkout.runs()
    assert run.info.run_name == "toy-train"
    assert run.info.end_time - run.info.start_time == 12_500
    assert run.data.params == {"epochs": "2", "loss.sigma": "1.5"}
    assert figures(run) == {"mre_raw_px_at_0": 2.5}
    assert {t: run.data.tags[t] for t in ("dvc.stage", "dvc.key", "git.commit", "git.dirty", "profile")} == {
        "dvc.stage": "toy-train",
        "dvc.key": key,
        "git.commit": "c0ffee" * 6,
        "git.dirty": "false",
        "profile": "demo",
    }
    assert "Learns nothing" in run.data.tags["mlflow.note.content"]
    assert [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs] == [
        ("data/toy/films", FILMS)
    ]
    with tracking.connected(checkout.root) as client:
        assert client.get_experiment(run.info.experiment_id).name == "toy"
        points = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "history/train_loss")]
    assert points == [(0, 1.0), (1, 0.5)]


def test_two_processes_on_a_store_that_does_not_exist_yet(checkout: Checkout) -> None:
    (checkout.root / "mlflow.db").unlink()
    for number in range(3):
        checkout.run("toy-floors", outs={}, params={"seed": number}, metrics={"error_px": 1.0})
    command = [
        sys.executable,
        "-c",
        "from stages.core import tracking; import pathlib; print(tracking.sync(pathlib.Path.cwd()))",
    ]
    environment = os.environ | {"MLFLOW_STRICT": "1", "PYTHONPATH": str(Path.cwd())}
    both = [
        subprocess.Popen(command, cwd=checkout.root, env=environment, text=True, stdout=-1, stderr=-1)
        for _ in range(2)
    ]
    said = [p.communicate(timeout=240) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert sorted(out.split(",")[0] for out, _ in said) == ["MLflow: 0 runs added", "MLflow: 3 runs added"]
    assert len(checkout.runs()) == 3


def test_a_sync_waits_for_another(checkout: Checkout) -> None:
    checkout.run("toy-floors", outs={})
    reports: list[tracking.SyncReport] = []
    other = threading.Thread(target=lambda: reports.append(tracking.sync(checkout.root)))
    with tracking.connected(checkout.root) as client:
        other.start()
        other.join(2)
        assert other.is_alive()
        assert client.get_experiment_by_name("toy") is None
    other.join()
    assert reports[0].added == ("toy-floors",)


def test_a_run_that_a_killed_sync_left_is_written_anew(checkout: Checkout) -> None:
    key = checkout.run("toy-floors", outs={}, metrics={"error_px": 1.0})
    tracking.sync(checkout.root)
    with tracking.connected(checkout.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
        client.update_run(run.info.run_id, status="RUNNING")
    assert tracking.sync(checkout.root).added == ("toy-floors",)
    (again,) = checkout.runs()
    assert (again.data.tags["dvc.key"], again.info.status) == (key, "FINISHED")
    assert again.info.run_id != run.info.run_id


def test_a_run_deleted_by_hand_does_not_come_back(checkout: Checkout) -> None:
    checkout.run("toy-floors", outs={})
    tracking.sync(checkout.root)
    with tracking.connected(checkout.root) as client:
        client.delete_run(checkout_run(client).info.run_id)
    assert tracking.sync(checkout.root).added == ()


def checkout_run(client: Any) -> Any:
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return run


def test_pictures_are_those_of_the_record_not_of_the_checkout(checkout: Checkout) -> None:
    checkout.run("toy-evaluate", outs={"reports/toy/evaluation": {"worst.png": b"first"}}, params={"n": 1})
    checkout.run("toy-evaluate", outs={"reports/toy/evaluation": {"worst.png": b"second"}}, params={"n": 2})
    tracking.sync(checkout.root)
    logged = {run.data.params["n"]: artifacts(checkout, run) for run in checkout.runs()}
    assert logged == {
        "1": {"reports/toy/evaluation/worst.png": b"first"},
        "2": {"reports/toy/evaluation/worst.png": b"second"},
    }


def test_a_stage_that_is_still_running_shows_what_it_just_wrote(checkout: Checkout) -> None:
    checkout.store("reports/toy.html", b"<p>page</p>")
    shutil.rmtree(checkout.root / ".dvc/cache")
    checkout.note("toy-report", "e" * 64, outs=["reports/toy.html"])
    tracking.sync(checkout.root, fresh="e" * 64)
    assert artifacts(checkout, *checkout.runs()) == {"reports/toy.html": b"<p>page</p>"}


def test_what_dvc_no_longer_holds_is_left_out_and_the_run_is_there(checkout: Checkout) -> None:
    checkout.run("toy-evaluate", outs={"reports/toy/evaluation": {"worst.png": b"x"}}, metrics={"n": 3})
    shutil.rmtree(checkout.root / ".dvc/cache")
    assert tracking.sync(checkout.root).failed == {}
    (run,) = checkout.runs()
    assert (figures(run), artifacts(checkout, run)) == ({"n": 3}, {})


def test_data_and_large_files_stay_with_dvc(checkout: Checkout) -> None:
    outs = {
        "data/raw/toy-phantom": {"film.png": b"film"},
        "reports/toy": {"big.html": b"x" * 6_000_000, "table.parquet": b"p", "small.json": b"{}"},
    }
    checkout.run("toy-report", outs=outs)
    tracking.sync(checkout.root)
    assert set(artifacts(checkout, *checkout.runs())) == {"reports/toy/small.json"}


@pytest.mark.parametrize("drawn_without_films", [False, True])
def test_without_images_no_film_reaches_mlflow(checkout: Checkout, drawn_without_films: bool) -> None:
    checkout.params["images"] = False
    checkout.write_settings()
    params = {"images": False} if drawn_without_films else {}
    outs = {"reports/toy": {"film.png": b"film", "page.html": b"film", "figures.json": b"{}"}}
    checkout.run("toy-report", outs=outs, params=params)
    tracking.sync(checkout.root)
    pages = {"reports/toy/film.png", "reports/toy/page.html"} if drawn_without_films else set()
    assert set(artifacts(checkout, *checkout.runs())) == {"reports/toy/figures.json"} | pages


def test_a_raw_folder_outside_the_checkout_is_shown_without_its_path(checkout: Checkout) -> None:
    checkout.run("toy-convert", outs={}, deps={"/home/somebody/films/aasce": FILMS})
    tracking.sync(checkout.root)
    (run,) = checkout.runs()
    (entry,) = run.inputs.dataset_inputs
    assert entry.dataset.name == "aasce"
    assert "somebody" not in entry.dataset.source


@pytest.fixture
def toy_lane(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A lane whose predictor answers with the size of the file."""
    module = types.ModuleType("stages.toy.predict")

    def predict_files(model: Path, files: list[Path], out: Path, allow_phantom: bool) -> list[dict[str, Any]]:
        key = json.loads((model / "card.json").read_text())["key"]
        out.mkdir()
        np.savez(out / "refined.npz", pose=np.ones((1, 2, 3)))
        answers: list[dict[str, Any]] = []
        for file in dict.fromkeys(files):
            film = {"landmarks": [{"name": "tip", "x": 1, "y": file.stat().st_size}], "overlay": "o.png"}
            answer = {"poses": "refined.npz"} if file.suffix == ".npz" else film
            answers.append({"file": str(file), "key": key, "phantom": allow_phantom, **answer})
        return answers

    module.predict_files = predict_files  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stages.toy", types.ModuleType("stages.toy"))
    monkeypatch.setitem(sys.modules, "stages.toy.predict", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return module


def test_a_trained_model_is_logged_and_answers(
    checkout: Checkout, toy_lane: types.ModuleType, tmp_path: Path
) -> None:
    import mlflow
    import pandas as pd

    model = {"card.json": card(key="a" * 64), "weights.pt": b"weights"}
    key = checkout.run("toy-train", outs={"models/toy/mean": model}, params={"k": 1}, metrics={"loss": 0.5})
    tracking.sync(checkout.root)
    (run,) = checkout.runs()
    assert run.data.tags["dataset"] == "phantom"
    film = tmp_path / "film.jpg"
    film.write_bytes(b"\xff\xd8seven")
    with tracking.connected(checkout.root) as client:
        (logged,) = client.search_logged_models([run.info.experiment_id])
        assert (logged.name, logged.tags["dvc.key"], logged.source_run_id) == (
            "toy-mean",
            key,
            run.info.run_id,
        )
        assert {m.key: m.value for m in logged.metrics} == {"loss": 0.5}
        served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
        by_path = served.predict(
            pd.DataFrame({"path": [str(film), str(film)]}), params={"allow_phantom": True}
        )
        by_content = served.predict(pd.DataFrame({"content": [film.read_bytes()]}))
        poses = served.predict(pd.DataFrame({"content": [b"PK" + bytes(9)]}))
        requirements = Path(mlflow.pyfunc.get_model_dependencies(f"models:/{logged.model_id}")).read_text()
    assert list(by_path["landmarks"]) == [[[1.0, 7.0]]] * 2, "a file named twice is answered twice"
    assert list(by_content["landmarks"]) == [[[1.0, 7.0]]]
    assert json.loads(by_path["answer"][0])["phantom"] is True
    assert json.loads(by_content["answer"][0])["phantom"] is False
    assert list(poses["landmarks"]) == [[[[1.0] * 3] * 2]]
    assert not {"overlay", "poses"} & {
        name for answer in (by_path, poses) for name in json.loads(answer["answer"][0])
    }
    assert "torch==" in requirements
    assert "+" not in requirements


@pytest.mark.parametrize("lane", LANES)
def test_serving_packages_are_those_that_prediction_imports(root: Path, lane: str) -> None:
    from importlib.metadata import packages_distributions

    files = imported_files(root, f"stages.{lane}.predict") | {"stages/core/tracking/bundle.py"}
    files -= {"stages/pose/estimation/worker.py"}  # only ever run by MediaPipe's own environment
    nodes = [n for file in files for n in ast.walk(ast.parse((root / file).read_text()))]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    modules = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"stages"}
    providers = packages_distributions()
    lacking = [
        m for m in modules if not {*SERVING_PACKAGES, "mlflow-skinny"} & {p.lower() for p in providers[m]}
    ]
    assert not lacking


def test_an_evaluation_stands_at_the_model_it_judged(checkout: Checkout) -> None:
    empty = {"weights.pt": b"w"}
    key = checkout.run("toy-train", outs={"models/toy/mean": empty}, journal=False)
    model = empty | {"card.json": card(key=key)}
    checkout.run("toy-train", outs={"models/toy/mean": model}, seconds=1)
    digest = checkout.store("models/toy/mean", model)
    deps = {"models/toy/mean": digest, "data/toy/films": FILMS}
    checkout.run("toy-evaluate", outs={}, deps=deps, metrics={"mre_raw_px": 4.0})
    tracking.sync(checkout.root)
    evaluation = next(r for r in checkout.runs() if r.info.run_name == "toy-evaluate")
    with tracking.connected(checkout.root) as client:
        (logged,) = client.search_logged_models([evaluation.info.experiment_id])
        used = client.get_run(evaluation.info.run_id).inputs.model_inputs
    assert [m.model_id for m in used] == [logged.model_id]
    (measured,) = [m for m in logged.metrics if m.key == "mre_raw_px"]
    assert (measured.value, measured.dataset_digest) == (4.0, FILMS)


def test_tracking_fails_softly_and_loudly_only_when_told(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkout.run("toy-floors", outs={})
    (checkout.root / "mlflow.db").write_text("this is no database " * 100)
    report = tracking.sync(checkout.root)
    assert list(report.failed) == [report.uri]
    assert "data and models are not affected" in caplog.text
    monkeypatch.setenv("MLFLOW_STRICT", "1")
    with pytest.raises(tracking.TrackingError, match="not a database"):
        tracking.sync(checkout.root)


def test_one_bad_record_does_not_hold_up_the_others(checkout: Checkout) -> None:
    checkout.run("toy-floors", outs={}, metrics={"x" * 300: 1.0})
    checkout.run("toy-train", outs={})
    broken = checkout.root / ".plumbline/journal/toy-split/abc.json"
    broken.parent.mkdir()
    broken.write_text('{"stage": "toy-split"')
    report = tracking.sync(checkout.root)
    assert report.added == ("toy-train",)
    assert {what.split(" ")[0] for what in report.failed} == {
        "toy-floors",
        ".plumbline/journal/toy-split/abc.json",
    }


def test_a_fresh_clone_is_filled_from_the_lock(checkout: Checkout) -> None:
    outs = {
        "models/toy/mean": {"weights.pt": b"w", "card.json": card()},
        "reports/toy/train.json": b'{"error_px": 2.0, "nothing": null}',
        "reports/toy/history.csv": b"step,loss,val\n0,1,\n1,0.5,0.25\n",
    }
    params = {
        "seed": 3,
        "toy.train": {"epochs": 9, "lr": {"max": 1}},
        "profiles.cpu.toy.train": {"epochs": 2},
    }
    key = checkout.run("toy-train", outs=outs, params=params, journal=False)
    shutil.rmtree(checkout.root / ".dvc/cache")
    assert tracking.sync(checkout.root).added == ()
    assert tracking.rebuild(checkout.root).added == ("toy-train",)
    assert tracking.rebuild(checkout.root).present == 1
    (run,) = checkout.runs()
    assert run.data.params == {"seed": "3", "epochs": "2", "lr.max": "1"}
    assert figures(run) == {"error_px": 2.0}
    assert run.data.metrics["history/val"] == 0.25
    tags = run.data.tags
    assert (tags["dvc.key"], tags["backfilled"], tags["profile"]) == (key, "true", "cpu")


def test_figures_that_the_lock_does_not_vouch_for_are_not_taken(checkout: Checkout) -> None:
    checkout.run("toy-train", outs={"reports/toy/train.json": b'{"error_px": 2.0}'}, journal=False)
    shutil.rmtree(checkout.root / ".dvc/cache")
    (checkout.root / "reports/toy/train.json").write_text('{"error_px": 1.0}')
    tracking.rebuild(checkout.root)
    assert figures(*checkout.runs()) == {}


def test_a_copied_checkout_does_not_write_into_the_original(checkout: Checkout, tmp_path: Path) -> None:
    page = {"reports/toy.html": b"<p>page</p>"}
    checkout.run("toy-report", outs=page)
    tracking.sync(checkout.root)
    before = sorted((checkout.root / "mlartifacts").rglob("*"))
    shutil.copytree(checkout.root, tmp_path / "copy")
    copy = Checkout.__new__(Checkout)
    copy.root = tmp_path / "copy"
    (problem,) = tracking.sync(copy.root).failed.values()
    assert "plumbline repair" in problem
    report = tracking.rebuild(copy.root)
    assert report.set_aside is not None
    assert report.added == ("toy-report",)
    assert artifacts(copy, *copy.runs()) == page
    assert sorted((checkout.root / "mlartifacts").rglob("*")) == before


def test_global_state_of_mlflow_is_put_back(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{checkout.root}/mlflow.db")
    before = mlflow.get_tracking_uri()
    with tracking.connected(checkout.root):
        pass
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{checkout.root}/mlflow.db"
    assert mlflow.get_tracking_uri() == before


def test_importing_and_finding_nothing_to_do_is_cheap(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from stages.core import tracking; tracking.sync(pathlib.Path(sys.argv[1]));"
        "assert not {'mlflow', 'torch', 'pandas', 'dvc'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("stage", "lane", "step"), [("toy-train", "toy", "train"), ("index", "project", "index")]
)
def test_lane_of_a_stage(stage: str, lane: str, step: str) -> None:
    record = Record(stage=stage, key="k")
    assert (record.lane, record.step) == (lane, step)


@given(st.text(min_size=1, max_size=60))
def test_any_metric_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import validate_param_and_metric_name

    assert validate_param_and_metric_name(metric_name(name))


Tree = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=5) | st.lists(st.floats(allow_nan=False), max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), Tree, max_size=4))
def test_flat_parameters_name_every_leaf_once(tree: dict[str, Any]) -> None:
    def leaves(node: Any) -> int:
        return sum(map(leaves, node.values())) if isinstance(node, dict) else 1

    assert len(flatten(tree)) == leaves(tree)
    assert all(isinstance(value, str) for value in flatten(tree).values())


def test_checkout_hashes_as_dvc_does(checkout: Checkout) -> None:
    key = checkout.run("toy-train", outs={"a.txt": b"a"}, params={"seed": 1, "rate": 1e-05})
    lock = checkout.root / "dvc.lock"
    lock.write_text(lock.read_text().replace("1.0e-05", "1e-05"))  # as DVC writes it
    (entry,) = locked_stages(checkout.root).values()
    assert locked_identity(entry).key == key
    assert md5(b"a") == "0cc175b9c0f1b6a831c399e269772661"

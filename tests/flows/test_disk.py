"""`plumbline disk` and `clean`: what is garbage goes, what somebody needs stays, whatever interrupts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from flows import repro
from flows.disk import Area, cache, cleaning, report
from flows.disk.cleaning import Wish, clean, plan
from flows.disk.inventory import inventory
from flows.forecast import Verdict, forecast
from stages.core import tracking
from stages.core.errors import StageError
from stages.core.tracking.store import KEY_TAG
from tests.miniature import Miniature
from tests.mlflow_checkout import Checkout, card

CACHE = Wish(frozenset({Area.CACHE}))
SCRATCH = Wish(frozenset({Area.CHECKPOINTS}))
MLFLOW = Wish(frozenset({Area.MLFLOW}))


def _git(root: Path, *arguments: str) -> None:
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", str(root)]
    subprocess.run([*git, *arguments], check=True, capture_output=True)


def _profile(mini: Miniature, name: str) -> None:
    file = mini.root / "params.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(tree | {"profile": name}), encoding="utf-8")


def _repro(mini: Miniature) -> str:
    code, output = mini.run("dvc", "repro")
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def used(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """A checkout that built the profiles demo and cpu, a parameter that is no more, and another branch."""
    root = tmp_path_factory.mktemp("used") / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    stages["stages"]["left"]["params"] = ["left", "profiles.${profile}.left"]
    (root / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False), encoding="utf-8")
    mini.set("profiles", demo={"left": {"seconds": 0.0}}, cpu={"left": {"seconds": 0.0, "factor": 11}})
    mini.set("right", seconds=0.0)
    for count in (30, 20, 40):
        mini.set("source", count=count)
        _repro(mini)
        if count == 20:
            _git(root, "checkout", "-qb", "twenty")
            _git(root, "add", "--all")
            _git(root, "commit", "-qm", "twenty")
            _git(root, "checkout", "-qb", "work")
    _profile(mini, "cpu")
    _repro(mini)
    _profile(mini, "demo")
    _repro(mini)
    return mini


@pytest.fixture
def checkout(used: Miniature, tmp_path: Path) -> Miniature:
    root = tmp_path / "checkout"
    shutil.copytree(used.root, root, symlinks=True)
    return Miniature(root, api="")


def _objects(root: Path) -> set[str]:
    return {f.parent.name + f.name for f in (root / ".dvc/cache/files/md5").glob("*/*")}


def _restored(mini: Miniature) -> bool:
    shutil.rmtree(mini.root / "out")
    return "Running stage" not in _repro(mini)


def test_outputs_of_lock_profiles_and_branches_survive_and_the_rest_goes(checkout: Miniature) -> None:
    before = _objects(checkout.root)
    decided = clean(checkout.root, CACHE)
    gone = before - _objects(checkout.root)
    assert gone, "nothing was removed"
    assert len(gone) == sum(h.count for h in decided.going if h.what != "run-cache")
    assert _restored(checkout), "the current outputs were lost"
    _profile(checkout, "cpu")
    assert _restored(checkout), "the outputs of another profile were lost"
    _profile(checkout, "demo")
    checkout.set("source", count=20)
    shutil.copy(checkout.root / "dvc.lock", checkout.root / "lock")
    _git(checkout.root, "checkout", "-q", "twenty", "--", "dvc.lock", "params.yaml")
    assert _restored(checkout), "the outputs of another branch were lost"
    checkout.set("source", count=30)
    assert "Running stage 'source'" in _repro(checkout), "what no one can ask for is still there"
    assert not plan(checkout.root, CACHE).going or clean(checkout.root, CACHE)


def test_other_profiles_go_when_told(checkout: Miniature) -> None:
    clean(checkout.root, CACHE)
    kept = _objects(checkout.root)
    clean(checkout.root, Wish(CACHE.areas, other_profiles=True))
    assert _objects(checkout.root) < kept
    assert _restored(checkout)
    _profile(checkout, "cpu")
    assert forecast(checkout.root)["left"].verdict is Verdict.RUN


def test_a_dry_run_changes_nothing_and_a_second_clean_finds_nothing(checkout: Miniature) -> None:
    before = _objects(checkout.root)
    assert plan(checkout.root, CACHE).going
    assert _objects(checkout.root) == before
    first = clean(checkout.root, CACHE)
    assert first.bytes > 0
    assert clean(checkout.root, CACHE).going == ()


def test_what_is_young_stays_with_all_that_it_needs(checkout: Miniature) -> None:
    before = _objects(checkout.root)
    assert clean(checkout.root, Wish(CACHE.areas, older_than=30)).going == ()
    month = time.time() - 40 * 86_400
    for file in (checkout.root / ".dvc/cache").rglob("*"):
        if file.is_file() and not file.name.endswith(".dir"):
            os.utime(file, (month, month))
    runs = list((checkout.root / ".dvc/cache/runs").glob("*/*/*"))
    clean(checkout.root, Wish(CACHE.areas, older_than=30))
    assert [run for run in runs if not run.exists()], "old entries stay"
    left = _objects(checkout.root)
    assert left < before
    for oid in left:
        assert set(cache._children(checkout.root / ".dvc/cache", oid)) <= left, "a folder lost its files"


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_killed_anywhere_the_cache_is_whole_and_the_next_clean_ends_it(
    checkout: Miniature, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = 0
    whole = cleaning._remove

    def killed(root: Path, path: Path) -> None:
        nonlocal removed
        if removed == after:
            raise KeyboardInterrupt
        removed += 1
        whole(root, path)

    monkeypatch.setattr(cleaning, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        clean(checkout.root, CACHE)
    left = _objects(checkout.root)
    for oid in left:
        assert set(cache._children(checkout.root / ".dvc/cache", oid)) <= left, "a folder lost its files"
    monkeypatch.undo()
    clean(checkout.root, CACHE)
    assert plan(checkout.root, CACHE).going == ()
    assert _restored(checkout)


def test_a_tracked_file_stays(checkout: Miniature) -> None:
    (checkout.root / "events.txt").write_text("human work\n", encoding="utf-8")
    assert checkout.run("dvc", "add", "events.txt")[0] == 0
    clean(checkout.root, Wish(CACHE.areas, other_profiles=True))
    (checkout.root / "events.txt").unlink()
    code, output = checkout.run("dvc", "checkout", "events.txt.dvc")
    assert code == 0, output


def test_a_cache_outside_the_checkout_is_left_alone(checkout: Miniature, tmp_path: Path) -> None:
    shutil.move(checkout.root / ".dvc/cache", tmp_path / "shared")
    assert checkout.run("dvc", "cache", "dir", "--local", str(tmp_path / "shared"))[0] == 0
    decided = plan(checkout.root, CACHE)
    assert decided.going == ()
    assert "outside of it" in decided.notes[0]


def test_refuses_while_a_build_or_dvc_is_at_work(
    checkout: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _objects(checkout.root)
    monkeypatch.setattr(repro, "GRACE", 0.1)
    with repro.Runner().exclusive(checkout.root), pytest.raises(StageError, match="another build runs"):
        clean(checkout.root, CACHE)
    checkout.set("left", factor=3, seconds=20.0)
    checkout.set("profiles", demo={"left": {}})
    with checkout.start("dvc", "repro") as process:
        checkout.wait_for("mini.left")
        with pytest.raises(StageError, match="DVC is at work here"):
            clean(checkout.root, CACHE)
        for child in checkout.processes():
            child.terminate()
        process.communicate()
    assert before <= _objects(checkout.root)


def _scratch(root: Path, name: str) -> Path:
    folder = root / ".plumbline/scratch" / name
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"half")
    return folder


def test_progress_that_a_rerun_goes_on_from_stays(checkout: Miniature) -> None:
    checkout.set("right", factor=8)
    told = forecast(checkout.root)
    assert told["right"].verdict is Verdict.RUN
    assert told["left"].key is not None
    next_run = _scratch(checkout.root, f"right-{str(told['right'].key)[:16]}")
    unknown = _scratch(checkout.root, "merge-0123456789abcdef")
    ended = _scratch(checkout.root, f"left-{told['left'].key[:16]}")
    other = _scratch(checkout.root, "source-0123456789abcdef")
    half = checkout.root / ".plumbline/registry/toy/k.7.partial"
    half.mkdir(parents=True)
    assert told["merge"].key is None, "merge waits for right"
    clean(checkout.root, SCRATCH)
    assert [f.exists() for f in (next_run, unknown, ended, other, half)] == [True, True, False, True, False]
    clean(checkout.root, Wish(SCRATCH.areas, other_profiles=True))
    assert [f.exists() for f in (next_run, unknown, other)] == [True, True, False]


def test_an_interrupted_removal_is_finished(checkout: Miniature) -> None:
    left = checkout.root / ".plumbline/trash/abc"
    left.mkdir(parents=True)
    clean(checkout.root, SCRATCH)
    assert not left.exists()


def test_records_are_never_offered(checkout: Miniature) -> None:
    kept = [
        ".plumbline/journal/x/k.json",
        ".plumbline/review/ceph/events.sqlite",
        ".plumbline/registry/a/k/m/w",
    ]
    for name in kept:
        (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.root / name).write_text("kept", encoding="utf-8")
    every = Wish(frozenset(Area), older_than=0, other_profiles=True)
    decided = clean(checkout.root, every)
    assert all((checkout.root / name).read_text(encoding="utf-8") == "kept" for name in kept)
    assert {h.area for h in decided.going} <= {Area.CACHE, Area.CHECKPOINTS, Area.PREFECT}


@pytest.fixture
def tracked(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Three models in MLflow: one registered, one of the lock, one that nobody names any more."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_STRICT", "1")
    checkout = Checkout(tmp_path / "checkout", empty_mlflow)
    for letter in "abc":
        files = {"card.json": card(key=letter * 64), "weights.pt": letter.encode() * 1000}
        key = checkout.run(f"toy-{letter}", {f"models/toy/{letter}": files}, params={"letter": letter})
        del key
    tracking.sync(checkout.root)
    return checkout


def _models(checkout: Checkout) -> dict[str, str]:
    """Name -> id of the logged models that are not deleted."""
    with tracking.connected(checkout.root) as client:
        experiments = [e.experiment_id for e in client.search_experiments()]
        return {m.name: m.model_id for m in client.search_logged_models(experiments)}


def test_registered_models_and_those_of_the_lock_stay_in_mlflow(tracked: Checkout) -> None:
    from flows.disk import artifacts

    ids = _models(tracked)
    assert len(ids) == 3, ids
    names = dict(zip("abc", sorted(ids), strict=True))
    with tracking.connected(tracked.root) as client:
        client.create_registered_model("toy")
        client.create_model_version("toy", source=f"models:/{ids[names['a']]}", model_id=ids[names["a"]])
        kept_key = client.get_logged_model(ids[names["b"]]).tags[KEY_TAG]
    stray = tracked.root / "mlartifacts/toy/0123456789abcdef0123456789abcdef"
    (stray / "artifacts").mkdir(parents=True)
    found = artifacts.holdings(tracked.root, wanted={kept_key})
    going = [h for h in found if h.paths]
    assert {path for h in going for path in h.paths} == {
        stray,
        tracked.root / "mlartifacts/toy/models" / ids[names["c"]],
    }
    assert all(path.is_dir() for h in going for path in h.paths)
    cleaning._forget_models(tracked.root, [m for h in going for m in h.models])
    after = artifacts.holdings(tracked.root, wanted={kept_key})
    assert {path for h in after for path in h.paths} == {path for h in going for path in h.paths}, (
        "killed between database and files, the next clean-up does not find the files"
    )
    for path in (path for h in after for path in h.paths):
        cleaning._remove(tracked.root, path)
    assert _models(tracked).keys() == {names["a"], names["b"]}
    before = len(tracked.runs())
    tracking.sync(tracked.root)
    assert (len(tracked.runs()), len(_models(tracked))) == (before, 2), "a sync brought them back"


def test_a_store_of_others_is_not_looked_at(tracked: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.disk import artifacts

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert artifacts.holdings(tracked.root, wanted=set()) == []


def test_the_report_accounts_for_every_byte_of_the_cache(checkout: Miniature) -> None:
    found = inventory(checkout.root)
    parts = ("files", "runs")
    there = sum(
        f.stat().st_size
        for part in parts
        for f in (checkout.root / ".dvc/cache" / part).rglob("*")
        if f.is_file()
    )
    assert sum(h.bytes for h in found.holdings if h.area is Area.CACHE) == there
    table, outputs, *_ = report.tables(found)
    assert not isinstance(table, str)
    assert not isinstance(outputs, str)
    assert next(str(cell) for cell in outputs.columns[0].cells).startswith("out/")
    lines = list(report.plan_lines(plan(checkout.root, CACHE), CACHE, done=False))
    assert "plumbline clean --cache --yes" in str(lines[-1])

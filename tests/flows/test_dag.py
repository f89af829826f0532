"""Reading DVC's graph, choosing what to start, and repairing what a killed DVC leaves."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows import dag
from flows.dag import Stage, StageMeta
from stages.core.errors import StageError
from tests.miniature import Miniature


@pytest.fixture
def checkout(template: Path, tmp_path: Path) -> Miniature:
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    return Miniature(root, api="")


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Stage]:
    """Any graph of up to nine stages, in an order in which every stage follows what it needs."""
    count = draw(st.integers(1, 9))
    names = [f"s{i}" for i in range(count)]
    return {
        name: Stage(
            name,
            needs=tuple(draw(st.sets(st.sampled_from(names[:i])))) if i else (),
            stale=draw(st.booleans()),
            meta=StageMeta(gpu=draw(st.booleans())),
        )
        for i, name in enumerate(names)
    }


def above(graph: dag.Graph, name: str) -> set[str]:
    """All that a stage needs, directly or not."""
    return {n for need in graph[name].needs for n in (need, *above(graph, need))}


@given(graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_schedule_respects_needs_workers_and_the_gpu_and_starts_everything(
    graph: dict[str, Stage], workers: int, chance: random.Random
) -> None:
    done: set[str] = set()
    running: set[str] = set()
    while len(done) < len(graph):
        start = dag.ready(graph, done, running, workers)
        assert all(done >= set(graph[name].needs) for name in start)
        running |= set(start)
        assert 0 < len(running) <= workers, "idle, or too many at once"
        assert sum(graph[name].meta.gpu for name in running) <= 1
        ended = chance.choice(sorted(running))
        running.remove(ended)
        assert ended not in done, "started twice"
        done.add(ended)
    assert done == graph.keys()


@given(graphs())
def test_unchanged_are_exactly_the_stages_with_nothing_stale_at_or_above_them(
    graph: dict[str, Stage],
) -> None:
    expected = {n for n in graph if not any(graph[m].stale for m in {n, *above(graph, n)})}
    assert dag.unchanged(graph) == expected


@given(graphs(), st.data())
def test_a_selection_is_what_matches_and_all_above_it(graph: dict[str, Stage], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.sampled_from(sorted(graph)), min_size=1))
    expected = {m for n in wanted for m in (n, *above(graph, n))}
    assert list(dag.select(graph, wanted)) == [name for name in graph if name in expected]


def test_patterns_and_those_that_match_nothing() -> None:
    graph = {n: Stage(n, (), False, StageMeta()) for n in ("spine-train", "spine-report", "pose-train")}
    assert list(dag.select(graph, {"spine-*"})) == ["spine-train", "spine-report"]
    with pytest.raises(StageError, match=r"no stage matches knee-\*, spine; there are spine-train"):
        dag.select(graph, {"knee-*", "*-train", "spine"})


def test_a_repeated_stage_is_found_by_its_own_name_and_by_that_of_all() -> None:
    needs = {"start": (), "phase@a": ("start",), "phase@b": ("phase@a",), "phases": ("phase@b",)}
    graph = {n: Stage(n, above_it, False, StageMeta()) for n, above_it in needs.items()}
    assert list(dag.select(graph, {"phase@a"})) == ["start", "phase@a"]
    for pattern in ("phase", "phase@*", "phase@b"):
        assert list(dag.select(graph, {pattern})) == ["start", "phase@a", "phase@b"]


def test_graph_of_dvc_with_state_and_meta(checkout: Miniature) -> None:
    _edit(checkout.root / "dvc.yaml", lambda t: t["stages"]["left"].update(meta={"gpu": True, "retries": 2}))
    added = "outs:\n- {md5: 68b329da9893e34099c7d8ad5cb9c940, hash: md5, path: notes.txt}\n"
    (checkout.root / "notes.txt.dvc").write_text(added, encoding="utf-8")
    graph = dag.read_graph(checkout.root)
    assert graph.pop("notes.txt.dvc").stale
    assert {s.name: s.needs for s in graph.values()} == {
        "source": (),
        "left": ("source",),
        "right": ("source",),
        "merge": ("left", "right"),
    }
    assert list(graph) == ["source", "left", "right", "merge"], "not in the order of dvc.yaml"
    assert graph["left"].meta == StageMeta(gpu=True, retries=2)
    assert all(stage.stale for stage in graph.values())


def test_every_unknown_meta_is_named(checkout: Miniature) -> None:
    def spoil(tree: dict) -> None:
        tree["stages"]["left"]["meta"] = {"retry": 2}
        tree["stages"]["merge"]["meta"] = {"retries": -1}

    _edit(checkout.root / "dvc.yaml", spoil)
    with pytest.raises(StageError, match=r"(?s)left: meta\.retry.*merge: meta\.retries"):
        dag.read_graph(checkout.root)


def test_a_broken_pipeline_file_is_an_error_in_words(checkout: Miniature) -> None:
    (checkout.root / "dvc.yaml").write_text("stages: [", encoding="utf-8")
    with pytest.raises(StageError, match=r"DVC cannot read the pipeline.*dvc\.yaml"):
        dag.read_graph(checkout.root)


def _edit(file: Path, change) -> None:  # type: ignore[no-untyped-def]
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(tree)
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


DEAD = 2**22 + 1
"""A process number that Linux never gives."""


def _table(pid: int) -> str:
    info = {"pid": pid, "cmd": "dvc repro"}
    return json.dumps({"write": {"/out/left.txt": info}, "read": {"/out/source.txt": [info]}})


@pytest.mark.parametrize("content", ["", '{"write": {"/o', '{"write": 3}', "[]"])
def test_a_lock_table_cut_short_blocks_dvc_until_healed(checkout: Miniature, content: str) -> None:
    table = checkout.root / ".dvc" / "tmp" / "rwlock"
    table.parent.mkdir(exist_ok=True)
    table.write_text(content, encoding="utf-8")
    (line,) = dag.heal(checkout.root)
    assert "rwlock" in line
    assert not table.exists()
    assert dag.heal(checkout.root) == []


def test_locks_of_the_dead_go_and_those_of_the_living_stay(checkout: Miniature) -> None:
    table = checkout.root / ".dvc" / "tmp" / "rwlock"
    table.parent.mkdir(exist_ok=True)
    table.write_text(_table(DEAD), encoding="utf-8")
    assert str(DEAD) in dag.heal(checkout.root)[0]
    assert json.loads(table.read_text(encoding="utf-8")) == {"write": {}, "read": {}}

    table.write_text(_table(os.getpid()), encoding="utf-8")
    assert dag.heal(checkout.root) == []
    assert table.read_text(encoding="utf-8") == _table(os.getpid())


def test_a_number_that_another_process_has_now_holds_no_lock(checkout: Miniature) -> None:
    table = checkout.root / ".dvc" / "tmp" / "rwlock"
    table.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["sleep", "60"]) as younger:
        table.write_text(_table(younger.pid), encoding="utf-8")
        assert dag.heal(checkout.root) == []
        os.utime(table, (0, table.stat().st_mtime - 60.0))
        assert str(younger.pid) in dag.heal(checkout.root)[0]
        younger.kill()


@pytest.fixture(scope="module")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """A checkout in which source was built."""
    root = tmp_path_factory.mktemp("built") / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    assert mini.run("dvc", "repro", "source")[0] == 0
    return mini


def test_a_lock_file_cut_anywhere_is_usable_after_healing(built: Miniature) -> None:
    file = built.root / "dvc.lock"
    whole = file.read_text(encoding="utf-8")
    moved = 0
    for cut in range(0, len(whole), 19):
        file.write_text(whole[:cut], encoding="utf-8")
        moved += bool(dag.heal(built.root))
        assert dag.read_graph(built.root)["left"].stale
    assert moved > 10, "no cut was seen"
    file.write_text(whole, encoding="utf-8")
    assert dag.heal(built.root) == []
    assert not dag.read_graph(built.root)["source"].stale
    file.write_text(f"<<<<<<< ours\n{whole}", encoding="utf-8")
    assert dag.heal(built.root) == [], "a conflict is for a person to mend"
    file.write_text(whole, encoding="utf-8")


def test_what_a_cut_lock_file_held_is_restored(built: Miniature) -> None:
    (built.root / "dvc.lock").write_text("schema: '2.0'\nstag", encoding="utf-8")
    assert dag.heal(built.root)
    code, output = built.run("dvc", "repro", "source")
    assert (code, "is cached - skipping run" in output) == (0, True), output

"""`plumbline why`: every cause is named, and what is foretold is what DVC then does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows.changes import parameters
from flows.forecast import Verdict, forecast
from flows.why import affected, explain
from stages.core.errors import StageError
from stages.core.identity import locked_identity, locked_stages
from tests.miniature import Miniature

Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """A checkout in which everything was built and committed, with quick branches."""
    root = tmp_path_factory.mktemp("built") / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    _set("left", seconds=0.0)(root)
    _set("right", seconds=0.0)(root)
    code, output = mini.run("dvc", "repro")
    assert code == 0, output
    _commit(root)
    return mini


@pytest.fixture
def checkout(built: Miniature, tmp_path: Path) -> Miniature:
    root = tmp_path / "checkout"
    shutil.copytree(built.root, root, symlinks=True)
    return Miniature(root, api="")


def _commit(root: Path) -> None:
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", str(root)]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "next"], check=True)


def _set(section: str, **values: object) -> Edit:
    return lambda root: Miniature(root, api="").set(section, **values)


def _append(name: str, text: str) -> Edit:
    def edit(root: Path) -> None:
        with (root / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def _remove(*names: str) -> Edit:
    def edit(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return edit


def _command(root: Path) -> None:
    file = root / "dvc.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("-m mini.merge", "-B -m mini.merge"), encoding="utf-8")


def _forget_merge(root: Path) -> None:
    file = root / "dvc.lock"
    text = file.read_text(encoding="utf-8")
    rest = re.sub(r"^  merge:\n(?:    .*\n)+", "", text, flags=re.M)
    assert rest != text
    file.write_text(rest, encoding="utf-8")


def _empty_cache(root: Path) -> None:
    shutil.rmtree(root / ".dvc" / "cache" / "files")


def _new_file(root: Path) -> None:
    (root / "dvc.yaml").write_text(
        (root / "dvc.yaml")
        .read_text()
        .replace("deps: [mini/source.py]", "deps: [mini/source.py, missing.csv]")
    )


RUN, RESTORED, UNCHANGED, DEPENDS = (
    Verdict.RUN,
    Verdict.RESTORED,
    Verdict.UNCHANGED,
    Verdict.DEPENDS,
)

CASES: dict[str, tuple[list[Edit], dict[str, Verdict], str]] = {
    "parameter": (
        [_set("left", factor=7)],
        {"left": RUN, "merge": DEPENDS},
        "parameter left.factor changed from 2 to 7",
    ),
    "code": (
        [_append("mini/merge.py", "# more\n")],
        {"merge": RUN},
        r"mini/merge\.py changed, and the change is not committed \(last run: as of [0-9a-f]{7}\)",
    ),
    "code, committed": (
        [_append("mini/merge.py", "# more\n"), _commit],
        {"merge": RUN},
        r"mini/merge\.py changed by commit [0-9a-f]{7} \(last run: as of [0-9a-f]{7}\)",
    ),
    "command": ([_command], {"merge": RUN}, "its command changed from `python -m .*` to `python -B -m "),
    "no entry in the lock, but the same run before": (
        [_forget_merge],
        {"merge": RESTORED},
        "never built: dvc.lock has no entry of it",
    ),
    "never built": ([_forget_merge, _empty_cache, _append("mini/merge.py", "#")], {}, "never built"),
    "output gone": ([_remove("out/left.txt")], {"left": RESTORED}, "its output out/left.txt is missing"),
    "output edited": (
        [_append("out/merge.txt", "7\n")],
        {"merge": RESTORED},
        "its output out/merge.txt was changed by hand",
    ),
    "output gone from the cache too": (
        [_remove("out/source.txt"), _empty_cache],
        {},
        "(?s)its output out/source.txt is not in the cache.*and the cache does not hold",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cause_is_named_and_dvc_does_what_was_foretold(checkout: Miniature, case: str) -> None:
    edits, expected, words = CASES[case]
    for edit in edits:
        edit(checkout.root)
    foretold = {name: told.verdict for name, told in forecast(checkout.root).items()}
    if expected:
        assert {name: verdict for name, verdict in foretold.items() if verdict is not UNCHANGED} == expected
    assert re.search(words, "\n".join(explain(checkout.root)))
    code, output = checkout.run("dvc", "repro")
    assert code == 0, output
    did = {
        name: RUN
        if f"Running stage '{name}'" in output
        else RESTORED
        if f"Stage '{name}' is cached" in output
        else UNCHANGED
        for name in foretold
    }
    assert did == {name: did[name] if v is DEPENDS else v for name, v in foretold.items()}
    assert all(told.verdict is UNCHANGED for told in forecast(checkout.root).values())


def test_what_is_switched_back_is_restored_with_all_that_follows_it(checkout: Miniature) -> None:
    _set("source", count=30)(checkout.root)
    assert {t.verdict for t in forecast(checkout.root).values()} == {RUN, DEPENDS}
    assert checkout.run("dvc", "repro")[0] == 0
    _set("source", count=40)(checkout.root)
    told = forecast(checkout.root)
    assert {t.verdict for t in told.values()} == {RESTORED}, "inputs to come were not followed"
    assert {t.source for t in told.values()} == {"run-cache"}
    assert "an earlier run on the same inputs" in next(iter(explain(checkout.root, ["left"])))
    output = checkout.run("dvc", "repro")[1]
    assert output.count("is cached - skipping run") == 4, output


def test_a_folder_around_a_restored_output_is_not_taken_as_it_lies(checkout: Miniature) -> None:
    """`merge` reads the folder out/right through its parent here: what lies there now says nothing."""
    file = checkout.root / "dvc.yaml"
    text = file.read_text(encoding="utf-8").replace("--output out/right", "--output out/deep/right")
    text = text.replace("outs: [out/right]", "outs: [out/deep/right]").replace(
        "out/left.txt, out/right,", "out/left.txt, out/deep,"
    )
    file.write_text(text.replace("--right out/right", "--right out/deep/right"), encoding="utf-8")
    for factor in (5, 6, 5):
        _set("right", factor=factor)(checkout.root)
        told = forecast(checkout.root)
        if factor == 6:
            assert told["merge"].verdict is DEPENDS
        assert checkout.run("dvc", "repro")[0] == 0
    assert forecast(checkout.root)["merge"].verdict is UNCHANGED
    _set("right", factor=6)(checkout.root)
    told = forecast(checkout.root)
    assert told["right"].verdict is RESTORED
    assert told["merge"].verdict is DEPENDS, "an old folder was taken for the one to come"


def test_keys_are_those_of_the_lock(checkout: Miniature) -> None:
    lock = locked_stages(checkout.root)
    assert {name: told.key for name, told in forecast(checkout.root).items()} == {
        name: locked_identity(entry).key for name, entry in lock.items()
    }


def test_an_input_that_nobody_makes(checkout: Miniature) -> None:
    _new_file(checkout.root)
    said = "\n".join(explain(checkout.root, ["source"]))
    assert "its input missing.csv is not there, and no stage makes it" in said


def test_a_stage_below_names_the_first_cause_and_the_stages_between(checkout: Miniature) -> None:
    _set("source", count=30)(checkout.root)
    said = "\n".join(explain(checkout.root, ["merge"]))
    assert said.startswith("merge would run unless what it reads comes out the same")
    assert "out/left.txt (left), out/right (right)" in said
    assert re.search(r"parameter source.count changed from 40 to 30\n +would run: source", said)
    with pytest.raises(
        StageError, match=r"no stage matches lef, rig\*x; there are source, left, right, merge"
    ):
        list(explain(checkout.root, ["lef", "source", "rig*x"]))


def test_nothing_to_do_names_the_lock(checkout: Miniature) -> None:
    (line,) = explain(checkout.root)
    assert re.fullmatch(
        r"4 stages, profile demo: 4 unchanged; compared with dvc.lock of commit [0-9a-f]{7}", line
    )
    _append("dvc.lock", "\n")(checkout.root)
    assert "newer than that of commit" in list(explain(checkout.root))[-1]


def test_explaining_changes_nothing(checkout: Miniature) -> None:
    _set("left", factor=7)(checkout.root)
    _remove("out/right")(checkout.root)
    before = _files(checkout.root)
    list(explain(checkout.root))
    list(affected(checkout.root, ["mini/work.py"]))
    assert _files(checkout.root) == before


def _files(root: Path) -> dict[Path, bytes]:
    skipped = {".git", "tmp", "__pycache__"}
    files = (f for f in root.rglob("*") if f.is_file() and not skipped & set(f.relative_to(root).parts))
    return {f: f.read_bytes() for f in files}


@pytest.mark.parametrize(
    ("item", "direct", "below"),
    [
        ("mini/work.py", "left, right", "merge"),
        ("mini", "source, left, right, merge", None),
        ("left.factor", "left", "merge"),
        ("merge", "merge", None),
        ("README.md", None, None),
        ("lef", None, None),
    ],
)
def test_what_an_edit_would_run(built: Miniature, item: str, direct: str | None, below: str | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(built.root)
        said = list(affected(built.root, [item]))
    assert said[0] == f"{item}: " + (f"would run: {direct}" if direct else "no stage depends on it")
    assert [line.rpartition(": ")[2] for line in said[1:]] == ([below] if below else [])


def test_parameters_are_compared_as_the_stage_reads_them() -> None:
    before = {
        "a.fit": {"epochs": 3, "phases": [{"rate": 1}]},
        "profiles.demo.a.fit": {"epochs": 1},
        "seed": 1,
    }
    same = {"a.fit": {"epochs": 9, "phases": [{"rate": 1}]}, "profiles.demo.a.fit": {"epochs": 1}, "seed": 1}
    other = {"a.fit": {"epochs": 3, "phases": [{"rate": 2}]}, "profiles.cpu.a.fit": {"rounds": 4}, "seed": 1}
    assert [str(d) for d in parameters(before, other)] == [
        "a.fit.epochs changed from 1 to 3",
        "a.fit.phases.0.rate changed from 1 to 2",
        "a.fit.rounds is new: 4",
    ]
    (hidden,) = parameters(before, same)
    assert hidden.name == "a.fit", "DVC sees a change that the overlay hides"
    assert parameters(before, dict(before)) == []


def test_another_profile_is_one_cause(checkout: Miniature) -> None:
    def profiled(root: Path) -> None:
        file = root / "dvc.yaml"
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        tree["stages"]["left"]["params"] = ["left", "profiles.${profile}.left"]
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")

    profiled(checkout.root)
    _set("profiles", demo={"left": {}}, cpu={"left": {"factor": 9}})(checkout.root)
    assert checkout.run("dvc", "repro")[0] == 0
    params = checkout.root / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("profile: demo", "profile: cpu"))
    said = list(explain(checkout.root))
    assert said[:2] == ["the profile changed from demo to cpu", "  would run: left"]
    assert "  parameter left.factor changed from 2 to 9" in list(explain(checkout.root, ["left"]))

"""DVC with its short cuts writes what DVC itself writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dpath
import pytest
from dvc.utils.serialize import dumps_yaml, load_yaml, parse_yaml_for_update

from flows.quick_dvc import _DirectPaths, replace_entry

SOURCES = Path(__file__).parents[2]
LOCK = (SOURCES / "dvc.lock").read_text(encoding="utf-8")
STAGES = load_yaml(str(SOURCES / "dvc.lock"))["stages"]


def _entry(name: str, content: object) -> str:
    return dumps_yaml({"stages": {name: content}}).removeprefix("stages:\n")


@pytest.mark.parametrize("name", [min(STAGES), max(STAGES), next(n for n in STAGES if "@" in n)])
def test_one_entry_is_replaced_as_by_writing_the_whole_file(name: str) -> None:
    whole = parse_yaml_for_update(LOCK, "dvc.lock")
    changed = {**whole["stages"][name], "cmd": "python -m " + "a_long_word " * 30 + "'quoted: #'"}
    whole["stages"][name] = changed
    replaced = replace_entry(LOCK, _entry(name, changed))
    assert replaced == dumps_yaml(whole)
    assert replaced != LOCK


def test_an_unchanged_entry_leaves_the_file_as_it_is() -> None:
    for name, content in parse_yaml_for_update(LOCK, "dvc.lock")["stages"].items():
        assert replace_entry(LOCK, _entry(name, content)) == LOCK, name


def test_a_stage_without_an_entry_goes_to_the_end() -> None:
    whole = parse_yaml_for_update(LOCK, "dvc.lock")
    whole["stages"]["newcomer"] = {"cmd": "true"}
    assert replace_entry(LOCK, _entry("newcomer", {"cmd": "true"})) == dumps_yaml(whole)


@pytest.mark.parametrize("start", ["nothing", "locked", "no lock, built"])
def test_a_build_leaves_the_lock_that_dvc_leaves(template: Path, tmp_path: Path, start: str) -> None:
    locks = {}
    for name in ("dvc", "flows.quick_dvc"):
        root = tmp_path / name
        shutil.copytree(template, root, symlinks=True)
        if start != "nothing":
            _repro(root, "dvc")
            params = root / "params.yaml"
            params.write_text(params.read_text(encoding="utf-8") + "unused: 1\n", encoding="utf-8")
        if start == "no lock, built":
            (root / "dvc.lock").unlink()
        _repro(root, name, "--force")
        locks[name] = (root / "dvc.lock").read_bytes()
    assert locks["dvc"] == locks["flows.quick_dvc"]
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "up to date" in status.stdout


def _repro(root: Path, module: str, *options: str) -> None:
    command = [sys.executable, "-m", module, "repro", "--quiet", *options]
    environment = {
        "PYTHONPATH": str(SOURCES),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PLUMBLINE_WARM": "json",
        "PLUMBLINE_TRACK": "journal",
    }
    subprocess.run(command, cwd=root, env=environment, check=True)


def test_paths_of_parameters_lead_where_dpath_leads() -> None:
    tree = {"a": {"b": [1, {"c": 2}], "d": None}, "e": 3}
    direct = _DirectPaths(dpath)
    for path in ("a", "a.d", "a.b", "a.b.1.c", "e", "*.d"):
        assert direct.get(tree, path, separator=".") == dpath.get(tree, path, separator="."), path
    with pytest.raises(KeyError):
        direct.get(tree, "a.nothing", separator=".")

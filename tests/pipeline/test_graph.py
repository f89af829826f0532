"""What DVC would rerun after an edit, asked of DVC itself in a clone without data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.deps import read_stages
from flows.profiles import use

TRAINING = {"ceph": "base", "spine": "refiner", "chest": "phase@full_wing", "pose": "train"}
"""lane -> a stage that trains a network of it"""
LANES = tuple(TRAINING)


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Path:
    """The checkout's tracked files as they are now, without data, cache or models."""
    target = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(root), str(target)], check=True)
    tracked = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True, check=True)
    for line in tracked.stdout.splitlines():
        if (root / line).is_file():
            (target / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / line, target / line)
    return target


def would_run(clone: Path) -> set[str]:
    """Stages whose code or parameters DVC sees changed, and all that build on them. Absent data do not count."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
    seen: dict[str, list[Any]] = json.loads(done.stdout)
    stale = {name.split(":")[-1] for name, changes in seen.items() if any(map(_is_edit, changes))}
    stages = read_stages(clone)
    while True:
        made = {path for name in stale for path in _outputs(stages[name])}
        below = {name for name, stage in stages.items() if made & set(stage["deps"])} - stale
        if not below:
            return stale
        stale |= below


def _is_edit(change: Any) -> bool:
    if change == "changed command":
        return True
    found = change.get("changed deps", {}) if isinstance(change, dict) else {}
    return any(state != "deleted" for state in found.values())


def _outputs(stage: dict[str, Any]) -> set[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_committed_lock_is_current(clone: Path) -> None:
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Running stage" not in done.stdout
    assert would_run(clone) == set()


def test_report_code_reruns_reports_alone(clone: Path) -> None:
    append(clone / "stages" / "core" / "report" / "page.py", "\n# another word\n")
    stages = would_run(clone)
    assert {f"{lane}-report" for lane in LANES} <= stages
    # ceph-compare writes a page and a verdict, which is an input of ceph-candidate
    pages = {"ceph-compare", "ceph-candidate", "ceph-dashboard", "index"}
    assert stages <= {f"{lane}-report" for lane in LANES} | pages


def test_tracking_code_reruns_nothing(clone: Path) -> None:
    for file in (clone / "stages" / "core").glob("tracking*"):
        for source in [file] if file.is_file() else file.glob("*.py"):
            append(source, "\n# another word\n")
    assert would_run(clone) == set()


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_s_training_code_leaves_the_other_lanes_alone(clone: Path, lane: str) -> None:
    append(clone / "stages" / lane / f"{TRAINING[lane].partition('@')[0]}.py", "\n# another word\n")
    stages = would_run(clone)
    assert f"{lane}-{TRAINING[lane]}" in stages
    assert {name.split("-")[0] for name in stages} <= {lane, "index"}


def test_a_profile_switched_there_and_back_has_nothing_to_run(clone: Path) -> None:
    use(clone, "cpu", {})
    changed = would_run(clone)
    assert {f"{lane}-{stage}" for lane, stage in TRAINING.items()} <= changed
    kept = ("-phantom", "-convert", "-split", "-floors")
    # ceph films are stored at another size there, and pose phantoms dance more
    assert not [name for name in changed if name.startswith(("spine", "chest")) and name.endswith(kept)]
    use(clone, "demo", {})
    assert would_run(clone) == set()


def test_a_phase_s_settings_rerun_it_and_its_descendants_alone(clone: Path) -> None:
    file = clone / "params.yaml"
    before, changed = "weights: {wing: 1.0, symmetry: 0.3}", "weights: {wing: 1.0, symmetry: 0.4}"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, changed), encoding="utf-8")
    phases = {name.partition("@")[2] for name in would_run(clone) if "@" in name}
    assert phases == {"symmetry", "complete"}

"""What DVC would rerun after an edit, asked of DVC itself in a clone without data."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.profiles import use

LANES = ("spine", "chest", "pose")


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
    """Stages that `dvc repro` would run now, given that what is cached elsewhere can be fetched."""
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^Running stage '(.+?)'", done.stdout, re.M))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_committed_lock_is_current(clone: Path) -> None:
    assert would_run(clone) == set()


def test_report_code_reruns_reports_alone(clone: Path) -> None:
    append(clone / "stages" / "core" / "report" / "page.py", "\n# another word\n")
    stages = would_run(clone)
    assert {f"{lane}-report" for lane in LANES} <= stages
    assert stages <= {f"{lane}-report" for lane in LANES} | {"index"}


def test_tracking_code_reruns_nothing(clone: Path) -> None:
    for file in (clone / "stages" / "core").glob("tracking*"):
        for source in [file] if file.is_file() else file.glob("*.py"):
            append(source, "\n# another word\n")
    assert would_run(clone) == set()


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_s_training_code_leaves_the_other_lanes_alone(clone: Path, lane: str) -> None:
    append(clone / "stages" / lane / "train.py", "\n# another word\n")
    stages = would_run(clone)
    assert f"{lane}-train" in stages
    assert {name.split("-")[0] for name in stages} <= {lane, "index"}


def test_a_profile_switched_there_and_back_has_nothing_to_run(clone: Path) -> None:
    use(clone, "cpu", {})
    changed = would_run(clone)
    assert {f"{lane}-train" for lane in LANES} <= changed
    assert not [name for name in changed if name.endswith(("-phantom", "-convert", "-split", "-floors"))]
    use(clone, "demo", {})
    assert would_run(clone) == set()

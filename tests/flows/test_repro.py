"""Stopping stages and ending processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows import processes
from flows.repro import RUNNER, StoppedError
from stages.core.errors import StageError
from tests.miniature import Miniature, until

TREE = """
import signal, subprocess, sys, time
{prepare}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def _tree(prepare: str = "") -> tuple[psutil.Popen, int]:
    root = psutil.Popen(
        [sys.executable, "-c", TREE.format(prepare=prepare)], stdout=subprocess.PIPE, text=True
    )
    return root, int(root.stdout.readline())


@pytest.mark.parametrize("prepare", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_a_tree_ends_whole_also_if_its_root_does_not_listen(prepare: str) -> None:
    root, child = _tree(prepare)
    begun = time.monotonic()
    processes.end([root], grace=0.5)
    assert time.monotonic() - begun < 10.0
    until(lambda: not _runs(root.pid) and not _runs(child), 5.0, "the end of both")


def test_a_process_is_found_by_number_and_start_time() -> None:
    me = psutil.Process()
    assert processes.find(me.pid, me.create_time()) == me
    assert processes.find(me.pid, me.create_time() - 100.0) is None
    with subprocess.Popen(["true"]) as gone:
        until(lambda: psutil.Process(gone.pid).status() == psutil.STATUS_ZOMBIE, 10.0, "the end")
        created = psutil.Process(gone.pid).create_time()
        assert processes.find(gone.pid, created) is None, "a zombie is not a running process"


FOLLOWER = """
import os, time
from flows.processes import follow_parent
{before}
follow_parent({parent})
print("follows", flush=True)
time.sleep(60)
"""


def test_a_process_follows_a_killed_parent() -> None:
    follower = FOLLOWER.format(before="print(os.getpid(), flush=True)", parent="os.getppid()")
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {follower!r}])",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "follows\n"
    parent.kill()
    until(lambda: not _runs(pid), 5.0, "the end of the follower")
    parent.communicate()


def test_a_process_whose_parent_died_earlier_does_not_begin() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWER.format(before="0", parent=str(2**22 + 1))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "is gone" in done.stderr


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def checkout(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    monkeypatch.setenv("PYTHONPATH", mini.environment["PYTHONPATH"])
    return mini


def test_stop_ends_the_command_and_dvc_releases_its_locks(checkout: Miniature) -> None:
    checkout.set("left", seconds=60.0)
    output: list[str] = []
    codes: list[int] = []

    def run_left() -> None:
        for stage in ("source", "left"):
            with RUNNER.repro(checkout.root, stage) as process:
                output.extend(process.stdout or ())
            codes.append(process.returncode)

    with RUNNER.exclusive(checkout.root):
        thread = threading.Thread(target=run_left)
        thread.start()
        until(lambda: (checkout.root / "out/left.txt").is_file(), 60.0, "the stage's first line")
        begun = time.monotonic()
        RUNNER.stop()
        thread.join(timeout=30.0)
        assert time.monotonic() - begun < 15.0
        with pytest.raises(StoppedError), RUNNER.repro(checkout.root, "right"):
            pass
    assert not thread.is_alive()
    assert codes == [0, 255], "a stopped stage must not look like one that ran"
    assert any("exited with -15" in line for line in output), output
    checkout.assert_quiet()
    assert (checkout.root / ".dvc/tmp/rwlock").read_text(encoding="utf-8") in (
        "{}",
        '{"write": {}, "read": {}}',
    )


def test_one_build_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.repro.GRACE", 0.2)
    with (
        RUNNER.exclusive(tmp_path),
        pytest.raises(StageError, match="another build runs"),
        RUNNER.exclusive(tmp_path),
    ):
        pass
    with RUNNER.exclusive(tmp_path):
        assert not RUNNER.stopping


def test_a_stage_that_lost_its_dvc_does_not_begin(checkout: Miniature) -> None:
    environment = {"DVC_STAGE": "source", "DVC_ROOT": str(checkout.root), "PLUMBLINE_DVC": str(2**22 + 1)}
    code, output = checkout.run("mini.source", "--output", "out/source.txt", env=environment)
    assert (code, "is gone" in output) == (1, True), output
    assert not (checkout.root / "out").exists()

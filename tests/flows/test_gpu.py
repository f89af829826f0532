"""One stage on the GPU at a time, whoever started it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows import gpu
from tests.miniature import until

HOLDER = "import time; print('holds', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(gpu.SETTING, str(tmp_path / "gpu.lock"))
    return tmp_path / "gpu.lock"


def _never() -> bool:
    return False


def test_stages_of_two_builds_never_overlap() -> None:
    guard, inside, most, turns = threading.Lock(), 0, 0, 0
    waited: list[str] = []

    def stage() -> None:
        nonlocal inside, most, turns
        for _ in range(3):
            with gpu.alone(_never, waited.append):
                with guard:
                    inside, turns = inside + 1, turns + 1
                    most = max(most, inside)
                until(lambda: True, 1.0, "a breath")
                with guard:
                    inside -= 1

    builds = [threading.Thread(target=stage) for _ in range(2)]
    for build in builds:
        build.start()
    for build in builds:
        build.join(timeout=60.0)
    assert (most, turns) == (1, 6)


def test_the_gpu_is_free_when_the_last_child_of_a_killed_build_has_ended() -> None:
    with gpu.alone(_never, pytest.fail) as inherited:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER], pass_fds=inherited, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "holds\n"
    said, entered = [], threading.Event()

    def next_stage() -> None:
        with gpu.alone(_never, said.append):
            entered.set()

    waiting = threading.Thread(target=next_stage)
    waiting.start()
    until(lambda: said, 30.0, "word that it waits")
    assert not entered.is_set()
    child.kill()
    child.communicate()
    assert entered.wait(30.0)
    waiting.join()


def test_one_that_waits_can_be_stopped() -> None:
    stopping = threading.Event()
    with gpu.alone(_never, pytest.fail):
        waiting = threading.Thread(target=lambda: gpu.alone(stopping.is_set, lambda line: None).__enter__())
        waiting.start()
        stopping.set()
        waiting.join(timeout=30.0)
        assert not waiting.is_alive()


def test_a_machine_without_gpu_has_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(gpu.SETTING)
    monkeypatch.setattr(gpu, "DEVICES", (Path("/nowhere"),))
    assert gpu.lock_file() is None
    monkeypatch.setattr(gpu, "DEVICES", (Path("/dev/null"),))
    assert gpu.lock_file() is not None
    monkeypatch.setenv(gpu.SETTING, "")
    assert gpu.lock_file() is None, "switched off"

"""Work on Dask workers: the same results in other processes, however many and whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from stages.core.data import cluster
from stages.core.data.pool import DASK, map_unordered
from stages.core.errors import StageError
from tests.core.data.test_convert import convert, make_films


@pytest.fixture(scope="module")
def two_workers() -> Iterator[LocalCluster]:
    """Two worker processes, each with a nanny that starts it again."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
    ) as workers:
        yield workers


@contextmanager
def crew(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A scheduler of its own in `PLUMBLINE_DASK`, with workers that nobody starts again."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as scheduler, ExitStack() as ends:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.scheduler_address]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command += ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        workers = [
            subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(count)
        ]
        for worker in workers:
            ends.callback(worker.wait)
            ends.callback(worker.kill)
        _until(lambda: len(scheduler.scheduler.workers) == count)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(DASK, scheduler.scheduler_address)
            yield workers


@pytest.fixture
def on_dask(two_workers: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(DASK, two_workers.scheduler_address)
    return two_workers.scheduler_address


def _slowly(_: int) -> tuple[int, str]:
    time.sleep(0.05)
    return os.getpid(), os.getcwd()


def _fail_at_seven(x: int) -> int:
    if x == 7:
        raise OSError("the disk went away")
    return x


def _end_worker_once(mark: Path, x: int) -> int:
    if x == 7 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def _end_at_three(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_two_processes_work_where_the_stage_would(
    on_dask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = dict(map_unordered(_slowly, range(20), workers=1))
    assert sorted(results) == list(range(20))
    pids = {pid for pid, _ in results.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {folder for _, folder in results.values()} == {str(tmp_path)}


def test_local_workers_end_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DASK, "local:2")
    pids = {pid for _, (pid, _) in map_unordered(_slowly, range(8), workers=1)}
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_conversion_gives_the_bytes_of_one_process(
    on_dask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_films(tmp_path / "raw", 20)
    there = convert(jobs, tmp_path / "there", tmp_path / "scratch-there")
    monkeypatch.delenv(DASK)
    here = convert(jobs, tmp_path / "here", tmp_path / "scratch-here")
    assert there == here
    files = sorted(p.name for p in (tmp_path / "here").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "there").iterdir())
    for name in files:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


def test_a_worker_that_dies_costs_only_time(tmp_path: Path) -> None:
    with crew(2) as workers:
        results = sorted(map_unordered(partial(_end_worker_once, tmp_path / "ended"), range(12), 1, group=3))
        assert results == [(x, x * x) for x in range(12)]
        assert sum(worker.poll() is None for worker in workers) == 1


def test_an_item_that_ends_every_worker_is_named() -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        crew(2),
        pytest.raises(StageError, match=r"several Dask workers died.* at one of: .*3, 4"),
    ):
        list(map_unordered(_end_at_three, range(1, 9), 1, group=2))


def test_items_that_end_the_last_worker_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE_SECONDS", 1.0)
    with crew(1), pytest.raises(StageError, match="has had no worker for 1 s; under way were: 3, 4"):
        list(map_unordered(_end_at_three, [3, 4], 1))


def test_what_a_worker_finished_before_an_error_is_not_lost(on_dask: str) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(OSError, match="the disk went away"):
        seen.extend(map_unordered(_fail_at_seven, range(12), 2, group=4))
    assert {(4, 4), (5, 5), (6, 6)} <= set(seen)
    assert (7, 7) not in seen


def test_no_more_is_under_way_than_two_groups_a_worker(on_dask: str) -> None:
    taken: list[int] = []

    class Items(list[int]):
        def __getitem__(self, key: Any) -> Any:
            taken.extend(super().__getitem__(key))
            return super().__getitem__(key)

    results = map_unordered(_fail_at_seven, Items(range(100, 200)), 1, 3)
    for done in range(1, 20):
        next(results)
        assert done <= len(taken) <= done + 2 + 3 * 2 * 2
    results.close()  # type: ignore[attr-defined]


STAGE = """
import os, pathlib, sys, time
from stages.core.data.pool import map_unordered
from tests.core.data.test_cluster import note_for_ever
list(map_unordered(note_for_ever, [pathlib.Path(sys.argv[1])], 1))
"""


def note_for_ever(file: Path) -> None:
    """Write to `file` again and again, as a training does to its checkpoint."""
    while True:
        file.write_text(f"{os.getpid()} {time.monotonic()}")
        time.sleep(0.05)


def test_work_of_a_killed_stage_ends(on_dask: str, tmp_path: Path, root: Path) -> None:
    """Else it would write to the same checkpoint as the run that goes on from there."""
    file = tmp_path / "note"
    stage = subprocess.Popen([sys.executable, "-c", STAGE, file], cwd=root)
    _until(file.exists)
    stage.kill()
    stage.wait()
    pid = int(file.read_text().split()[0])
    _until(lambda: not _lives(pid))
    kept = file.read_text()
    time.sleep(0.3)
    assert file.read_text() == kept


def test_a_lost_scheduler_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as workers:
        monkeypatch.setenv(DASK, workers.scheduler_address)
        results = map_unordered(_slowly, range(10_000), 1)
        next(results)
        workers.close()
        with pytest.raises(StageError, match="lost the Dask scheduler at tcp:"):
            list(results)


def _lives(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _until(reached: Any) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_with_several_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as workers:
        monkeypatch.setenv(DASK, workers.scheduler_address)
        with pytest.raises(StageError, match="Start them with --nthreads 1"):
            list(map_unordered(abs, [-1, -2], 1))


def test_without_scheduler_or_worker_the_message_says_what_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1)
    monkeypatch.setattr(cluster, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setenv(DASK, "tcp://127.0.0.1:9")
    with pytest.raises(StageError, match="no Dask scheduler answers at PLUMBLINE_DASK=tcp://127.0.0.1:9"):
        list(map_unordered(abs, [-1, -2], 1))
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as workers:
        monkeypatch.setenv(DASK, workers.scheduler_address)
        with pytest.raises(StageError, match="has had no worker for"):
            list(map_unordered(abs, [-1, -2], 1))


def test_workers_of_another_checkout_are_refused(on_dask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_code", lambda: "/another/checkout/stages")
    with pytest.raises(StageError, match="a Dask worker runs the code in .*, not /another/checkout/stages"):
        list(map_unordered(abs, [-1, -2], 1))


def test_a_folder_that_workers_cannot_enter_is_named(
    on_dask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "absent"))
    with pytest.raises(StageError, match="workers need the checkout at the same path"):
        list(map_unordered(abs, [-1, -2], 1))


def test_without_the_package_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv(DASK, "local:2")
    with pytest.raises(StageError, match="the package `distributed` is not installed"):
        list(map_unordered(abs, [-1, -2], 1))

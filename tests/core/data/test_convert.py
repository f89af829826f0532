"""The conversion engine: the same bytes however it ran, nothing lost, and errors that name everybody."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.core.data import convert as engine
from stages.core.data import geometry
from stages.core.data.convert import (
    KEPT,
    LEFT_OUT,
    ConvertSettings,
    FilmJob,
    Refusal,
    convert_films,
    names_file,
    write_names,
)
from stages.core.data.decode import FilmLimits
from stages.core.data.films import DatasetInfo, FilmSet
from stages.core.data.pool import map_unordered, worker_count
from stages.core.data.resumable import ResumableRows
from stages.core.errors import StageError
from stages.core.stage import Observer

INFO = DatasetInfo("phantom", "test")
SIZE = (24, 16)


def settings(workers: int = 1, on_error: str = "quarantine") -> ConvertSettings:
    return ConvertSettings(SIZE, workers, on_error, FilmLimits(8, 1_000_000))


def make_films(folder: Path, count: int) -> list[FilmJob]:
    folder.mkdir(exist_ok=True)
    jobs = []
    for i in range(count):
        rng = np.random.default_rng(i)
        height, width = int(rng.integers(40, 90)), int(rng.integers(30, 60))
        path = folder / f"film {i}.png"
        pixels = rng.integers(0, 256, (height, width), np.uint8)
        if not path.exists():  # a changed file would not be resumed
            Image.fromarray(pixels).save(path)
        landmarks = rng.uniform(0, 30, (3, 2)) if i % 4 else None
        jobs.append(FilmJob(f"id-{(i * 7) % count:03d}", f"patient-{i // 2}", "", path, landmarks))
    return jobs


def convert(jobs: list[FilmJob], output: Path, scratch: Path, **how: Any) -> dict[str, float]:
    return convert_films(jobs, [], output, INFO, 3, settings(**how), Observer.quiet(scratch))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def count_calls(function: Callable[[Any], Any], calls: list[Any]) -> Callable[[Any], Any]:
    """The same function, writing down what it was called with."""

    def counted(task: Any) -> Any:
        calls.append(task)
        return function(task)

    return counted


@pytest.fixture
def jobs(tmp_path: Path) -> list[FilmJob]:
    return make_films(tmp_path / "raw", 20)


def test_store_holds_the_resized_films_sorted_by_id(jobs: list[FilmJob], tmp_path: Path) -> None:
    metrics = convert(jobs, tmp_path / "films", tmp_path / "scratch")
    store = FilmSet.open(tmp_path / "films")
    assert list(store.ids) == sorted(job.id for job in jobs)
    for job in jobs:
        row = store.rows([job.id])[0]
        pixels = np.asarray(Image.open(job.path))
        np.testing.assert_array_equal(store.images[row], geometry.resize(pixels, SIZE))
        assert tuple(store.sizes_raw[row]) == pixels.shape[::-1]
        expected = np.full((3, 2), np.nan) if job.landmarks is None else job.landmarks
        np.testing.assert_array_equal(store.landmarks_raw[row], expected.astype(np.float32))
    assert metrics == {"n_files": 20, "n_films": 20, "n_labelled": 15, "n_left_out": 0, "n_noted": 0}


def test_bytes_do_not_depend_on_workers_or_order(jobs: list[FilmJob], tmp_path: Path) -> None:
    convert(jobs, tmp_path / "one", tmp_path / "s1", workers=1)
    convert(jobs[::-1], tmp_path / "three", tmp_path / "s2", workers=3)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "three")


def test_a_rerun_after_a_failure_takes_up_what_was_done(
    jobs: list[FilmJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(jobs, tmp_path / "unbroken", tmp_path / "s1")
    original = engine._convert_one
    calls: list[Any] = []

    def fail_late(task: Any) -> Any:
        calls.append(task)
        if len(calls) == 13:
            raise OSError(errno.EIO, "the disk went away")
        return original(task)

    monkeypatch.setattr(engine, "_convert_one", fail_late)
    with pytest.raises(OSError, match="went away"):
        convert(jobs, tmp_path / "films", tmp_path / "s2")
    assert not (tmp_path / "films").exists()
    again: list[Any] = []
    monkeypatch.setattr(engine, "_convert_one", count_calls(original, again))
    convert(jobs, tmp_path / "films", tmp_path / "s2")
    assert len(again) == 20 - 12
    assert bytes_of(tmp_path / "films") == bytes_of(tmp_path / "unbroken")


def test_a_changed_film_is_converted_again_after_a_failure(jobs: list[FilmJob], tmp_path: Path) -> None:
    convert(jobs, tmp_path / "films", tmp_path / "scratch")
    Image.fromarray(np.arange(3600, dtype=np.uint8).reshape(60, 60)).save(jobs[3].path)
    convert(jobs, tmp_path / "films", tmp_path / "scratch")
    convert(jobs, tmp_path / "fresh", tmp_path / "other scratch")
    assert bytes_of(tmp_path / "films") == bytes_of(tmp_path / "fresh")


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from tests.core.data import test_convert as here
original = here.engine._convert_one
def slow(task):
    time.sleep(0.05)
    return original(task)
here.engine._convert_one = slow
jobs = here.make_films(Path({folder!r}) / "raw", 40)
print("started", flush=True)
here.convert(jobs, Path({folder!r}) / "films", Path({folder!r}) / "scratch", workers=2)
"""


def test_killed_with_sigkill_it_resumes_to_the_same_bytes(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_films(tmp_path / "raw", 40)
    script = KILLED.format(path=[str(root)], folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root)
    log = tmp_path / "scratch" / "done.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and len(log.read_text().splitlines()) > 8):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(log.read_text().splitlines()) - 1
    assert 8 <= done < 40, "the kill must fall into the middle"
    assert not (tmp_path / "films").exists()

    finished: list[Any] = []
    monkeypatch.setattr(engine, "_convert_one", count_calls(engine._convert_one, finished))
    convert(make_films(tmp_path / "raw", 40), tmp_path / "films", tmp_path / "scratch")
    assert len(finished) <= 40 - done
    convert(jobs, tmp_path / "unbroken", tmp_path / "other")
    assert bytes_of(tmp_path / "films") == bytes_of(tmp_path / "unbroken")


def test_bad_films_are_set_aside_and_the_others_kept(jobs: list[FilmJob], tmp_path: Path) -> None:
    jobs[2].path.write_bytes(b"no picture")
    jobs[5].path.unlink()
    noted = Refusal(jobs[7].id, jobs[7].path.name, "label_odd", KEPT, "put right")
    refused = Refusal("id-x", "other.png", "label_missing", LEFT_OUT, "there is none")
    observe = Observer.quiet(tmp_path / "s")
    metrics = convert_films(jobs, [noted, refused], tmp_path / "films", INFO, 3, settings(), observe)
    table = pd.read_csv(tmp_path / "films" / "quarantine.csv")
    assert dict(zip(table["file"], table["reason"], strict=True)) == {
        jobs[2].id: "film_format",
        jobs[5].id: "film_missing",
        jobs[7].id: "label_odd",
        "id-x": "label_missing",
    }
    assert len(FilmSet.open(tmp_path / "films")) == 18 == metrics["n_films"]
    assert metrics["n_left_out"] == 3
    assert metrics["n_noted"] == 1
    assert metrics["n_files"] == 21
    assert "film 2.png" not in (tmp_path / "films" / "quarantine.csv").read_text()


def test_policy_stop_names_every_offender(jobs: list[FilmJob], tmp_path: Path) -> None:
    jobs[2].path.write_bytes(b"no picture")
    jobs[5].path.unlink()
    with pytest.raises(StageError) as caught:
        convert(jobs, tmp_path / "films", tmp_path / "s", on_error="stop")
    assert all(
        name in str(caught.value) for name in ("film 2.png", "film 5.png", "film_format", "film_missing")
    )
    assert not (tmp_path / "films").exists()


def test_without_any_usable_film_it_says_why(tmp_path: Path) -> None:
    jobs = make_films(tmp_path / "raw", 2)
    for job in jobs:
        job.path.write_bytes(b"")
    with pytest.raises(StageError, match=r"no film could be used of 2:\n.*film 0.png: film_format"):
        convert(jobs, tmp_path / "films", tmp_path / "s")


def test_equal_ids_are_an_error_that_names_the_films(jobs: list[FilmJob], tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"film 0\.png, film 0\.png"):
        convert([*jobs, jobs[0]], tmp_path / "films", tmp_path / "s")


def test_a_full_disk_is_an_error_before_the_work_and_keeps_the_old_store(
    jobs: list[FilmJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(jobs, tmp_path / "films", tmp_path / "s1")
    before = bytes_of(tmp_path / "films")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        convert(jobs, tmp_path / "films", tmp_path / "s2")
    assert bytes_of(tmp_path / "films") == before


def test_a_read_only_output_is_an_error_and_keeps_finished_work(
    jobs: list[FilmJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.name.endswith(".partial"):
            raise OSError(errno.EROFS, "Read-only file system")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="Read-only"):
        convert(jobs, tmp_path / "films", tmp_path / "s")
    monkeypatch.undo()
    monkeypatch.setattr(engine, "_convert_one", lambda task: pytest.fail("finished work was done again"))
    convert(jobs, tmp_path / "films", tmp_path / "s")
    assert len(FilmSet.open(tmp_path / "films")) == 20


def test_a_line_cut_by_a_kill_counts_as_not_done(tmp_path: Path) -> None:
    rows = ResumableRows(tmp_path, "mark", 3, (2, 2))
    for i in range(2):
        rows.pictures.write(i, np.full((2, 2), i, np.uint8))
    rows.log({i: {"n": i} for i in range(2)})
    log = tmp_path / "done.jsonl"
    log.write_text(log.read_text()[:-4])
    again = ResumableRows(tmp_path, "mark", 3, (2, 2))
    assert again.facts == {0: {"n": 0}}
    again.pictures.write(2, np.full((2, 2), 9, np.uint8))
    again.log({2: {}})
    again.save([2, 0], tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[:, 0, 0], [9, 0])
    assert ResumableRows(tmp_path, "another mark", 3, (2, 2)).facts == {}


@pytest.mark.parametrize("numbers", [[], [0], [0, 1, 2, 3, 4], [4, 3, 2], [1, 2, 4], [2, 2, 3, 0, 1]])
def test_saved_rows_are_the_ones_asked_for_in_that_order(tmp_path: Path, numbers: list[int]) -> None:
    rows = ResumableRows(tmp_path, "mark", 5, (3, 2))
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 2), np.uint8)
    for i in (3, 0, 4, 1, 2):
        rows.pictures.write(i, pictures[i])
    rows.save(numbers, tmp_path / "out.npy")
    expected = tmp_path / "expected.npy"
    np.save(expected, pictures[numbers])
    assert (tmp_path / "out.npy").read_bytes() == expected.read_bytes()


def test_a_row_of_another_size_is_refused_before_it_spoils_its_neighbour(tmp_path: Path) -> None:
    rows = ResumableRows(tmp_path, "mark", 2, (3, 2))
    for wrong in (np.zeros((3, 3), np.uint8), np.zeros((3, 2), np.float32)):
        with pytest.raises(ValueError, match=r"a row is \(3, 2\) uint8"):
            rows.pictures.write(0, wrong)


def test_names_lie_beside_the_raw_data(jobs: list[FilmJob], tmp_path: Path) -> None:
    file = names_file(tmp_path / "data" / "test" / "films", INFO)
    assert file == tmp_path / "data" / "raw" / "names" / "test-phantom.csv"
    write_names(file, [("id-1", "p-1", "a, b.jpg"), ("id-0", "p-0", "c.jpg")])
    assert file.read_text() == 'id,patient,name\nid-0,p-0,c.jpg\nid-1,p-1,"a, b.jpg"\n'


def _square(x: int) -> int:
    return x * x


def _die(x: int) -> int:
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def _fail_at_seven(x: int) -> int:
    if x == 7:
        raise OSError(errno.EIO, "the disk went away")
    return x


def test_map_unordered_gives_every_result_once() -> None:
    for workers, group in ((1, 1), (3, 1), (3, 4), (2, 100)):
        results = sorted(map_unordered(_square, range(30), workers, group))
        assert results == [(i, i * i) for i in range(30)]
    assert worker_count(0, 1000) == len(os.sched_getaffinity(0))
    assert worker_count(8, 3) == 3


@pytest.mark.parametrize("group", [1, 3])
def test_map_unordered_takes_no_more_items_than_it_can_hold(group: int) -> None:
    taken: list[int] = []

    class Items(list[int]):
        def __getitem__(self, key: Any) -> Any:
            taken.extend(super().__getitem__(key))
            return super().__getitem__(key)

    results = map_unordered(_square, Items(range(100)), 2, group)
    for done in range(1, 20):
        next(results)
        assert done <= len(taken) <= done + group - 1 + 2 * 2 * group
    results.close()  # type: ignore[attr-defined]


def test_what_a_worker_finished_before_an_error_is_not_lost() -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(OSError, match="the disk went away"):
        seen.extend(map_unordered(_fail_at_seven, range(12), 2, group=4))
    assert {(4, 4), (5, 5), (6, 6)} <= set(seen)
    assert (7, 7) not in seen


def test_a_dead_worker_is_reported_with_what_it_was_at() -> None:
    with pytest.raises(StageError, match=r"a worker process died.*\b5\b"):
        list(map_unordered(_die, range(30), 2))

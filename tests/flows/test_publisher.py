"""MLflow is told of a build, and never decides how it ends unless asked to be strict."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import publisher, publishing
from stages.core import tracking
from tests.miniature import until


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLUMBLINE_TRACK", "MLFLOW_STRICT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def _broken(root: Path, promote: bool) -> Iterator[str]:
    yield "half a line"
    raise OSError("no space")


def test_a_failure_is_a_warning_or_with_strict_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "publish", _broken)
    said: list[str] = []
    warned: list[str] = []
    publisher.publish(tmp_path, promote=False, say=said.append, warn=warned.append)
    assert said == ["half a line"]
    assert warned == ["MLflow was not brought up to date (OSError: no space)"]
    monkeypatch.setenv("MLFLOW_STRICT", "1")
    with pytest.raises(OSError, match="no space"):
        publisher.publish(tmp_path, promote=False, say=said.append, warn=warned.append)


def test_due_after_a_change_or_when_the_last_time_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publisher.due(tmp_path, changed=False)
    publisher.note(tmp_path)
    assert not publisher.due(tmp_path, changed=False)
    assert publisher.due(tmp_path, changed=True)
    (tmp_path / "dvc.lock").write_text("another build, by plain dvc repro", encoding="utf-8")
    assert publisher.due(tmp_path, changed=False)
    publisher.note(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://another")
    assert publisher.due(tmp_path, changed=False)


def test_the_thread_publishes_one_at_a_time_and_skips_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, proceed = threading.Semaphore(0), threading.Semaphore(0)
    calls: list[bool] = []

    def slow(root: Path, promote: bool) -> Iterator[str]:
        begun.release()
        assert proceed.acquire(timeout=30.0)
        calls.append(promote)
        yield "line"

    monkeypatch.setattr(publishing, "publish", slow)
    with publisher.Publisher(tmp_path, warn=pytest.fail) as news:
        news.notify()
        assert begun.acquire(timeout=30.0)
        news.notify()  # two stages that end while one publication is in progress: one more is enough
        news.notify()
        proceed.release()
        assert begun.acquire(timeout=30.0)
        proceed.release()
        until(lambda: len(calls) == 2, 30.0, "the second publication")
    assert calls == [False, False]


def test_a_caller_that_publishes_itself_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "publish", lambda root, promote: pytest.fail("called"))
    monkeypatch.setenv("PLUMBLINE_TRACK", "journal")
    assert not publisher.wanted()
    with publisher.Publisher(tmp_path, warn=pytest.fail) as news:
        news.notify()


def test_mlflow_is_made_ready_meanwhile_and_its_trouble_is_left_to_publishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def trouble(root: Path) -> str:
        asked.append(root)
        raise RuntimeError("no database")

    monkeypatch.setattr(tracking, "prepare", trouble)
    ready = publishing.warm_up(tmp_path)
    ready.join(60)
    assert not ready.is_alive()
    assert asked == [tmp_path]

"""Bringing MLflow up to date while a build goes on. Tracking never decides whether a build succeeded."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from flows import links
from stages.core.stage import STATE
from stages.core.tracking.database import VARIABLE

Say = Callable[[str], None]


def wanted() -> bool:
    """False where whoever started this process mirrors the journal itself (`PLUMBLINE_TRACK=journal`)."""
    return os.environ.get("PLUMBLINE_TRACK") != "journal"


def publish(root: Path, promote: bool, say: Say, warn: Say) -> None:
    """Mirror the journal to MLflow and, if asked, offer the candidates for promotion.

    A failure is a warning, or with `MLFLOW_STRICT=1` an error.
    """
    try:
        from flows import publishing

        for line in publishing.publish(root, promote=promote):
            say(line)
    except Exception as error:
        if os.environ.get("MLFLOW_STRICT") == "1":
            raise
        warn(f"MLflow was not brought up to date ({type(error).__name__}: {error})")


def link(root: Path, warn: Say) -> None:
    """Note which run belongs to which key, for the links in Prefect's UI. A failure is a warning."""
    try:
        links.refresh(root)
    except Exception as error:
        warn(f"MLflow's runs could not be linked ({type(error).__name__}: {error})")


def due(root: Path, changed: bool) -> bool:
    """Whether MLflow may lack something: a build changed outputs, or an earlier one could not tell it."""
    return changed or not _stamp(root).is_file() or _stamp(root).read_text(encoding="utf-8") != _state(root)


def note(root: Path) -> None:
    """Remember that everything up to now was published."""
    _stamp(root).parent.mkdir(parents=True, exist_ok=True)
    _stamp(root).write_text(_state(root), encoding="utf-8")


def _stamp(root: Path) -> Path:
    return root / STATE / "published"


def _state(root: Path) -> str:
    lock = root / "dvc.lock"
    digest = hashlib.sha256(lock.read_bytes() if lock.is_file() else b"none")
    for name in ("MLFLOW_TRACKING_URI", VARIABLE):  # as part of the digest: it may hold a password
        digest.update(f"\0{os.environ.get(name, '')}".encode())
    return digest.hexdigest()


class Publisher:
    """A thread that publishes after each stage that ran, one at a time: importing MLflow takes seconds.

    Use as a context manager; leaving it waits for the publication in progress, except on an error.
    Failures are warnings here in any case: the publication that ends a build repeats all that was missed.
    """

    def __init__(self, root: Path, warn: Say) -> None:
        self._root, self._warn = root, warn
        self._pending, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._closed = True
        self._pending.set()
        if error is None and self._thread.is_alive():
            self._thread.join()

    def notify(self) -> None:
        """Something new is in the journal. Returns at once."""
        if not wanted():
            return
        if self._thread.ident is None:
            self._thread.start()
        self._pending.set()

    def _work(self) -> None:
        while True:
            self._pending.wait()
            if self._closed:
                return
            self._pending.clear()
            try:
                publish(self._root, promote=False, say=lambda line: None, warn=self._warn)
            except Exception as error:
                self._warn(f"MLflow: {error}")

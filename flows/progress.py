"""How far a running stage has come, from what it prints: a progress artifact in Prefect's UI.

A stage prints `  12/40 films` from a loop, `  3/20 steps of epoch 2` while it trains, and `     2  loss 0.3` at
the end of an epoch (`stages.core.stage.Observer`). How many epochs there will be stands in its parameters.
"""

from __future__ import annotations

import contextvars
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from stages.core.params import lookup, merge, parse_params

INTERVAL = 1.0
"""Least seconds between two updates."""

_STEPS = re.compile(r"  (\d+)/(\d+) steps of epoch (\d+)")
_LOOP = re.compile(r"  (\d+)/(\d+) (\S.*)")
_EPOCH = re.compile(r"  +(\d+)  (\S+ \S+.*)")


@dataclass(frozen=True)
class Progress:
    """Percent done (0 to 100), and in words."""

    percent: float
    said: str


def progress(line: str, epochs: int = 0) -> Progress | None:
    """What a line of a stage's output says of its progress, or None.

    Args:
        line: without its end.
        epochs: how many the training has; 0 where that is not known, or where an epoch beyond it shows that
            the stage trains more than one network: then the percentage is that of the epoch.
    """
    if found := _STEPS.fullmatch(line):
        step, steps, epoch = map(int, found.groups())
        within = step / max(steps, 1)
        if 0 < epoch <= epochs:
            return Progress(100 * (epoch - 1 + within) / epochs, f"epoch {epoch} of {epochs}")
        return Progress(100 * min(within, 1.0), f"epoch {epoch}, step {step} of {steps}")
    if found := _LOOP.fullmatch(line):
        done, total, unit = int(found[1]), int(found[2]), found[3]
        return Progress(100 * min(done / max(total, 1), 1.0), f"{done} of {total} {unit}")
    if found := _EPOCH.fullmatch(line):
        epoch, metrics = int(found[1]), found[2]
        if 0 < epoch <= epochs:
            return Progress(100 * epoch / epochs, f"epoch {epoch} of {epochs}: {metrics}")
        return Progress(100.0, f"epoch {epoch}: {metrics}")
    return None


def training_epochs(file: Path, keys: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How many epochs each stage trains by its `fit.phases`; stages without are left out.

    Args:
        file: params.yaml.
        keys: stage -> the sections that it reads; those of the profile are laid over the others.
    """
    tree = parse_params(file)
    found = {}
    for stage, names in keys.items():
        sections: dict[str, Any] = {}
        for name in sorted(names, key=lambda name: name.startswith("profiles.")):
            section = lookup(tree, name)
            sections = merge(sections, section) if isinstance(section, dict) else sections
        phases = lookup(sections, "fit.phases")
        if isinstance(phases, list):
            found[stage] = sum(int(phase.get("epochs", 0)) for phase in phases)
    return found


class Display:
    """The progress artifact of one stage, kept up to date by a thread: Prefect may be slow, or away.

    Use as a context manager in the stage's task. Nothing is shown of a stage that says nothing.
    """

    def __init__(self, stage: str, key: str, epochs: int) -> None:
        self._stage, self._key, self._epochs = stage, key, epochs
        self._latest: Progress | None = None
        self._news, self._closed = threading.Event(), threading.Event()
        context = contextvars.copy_context()  # says whose artifact it is
        self._thread = threading.Thread(target=context.run, args=(self._work,), daemon=True)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=2 * INTERVAL)

    def read(self, line: str) -> None:
        """Take note of a line of output. Returns at once."""
        said = progress(line, self._epochs)
        if said is None:
            return
        self._latest = said
        if self._thread.ident is None:
            self._thread.start()
        self._news.set()

    def _work(self) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        artifact: UUID | None = None
        while not self._closed.is_set() or self._news.is_set():
            self._news.wait()
            self._news.clear()
            latest = self._latest
            if latest is None:
                continue
            said = f"{self._stage}: {latest.said}"
            try:
                if artifact is None:
                    artifact = create_progress_artifact(latest.percent, key=self._key, description=said)  # type: ignore[assignment]
                else:
                    update_progress_artifact(artifact, progress=latest.percent, description=said)
            except Exception:  # a view; the stage's lines are in the log
                return
            self._closed.wait(INTERVAL)

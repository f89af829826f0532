"""Trees of processes: ending them whole, and leaving none behind when their parent is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil

from stages.core.lifeline import end_with_parent


def follow_parent(parent: int) -> None:
    """End this process with SIGTERM as soon as the process `parent` ends, also if that is killed.

    The parent may have died before the kernel was asked to watch it: then end here and now.
    """
    end_with_parent()
    if os.getppid() != parent:
        sys.exit(f"process {parent}, which started this one, is gone")


def find(pid: int, created: float) -> psutil.Process | None:
    """The running process with this number and start time, or None: numbers are used again."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def end(processes: Iterable[psutil.Process], grace: float) -> None:
    """End processes and all below them: SIGTERM to `processes`, so that they clean up, later SIGKILL to all.

    Args:
        processes: roots of the trees to end.
        grace: seconds that each tree has for ending by itself.
    """
    roots = list(processes)
    trees = {member for root in roots for member in tree(root.pid)}
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            root.terminate()
    _, alive = psutil.wait_procs(roots, timeout=grace)
    trees.update(member for root in alive for member in tree(root.pid))
    _, alive = psutil.wait_procs(trees, timeout=0.5)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5.0)


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def ignored(*signals: signal.Signals) -> Iterator[None]:
    """Ignore signals for a while. In the main thread only: others cannot say what happens to a signal."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

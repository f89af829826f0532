"""A process that ends with the process that started it, so that a killed DVC leaves no orphan writing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

DVC_PROCESS = "PLUMBLINE_DVC"
"""Environment variable: number of the DVC process that started a stage, where that can be known."""


def end_with_parent() -> None:
    """Ask Linux to end this process with SIGTERM when its parent dies."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def end_with_dvc() -> None:
    """`end_with_parent` for a stage's command, which may have lost its DVC before it could ask."""
    end_with_parent()
    dvc = os.environ.get(DVC_PROCESS)
    if dvc and not _lives(int(dvc)):
        sys.exit(f"DVC (process {dvc}), which started this stage, is gone")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

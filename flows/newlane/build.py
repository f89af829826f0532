"""Building a described lane: its stages by DVC, then its candidate to the registry."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flows import dag
from flows.publishing import offer
from flows.repro import environment
from stages.core.errors import StageError


def build(root: Path, name: str, say: Callable[[str], None]) -> int:
    """Build the lane up to its report and offer its model for promotion; returns DVC's exit status."""
    from stages.core import tracking

    for line in dag.heal(root):
        say(line)
    started = time.monotonic()
    targets = [f"{name}-report", f"{name}-candidate"]
    command = [sys.executable, "-m", "flows.quick_dvc", "--wait-for-lock", "repro", *targets]
    status = subprocess.run(command, cwd=root, env=environment(), check=False).returncode
    if status:
        return status
    say(f"reports/{name}.html is there after {(time.monotonic() - started) / 60:.1f} minutes")
    say(str(tracking.sync(root)))
    try:
        for line in offer(root, name, reason="after a build"):
            say(line)
    except StageError as error:
        say(f"WARNING: {name} was not offered for promotion: {error}")
    return 0

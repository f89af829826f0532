"""One stage on the GPU at a time: across builds, flows and checkouts of one user on this machine.

Within one build `dag.ready` sees to it. The lock is the kernel's, so that none outlives who held it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SETTING = "PLUMBLINE_GPU_LOCK"
"""Environment variable: file of the lock, for example one for each of several GPUs; "" for no lock."""
DEVICES = (Path("/dev/nvidia0"), Path("/dev/kfd"))
TICK = 0.2


def lock_file() -> Path | None:
    """The file to lock; None where the machine has no GPU to share."""
    chosen = os.environ.get(SETTING)
    if chosen is not None:
        return Path(chosen) if chosen else None
    if not any(device.exists() for device in DEVICES):
        return None
    return Path(tempfile.gettempdir()) / f"plumbline-gpu-{os.getuid()}.lock"


@contextmanager
def alone(stopping: Callable[[], bool], say: Callable[[str], None]) -> Iterator[tuple[int, ...]]:
    """Wait for the GPU and hold it.

    Args:
        stopping: whether to give up waiting; the caller then sees by itself that nothing may begin.
        say: told once if there is something to wait for.
    Yields:
        File descriptors for the children to inherit: the GPU is free when the last of them has ended.
    """
    path = lock_file()
    if path is None:
        yield ()
        return
    with path.open("a") as file:
        waited = False
        while not stopping():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    say(f"another build has the GPU: waiting for it ({path})")
                waited = True
                time.sleep(TICK)
        yield (file.fileno(),)

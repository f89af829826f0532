"""`dvc repro` of one stage, in a process that can be stopped at any moment and leaves nothing behind.

DVC by itself cannot be: ended with SIGTERM it leaves its stage's command running, and ended at a wrong
moment it leaves a lock table or a dvc.lock cut short. So the child process (`python -m flows.repro STAGE
PARENT`) takes SIGTERM, SIGINT and the death of its parent as a wish to stop: it ends the stage's command
and lets DVC go on, which sees the command fail, releases its locks and exits. What DVC does between
commands (hashing, writing dvc.lock) is left to finish, within `GRACE` seconds.

Keep imports light here: the child is started once a stage.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

import psutil

from flows import quick_dvc, warm
from flows.processes import follow_parent, ignored, tree
from stages.core.errors import StageError
from stages.core.lifeline import DVC_PROCESS
from stages.core.stage import STATE

GRACE = 10.0
"""Seconds that DVC has for ending once its stage's command is gone, and a command after SIGTERM."""

TICK = 0.1

BUILD_LOCK = STATE / "build.lock"
"""Held by a build, and by its children for the moment that they need to end after it was killed."""

SAY_AFTER = 1.0
"""Seconds after which a build that waits for another one says so."""


def environment() -> dict[str, str]:
    """Environment of a DVC whose stages leave MLflow to the caller.

    DVC starts commands as `python`: that must be this interpreter, also where no one activated it.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path, "PLUMBLINE_TRACK": "journal"}


class StoppedError(Exception):
    """The build is being stopped: no further stage begins."""


class Runner:
    """The running `dvc repro` processes of this process, at most one build at a time."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._build_lock: int | None = None
        self._warm: warm.WarmServer | None = None
        self.stopping = False

    @contextmanager
    def exclusive(
        self, root: Path, patience: float | None = None, say: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Hold the checkout for one build. The lock passes on to the children: those of a killed build
        hold it for the moment that they need to end, and the next build waits for that.

        Args:
            root: the checkout.
            patience: seconds to wait for another build; default what the children of a killed one need.
            say: told once if there is another build to wait for.
        Raises:
            StageError: another build runs.
        """
        path = root / BUILD_LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            _wait_for(file.fileno(), root, 2 * GRACE if patience is None else patience, say)
            self._build_lock, self.stopping = file.fileno(), False
            self._warm = warm.WarmServer(root)
            try:
                yield
            finally:
                self._warm.close()
                self._build_lock = self._warm = None

    @contextmanager
    def repro(
        self, root: Path, stage: str, inherited: tuple[int, ...] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        """A child process that brings `stage` up to date; its stdout carries all output, line by line.

        Args:
            root: the checkout.
            stage: its name in dvc.yaml.
            inherited: file descriptors that the child keeps open for as long as it lives.
        """
        command = [sys.executable, "-u", "-m", "flows.repro", stage, str(os.getpid())]
        server = self._warm.passed_on() if self._warm else nullcontext(warm.NO_SERVER)
        with self._guard, server as (variables, connection):
            if self.stopping:
                raise StoppedError
            lock = () if self._build_lock is None else (self._build_lock,)
            process = subprocess.Popen(
                command,
                cwd=root,
                env=environment() | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                pass_fds=(*inherited, *lock, *connection),
            )
            self._running.add(process)
        try:
            yield process
        except BaseException:
            process.terminate()
            raise
        finally:
            with process:
                self._running.discard(process)

    def stop(self) -> None:
        """End all stages that run and let none begin. Signals are ignored until that is done."""
        with self._guard:
            self.stopping = True
            running = list(self._running)
        with ignored(signal.SIGTERM, signal.SIGINT):
            for process in running:
                process.terminate()
            deadline = time.monotonic() + 2 * GRACE
            for process in running:
                try:
                    # Not psutil's wait: that would take the exit status away from the waiting task.
                    process.wait(max(deadline - time.monotonic(), 0.0))
                except subprocess.TimeoutExpired:
                    for member in tree(process.pid):
                        with suppress(psutil.NoSuchProcess):
                            member.kill()


RUNNER = Runner()


def _wait_for(lock: int, root: Path, patience: float, say: Callable[[str], None] | None) -> None:
    started = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - started
            if waited > patience:
                raise StageError(f"another build runs in {root}: wait for it, or stop it") from None
            if say is not None and waited > SAY_AFTER:
                say(f"another build runs in {root}: this one waits until it is done")
                say = None
            time.sleep(TICK)


class _Stopper:
    """In the child: ends the commands below it from the first signal on, those that DVC starts later too."""

    def __init__(self) -> None:
        self._since: float | None = None

    def install(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._since is None:
            self._since = time.monotonic()
            # A command that is just being started may lose a signal between fork and exec: ask repeatedly.
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        late = time.monotonic() - self._since > GRACE
        commands = [
            *psutil.Process().children(recursive=True),
            *(p for pid in warm.running for p in tree(pid)),
        ]
        for command in commands:
            with suppress(psutil.NoSuchProcess):
                command.kill() if late else command.terminate()
        if late and not commands:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            raise KeyboardInterrupt


def main(stage: str, parent: int) -> int:
    """In the child: run the stage; returns DVC's exit status."""
    _Stopper().install()
    follow_parent(parent)
    os.environ[DVC_PROCESS] = str(os.getpid())
    try:
        return quick_dvc.main(["--wait-for-lock", "repro", "--single-item", stage])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))

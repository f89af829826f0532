"""Stages that start from a process which has imported torch and the other libraries already.

A stage spends 1 to 4 seconds on imports, and a build has many stages. So the first one that runs also starts a
server (warm_server.py), which imports the libraries once and from then on forks a process for each
`python -m MODULE...` that DVC is about to run. Such a process gets the arguments, environment, folder and
output that DVC's shell would have given it, and reads the project's code from disk, as it is then. Outputs
are the same, byte for byte.

    PLUMBLINE_WARM=0 dvc repro            # every stage in a Python of its own
    PLUMBLINE_WARM=numpy,torch dvc repro  # other libraries than warm_server.LIBRARIES

On Linux only: elsewhere forking a process that has loaded these libraries is not safe.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flows.processes import ignored

_CONNECTION = "PLUMBLINE_WARM_FD"
"""Environment variable: the file descriptor by which a DVC reaches the server of the flow that started it."""
_STAGE = re.compile(r"python -m (\w+(?:\.\w+)*)((?: [^\n]*)?)")
_SHELL = re.compile(r"[$`;&|<>(){}*?!~#\\\n\[\]]")
"""What a shell would not just pass on."""

PassedOn = tuple[dict[str, str], tuple[int, ...]]
"""Environment and file descriptors for a child."""
NO_SERVER: PassedOn = ({}, ())

running: set[int] = set()
"""Numbers of the processes that this DVC had forked and waits for: they are no children of its own."""


def wanted() -> bool:
    return sys.platform == "linux" and os.environ.get("PLUMBLINE_WARM") != "0"


def install(one_stage: bool) -> None:
    """Have the DVC of this process run its stages so, by the server of the flow or one of its own.

    Args:
        one_stage: not worth a server of its own.
    """
    passed = os.environ.pop(_CONNECTION, None)
    if not wanted() or (one_stage and passed is None):
        return
    from dvc.stage import run

    run._run = _Starter(run._run, socket.socket(fileno=int(passed)) if passed else None)


def as_call(command: str) -> tuple[str, list[str]] | None:
    """Module and arguments of `python -m MODULE ARGUMENTS`; None for a command that needs a shell, or another."""
    match = _STAGE.fullmatch(command.strip())
    if match is None or _SHELL.search(match[2]):
        return None
    with suppress(ValueError):
        return match[1], shlex.split(match[2])
    return None


class WarmServer:
    """The server of a build, as the process sees it that started it. It ends with that process at the latest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._its = socket.socketpair()
        self._ready = False

    def connect(self) -> socket.socket | None:
        """A connection that is good for one stage; None as long as the server is not ready, or is gone.

        The first call starts it.
        """
        with self._guard:
            if self._process is None:
                self._begin()
                return None
            try:
                if not self._ready:
                    self._control.setblocking(False)
                    self._ready = self._control.recv(1) == b"r"
                    self._control.setblocking(True)
                if self._ready:
                    own, its = socket.socketpair()
                    with its:
                        socket.send_fds(self._control, [b"c"], [its.fileno()])
                    return own
            except OSError:  # not ready yet, or gone: stages start without
                pass
            return None

    @contextmanager
    def passed_on(self) -> Iterator[PassedOn]:
        """Environment and file descriptors with which a child that runs DVC reaches the server."""
        connection = self.connect() if wanted() else None
        if connection is None:
            yield NO_SERVER
            return
        with connection:
            yield {_CONNECTION: str(connection.fileno())}, (connection.fileno(),)

    def close(self) -> None:
        """End the server, and with it what it still runs."""
        with self._guard:
            self._control.close()
            self._its.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _begin(self) -> None:
        with self._its as its:
            command = [sys.executable, "-m", "flows.warm_server", str(its.fileno())]
            self._process = subprocess.Popen(
                command, cwd=self._root, stdin=subprocess.DEVNULL, pass_fds=(its.fileno(),)
            )


class _Starter:
    """Takes the place of DVC's function that runs one command."""

    def __init__(self, cold: Callable[..., None], connection: socket.socket | None) -> None:
        self._cold = cold
        self._connection = connection
        self._server: WarmServer | None = None

    def __call__(self, executable: str | None, cmd: str, **options: Any) -> None:
        call = as_call(cmd)
        connection = self._connect(Path(options["cwd"])) if call else None
        if call is None or connection is None:
            self._cold(executable, cmd, **options)
            return
        # As DVC does: a Ctrl-C reaches the stage too, and DVC goes on when that has ended.
        main = threading.current_thread() is threading.main_thread()
        with connection, ignored(signal.SIGINT) if main else nullcontext():
            status = _run(connection, call, options["env"], options["cwd"])
        if status != 0:
            from dvc.stage.exceptions import StageCmdFailedError

            raise StageCmdFailedError(cmd, status)

    def _connect(self, root: Path) -> socket.socket | None:
        if self._connection is not None:  # of the flow's server; this DVC runs one stage
            return self._connection
        if self._server is None:
            self._server = WarmServer(root)
            atexit.register(self._server.close)
        return self._server.connect()


def _run(
    connection: socket.socket, call: tuple[str, list[str]], environment: Mapping[str, str], folder: str
) -> int:
    """Have the server fork a process for a stage; its exit status, -N where signal N ended it."""
    module, arguments = call
    asked = {"module": module, "arguments": arguments, "environment": {**environment}, "folder": str(folder)}
    pid = 0
    try:
        socket.send_fds(connection, [b"f"], [1, 2])
        with Connection(os.dup(connection.fileno())) as messages:
            messages.send_bytes(json.dumps(asked).encode())
            pid = int(messages.recv_bytes())
            running.add(pid)
            return int(messages.recv_bytes())
    except (EOFError, OSError):
        return -signal.SIGTERM  # the server is gone, and its stages with it
    finally:
        running.discard(pid)

"""The process that warm.py starts: it imports libraries, then forks itself for every stage that is to run.

    python -m flows.warm_server FD

FD is a Unix socket to the owner. A byte over it says that the imports are done; then it brings connections, one
a stage, by which a DVC sends output descriptors and a request and gets the process's number and exit status.
Where a connection closes early its DVC is gone, and the stage is ended; where FD closes, all of them.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from setproctitle import setproctitle

from stages.core.lifeline import end_with_dvc, end_with_parent

LIBRARIES = (
    *("numpy", "pandas", "pyarrow.parquet", "pydantic", "scipy.linalg", "scipy.stats", "PIL.Image", "cv2"),
    *("dvc.repo", "dvc.dvcfile", "dvc.stage.cache", "threadpoolctl"),
    *("torch", "torchvision", "timm", "torch.utils.data", "torch.distributed", "albumentations"),
    *("sklearn.metrics", "skimage.feature", "matplotlib.figure", "matplotlib.backends.backend_agg"),
)
"""What stages import; none of the project's own code, which may change while a build runs."""
TRACKING = ("mlflow", "mlflow.store.db")
"""And what they need for MLflow, where they and not the build talk to it."""

_TICK = 0.02
"""Seconds after which the end of a stage is noticed."""


@dataclass(frozen=True)
class _Stage:
    """A process that was forked, and the connection that waits for its end."""

    pid: int
    messages: Connection


@dataclass(frozen=True)
class _Request:
    """What a DVC asks for, the descriptors of its output, and the connection that is told how it went."""

    asked: dict[str, Any]
    outputs: Sequence[int]
    messages: Connection


def main(fd: int) -> None:
    """Serve until the owner is gone. A forked process leaves by `_become` instead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the stages; the owner's end ends this
    setproctitle("python -m flows.warm_server")
    control = socket.socket(fileno=fd)
    for name in _libraries():
        with suppress(ImportError):
            importlib.import_module(name)
    with suppress(OSError):  # the owner may be gone
        control.send(b"r")
    request = _serve(control)
    if request is not None:
        _become(request)


def _libraries() -> tuple[str, ...]:
    if named := os.environ.get("PLUMBLINE_WARM"):
        return tuple(named.split(","))
    return LIBRARIES if os.environ.get("PLUMBLINE_TRACK") == "journal" else LIBRARIES + TRACKING


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; returns it in the forked process, and None when the owner is gone."""
    waiting = selectors.DefaultSelector()
    waiting.register(control, selectors.EVENT_READ)
    stages: list[_Stage] = []
    while True:
        for key, _ in waiting.select(_TICK if stages else None):
            if key.fileobj is control:
                _, fds, *_ = socket.recv_fds(control, 1, 1)
                if not fds:
                    for stage in stages:
                        _end(stage)
                    return None
                waiting.register(socket.socket(fileno=fds[0]), selectors.EVENT_READ)
                continue
            waiting.unregister(key.fileobj)
            if key.data is not None:  # nothing is sent while a stage runs: this is the end of its DVC
                _end(key.data)
            elif isinstance(key.fileobj, socket.socket) and (request := _read(key.fileobj)):
                forked = _fork(request)
                if forked is None:
                    waiting.close()
                    control.close()
                    for other in stages:
                        other.messages.close()
                    return request.asked
                stages.append(forked)
                waiting.register(forked.messages, selectors.EVENT_READ, data=forked)
        for stage in [s for s in stages if _tell_end(s)]:
            stages.remove(stage)
            with suppress(KeyError):
                waiting.unregister(stage.messages)
            stage.messages.close()


def _read(connection: socket.socket) -> _Request | None:
    """What a DVC asks for; None where it went without asking, as for a stage that did not have to run."""
    outputs: list[int] = []
    try:
        with connection:
            _, outputs, *_ = socket.recv_fds(connection, 1, 2)
            messages = Connection(os.dup(connection.fileno()))
        return _Request(json.loads(messages.recv_bytes()), outputs, messages)
    except (EOFError, OSError):
        for output in outputs:
            os.close(output)
        return None


def _fork(request: _Request) -> _Stage | None:
    """A process for a stage, which writes where its DVC does; None in that process."""
    server = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries, which bear it
        pid = os.fork()
    if pid == 0:
        request.messages.close()
        for number, output in enumerate(request.outputs, 1):
            os.dup2(output, number)
            os.close(output)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        end_with_parent()
        if os.getppid() != server:
            os._exit(1)
        return None
    for output in request.outputs:
        os.close(output)
    with suppress(OSError):  # its DVC may be gone, which shows at the connection
        request.messages.send_bytes(str(pid).encode())
    return _Stage(pid, request.messages)


def _tell_end(stage: _Stage) -> bool:
    """Whether a stage has ended; tells its DVC how."""
    pid, status = os.waitpid(stage.pid, os.WNOHANG)
    if pid == 0:
        return False
    with suppress(OSError):
        stage.messages.send_bytes(str(os.waitstatus_to_exitcode(status)).encode())
    return True


def _end(stage: _Stage) -> None:
    with suppress(ProcessLookupError):
        os.kill(stage.pid, signal.SIGTERM)


def _become(request: dict[str, Any]) -> None:
    """What `python -m MODULE ARGUMENTS` does, in the environment and folder of the request."""
    module, arguments = request["module"], request["arguments"]
    setproctitle(" ".join(["python", "-m", module, *arguments]))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [module, *arguments]
    end_with_dvc()
    _leave(_status(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True)))


def _status(run: Callable[[], object]) -> int:
    """What a Python that runs this would end with; says what it would say."""
    try:
        run()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(status: int) -> NoReturn:
    """End as Python does, but for taking the libraries apart, which lasts as long as a small stage."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""A review server to test the page with: in a thread, or in a process of its own that can be killed.

`python -m tests.flows.review.serving FOLDER PORT` is that process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import uvicorn

from flows.processes import follow_parent
from flows.review.server import create_app
from tests.flows.review.browser import until
from tests.flows.review.desks import review_config


class Served:
    """The process. Killed and started again, it comes back at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.flows.review.serving", str(self.folder), str(self.port)]
        log: IO[str] = (self.folder / "server.log").open("a")
        with log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        noted = self.folder / "port"
        until(lambda: noted.is_file() and noted.read_text(), "the server starts")
        self.port = int(noted.read_text())
        until(self._answers, "the server answers")

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
            return True
        return False

    def kill(self) -> None:
        """End it like a power cut ends it: without a chance to tidy up."""
        (self.folder / "port").unlink(missing_ok=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Here:
    """A server over the review of `desks.review_config` in a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(create_app(review_config(folder)), log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A server over the review of `desks.review_config`; it ends with the block."""
    server = Served(folder)
    try:
        yield server
    finally:
        server.kill()


def main(folder: Path, port: int) -> None:
    """In the child: serve until killed."""
    follow_parent(os.getppid())
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = listener.getsockname()[1]
        config = replace(review_config(folder), port=port)
        partial = folder / "port.partial"
        partial.write_text(str(port))
        partial.replace(folder / "port")
        uvicorn.Server(uvicorn.Config(create_app(config), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

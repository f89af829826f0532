"""Which Prefect server a build talks to: one that runs, or a temporary one that ends with the build.

Prefect can start a temporary server itself; ours starts while Prefect is still being imported, cannot
miss a port (the listening socket is handed over) and does not outlive a killed build.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from flows import services
from flows.processes import follow_parent
from stages.core.errors import StageError
from stages.core.stage import STATE

STARTUP_SECONDS = 120
"""Patience with a starting server: the first start in a checkout also creates its database."""


def prefect_api(root: Path, temporary: bool = True) -> str:
    """Set `PREFECT_API_URL` for this process and its children, and `PREFECT_HOME` to the checkout's.

    The server is that of the environment, else the one that `make up` started, else a temporary one. It
    may still be starting: see `wait_until_up`. Call this before Prefect is imported.

    Returns:
        The URL.
    Raises:
        StageError: no server runs and `temporary` is False.
    """
    os.environ.setdefault("PREFECT_HOME", str(root / ".prefect"))
    url = os.environ.get("PREFECT_API_URL") or services.prefect_url(root)
    if not url and not temporary:
        raise StageError("no Prefect server runs here: start one with `make up`")
    if not url:
        url = temporary_server(root / STATE / "services" / "temporary.log")
        os.environ["PREFECT_UI_URL"] = ""  # it has none: print no links
    os.environ["PREFECT_API_URL"] = url
    return url


def temporary_server(log: Path) -> str:
    """Start a server that lives as long as this process; returns its URL at once. See `wait_until_up`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        command = [sys.executable, "-m", "flows.server", str(listener.fileno()), str(os.getpid())]
        process = subprocess.Popen(
            command,
            env=os.environ | services.prefect_environment(),
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        port = listener.getsockname()[1]
    # Registered before Prefect is imported, this runs after Prefect has sent its last events.
    atexit.register(_stop, process)
    return f"http://127.0.0.1:{port}/api"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_up(url: str, seconds: float = STARTUP_SECONDS) -> None:
    """Wait for a server to answer.

    Raises:
        StageError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=max(deadline - time.monotonic(), 1.0)):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise StageError(
                    f"no Prefect server answers at {url} ({error}): start it (`make up`), or unset "
                    "PREFECT_API_URL to build without one"
                ) from None
            time.sleep(0.2)


def answers(url: str, seconds: float) -> bool:
    """Whether a server answers within `seconds`, for one that may be starting anew."""
    try:
        wait_until_up(url, seconds)
    except StageError:
        return False
    return True


def main(listener: int, parent: int) -> None:
    """In the child: serve Prefect's API, without its UI, on a socket that listens already."""
    follow_parent(parent)
    os.environ["PREFECT_API_BLOCKS_REGISTER_ON_START"] = "false"  # saves seconds; a build uses no blocks
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(ephemeral=True, final=True), fd=listener, log_level="error", lifespan="on")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

"""The Prefect and MLflow UIs of a checkout, on loopback: `python -m flows.services up | down | status`.

What runs is noted in `.plumbline/services/NAME.json`; a process is known by its number and start time, so
that a number used again is never taken for a service.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.processes import end, find
from stages.core.errors import StageError
from stages.core.params import project_root
from stages.core.stage import STATE
from stages.core.tracking.database import prefect_database

HOST = "127.0.0.1"
FOLDER = STATE / "services"
STARTUP_SECONDS = 180.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Kind:
    """One of the two services."""

    name: str
    title: str
    port_variable: str
    default_port: int
    health: str

    @property
    def port(self) -> int:
        return int(os.environ.get(self.port_variable) or self.default_port)


PREFECT = Kind("prefect", "Prefect", "PLUMBLINE_PREFECT_PORT", 4200, "/api/health")
MLFLOW = Kind("mlflow", "MLflow", "PLUMBLINE_MLFLOW_PORT", 5000, "/health")
KINDS = (PREFECT, MLFLOW)


@dataclass(frozen=True)
class Running:
    """A service that `up` started, as noted in its file."""

    pid: int
    created: float
    """start time of the process, seconds since the epoch"""
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def running(root: Path, kind: Kind) -> Running | None:
    """The service if its process lives."""
    file = root / FOLDER / f"{kind.name}.json"
    if not file.is_file():
        return None
    noted = Running(**json.loads(file.read_text(encoding="utf-8")))
    return noted if find(noted.pid, noted.created) else None


def prefect_url(root: Path) -> str | None:
    """URL of the API of the server that `up` started, or None where there is none."""
    server = running(root, PREFECT)
    return f"{server.url}/api" if server else None


def up(root: Path, ports: Mapping[str, int] | None = None) -> Iterator[str]:
    """Start both services and wait until they answer; leaves alone what runs already.

    Args:
        root: the checkout.
        ports: service name -> port; default are the environment's, then 4200 and 5000.
    Yields:
        A line for a person for each service.
    Raises:
        StageError: a port is taken (nothing is started then), or a service does not come up.
    """
    with _alone(root):
        there = {kind: running(root, kind) for kind in KINDS}
        wanted = {kind: (ports or {}).get(kind.name, kind.port) for kind in KINDS if not there[kind]}
        if _foreign_mlflow():
            wanted.pop(MLFLOW, None)
        _assert_free(wanted)
        for kind, noted in there.items():
            if noted:
                yield f"{kind.title}: runs already at {noted.url}"
        if _foreign_mlflow():
            yield f"{MLFLOW.title}: yours at {os.environ['MLFLOW_TRACKING_URI']}"
        started = {kind: _start(root, kind, port) for kind, port in wanted.items()}
        for kind, noted in started.items():
            _wait_until_healthy(root, kind, noted)
            yield f"{kind.title}: {noted.url}"


def down(root: Path) -> Iterator[str]:
    """End what `up` started, with all processes below it; says what it did."""
    with _alone(root):
        for kind in KINDS:
            noted = running(root, kind)
            process = find(noted.pid, noted.created) if noted else None
            if process:
                end([process], grace=STOP_SECONDS)
            (root / FOLDER / f"{kind.name}.json").unlink(missing_ok=True)
            yield f"{kind.title}: {'stopped' if process else 'was not running'}"


def status(root: Path) -> Iterator[str]:
    """A line for each service."""
    for kind in KINDS:
        noted = running(root, kind)
        yield f"{kind.title}: {noted.url if noted else 'not running'}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One `up` or `down` at a time."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    with (root / FOLDER / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _foreign_mlflow() -> bool:
    """Whether MLflow is a server that somebody else runs."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")


def _assert_free(wanted: Mapping[Kind, int]) -> None:
    problems = []
    for kind, port in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                choice = f"{kind.port_variable}={port + 1}"
                problems.append(
                    f"port {port} for {kind.title} is taken{_holder(port)}; choose another: {choice}"
                )
    if problems:
        raise StageError("nothing was started:\n  " + "\n  ".join(problems))


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    for process in psutil.process_iter():
        try:
            ports = {c.laddr.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
            if port in ports:
                return f" by process {process.pid} ({' '.join(process.cmdline())[:60]})"
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return ""


def _start(root: Path, kind: Kind, port: int) -> Running:
    command, environment = (_prefect if kind is PREFECT else _mlflow)(root, port)
    with (root / FOLDER / f"{kind.name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal of `make up` is not meant for it
        )
    noted = Running(process.pid, psutil.Process(process.pid).create_time(), port)
    (root / FOLDER / f"{kind.name}.json").write_text(json.dumps(asdict(noted)), encoding="utf-8")
    return noted


def _prefect(root: Path, port: int) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    api = f"http://{HOST}:{port}/api"
    home = os.environ.get("PREFECT_HOME") or str(root / ".prefect")
    urls = {"PREFECT_HOME": home, "PREFECT_API_URL": api, "PREFECT_UI_API_URL": api}
    return command, urls | prefect_environment()


def prefect_environment() -> dict[str, str]:
    """What a Prefect server is told of its database: nothing, or that of `PLUMBLINE_DATABASE`."""
    database = prefect_database()
    return {"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}


def _mlflow(root: Path, port: int) -> tuple[list[str], dict[str, str]]:
    from stages.core.tracking import prepare  # imports MLflow: while Prefect starts

    store = prepare(root)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--artifacts-destination", str(root / "mlartifacts")]
    # By default there are fifteen processes and 2.4 GB, for job queues that nothing here uses.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In the environment, where other users do not see the password of a database.
    return [*command, "--workers", "1"], environment | {"MLFLOW_BACKEND_STORE_URI": store}


def _wait_until_healthy(root: Path, kind: Kind, noted: Running) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    log = root / FOLDER / f"{kind.name}.log"
    while True:
        try:
            with urllib.request.urlopen(noted.url + kind.health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            alive = find(noted.pid, noted.created)
            if alive and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            what = f"did not answer within {STARTUP_SECONDS:.0f} s" if alive else "ended while starting"
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise StageError(f"{kind.title} {what}; its log {log} ends with:\n{tail}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.services", description=up.__doc__)
    parser.add_argument("action", choices=["up", "down", "status"])
    for kind in KINDS:
        parser.add_argument(f"--{kind.name}-port", type=int, default=kind.port, metavar="PORT")
    arguments = parser.parse_args(argv)
    root = project_root()
    ports = {PREFECT.name: arguments.prefect_port, MLFLOW.name: arguments.mlflow_port}
    actions = {"up": lambda: up(root, ports), "down": lambda: down(root), "status": lambda: status(root)}
    try:
        for line in actions[arguments.action]():
            print(line, flush=True)
    except StageError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

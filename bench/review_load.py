"""Many reviewers at once, and a power cut: `python -m bench.review_load [--clients 20] [--seconds 60]`.

Clients post verdicts on loopback as fast as the server answers. In the middle the server is killed (SIGKILL) and
started again; clients send again what was not acknowledged. At the end every acknowledged event must be in the
database, each once. Prints counts and latencies of the posts that were answered at the first try.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flows.processes import follow_parent
from flows.review.config import Item, ReviewConfig
from flows.review.server import create_app
from flows.review.store import EventStore
from stages.core.data.schema import LandmarkSchema

SCHEMA = LandmarkSchema(lane="bench", names=tuple(f"P{i}" for i in range(1, 20)), pairs=())
RETRY = 0.1
"""seconds until a client tries again"""


class NoPictures:
    """Films without pictures: the bench posts verdicts only."""

    def size(self, film: str) -> tuple[int, int]:
        return 1000, 1000

    def etag(self, film: str) -> str:
        return film

    def png(self, film: str) -> bytes:
        return b""

    def missing(self, films: list[str]) -> list[str]:
        return []


def config(folder: Path, port: int, clients: int) -> ReviewConfig:
    """A review with one film a client."""
    points = np.full((SCHEMA.n_points, 2), 500.0)
    items = [
        Item(i, f"film-{i}", "uncertain", False, 0.0, "bench", points, points[:, 0], (0.1, 0.1), "untracked")
        for i in range(1, clients + 1)
    ]
    return ReviewConfig(SCHEMA, items, NoPictures(), folder / "events.sqlite", 1, "phantom", port=port)


@dataclass
class Client:
    """One reviewer, who goes round the points of a film until the time is over."""

    rank: int
    port: int
    until: float
    acknowledged: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    again: int = 0
    refused: Counter[int] = field(default_factory=Counter)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        turn = 0
        while time.monotonic() < self.until:
            event = uuid.uuid4().hex
            point = SCHEMA.names[turn % SCHEMA.n_points]
            said = {"event_id": event, "landmark": point, "verdict": "unsure", "dwell_ms": 1}
            body = json.dumps({"annotator": f"reader {self.rank}", "events": [said]})
            turn += 1
            tries = 0
            while True:
                tries += 1
                started = time.perf_counter()
                try:
                    headers = {"content-type": "application/json"}
                    connection.request("POST", f"/api/items/{self.rank}/events", body, headers)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException):
                    connection.close()
                    if time.monotonic() > self.until + 60:
                        return
                    time.sleep(RETRY)
                    continue
                break
            self.again += tries > 1
            if answer.status != 200:
                self.refused[answer.status] += 1
                continue
            self.acknowledged.append(event)
            if tries == 1:
                self.seconds.append(time.perf_counter() - started)


def serve(folder: Path, port: int, clients: int) -> None:
    """In the child: serve until killed."""
    import uvicorn

    follow_parent(os.getppid())
    settings = uvicorn.Config(
        create_app(config(folder, port, clients)), port=port, log_level="warning", access_log=False
    )
    uvicorn.Server(settings).run()


def start(folder: Path, port: int, clients: int) -> subprocess.Popen[bytes]:
    """The server's process, once it answers."""
    command = [sys.executable, "-m", "bench.review_load", "--serve", str(folder), str(port)]
    process = subprocess.Popen([*command, "--clients", str(clients)])
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        time.sleep(0.05)
    raise RuntimeError("the server ended while starting")


def measure(clients: int, seconds: float) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="plumbline-") as scratch,
        socket.create_server(("127.0.0.1", 0)) as s,
    ):
        folder, port = Path(scratch), int(s.getsockname()[1])
        s.close()
        process = start(folder, port, clients)
        end = time.monotonic() + seconds
        readers = [Client(rank, port, end) for rank in range(1, clients + 1)]
        threads = [threading.Thread(target=reader.run) for reader in readers]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = time.monotonic()
        process = start(folder, port, clients)
        print(f"killed and answering again after {time.monotonic() - killed:.1f} s")
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGKILL)
        process.wait()
        report(folder, readers, seconds)


def report(folder: Path, readers: list[Client], seconds: float) -> None:
    acknowledged = [event for reader in readers for event in reader.acknowledged]
    taken = np.sort([s for reader in readers for s in reader.seconds]) * 1000
    with closing(EventStore(folder / "events.sqlite", time.time)) as store:
        stored = [event.event_id for event in store.of_round(1)]
    missing = set(acknowledged) - set(stored)
    refused: Counter[int] = sum((reader.refused for reader in readers), Counter())
    print(
        f"{len(readers)} clients, {seconds:.0f} s: {len(acknowledged)} events acknowledged, {len(stored)} stored"
    )
    print(f"acknowledged but missing: {len(missing)}; stored twice: {len(stored) - len(set(stored))}")
    print(f"sent again after the kill: {sum(reader.again for reader in readers)}; refused: {dict(refused)}")
    p50, p95, most = np.percentile(taken, [50, 95, 100])
    print(
        f"latency: p50 {p50:.0f} ms, p95 {p95:.0f} ms, most {most:.0f} ms; {len(stored) / seconds:.0f} events a second"
    )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if missing or len(stored) != len(set(stored)):
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve[0]), int(arguments.serve[1]), arguments.clients)
    else:
        measure(arguments.clients, arguments.seconds)


if __name__ == "__main__":
    main()

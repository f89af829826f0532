"""The log of predictions, and the other model's word on the same film, given in the background.

A line of `.plumbline/serving/predictions.jsonl` is one answer of one model: which film by the digest of its file,
which version, and where the points are, in px of the film. Films themselves are never written down.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from flows.serving import FOLDER
from flows.serving.golden import points_of
from flows.serving.predictor import Served
from stages.core.data.decode import Film

LOG = FOLDER / "predictions.jsonl"
_WINDOW = 1000
_log = logging.getLogger("plumbline.serving")


class PredictionLog:
    """Appends lines, whole or not at all; shared by threads. When the file is full it is put aside as `.1`."""

    def __init__(self, root: Path, largest_bytes: float) -> None:
        self.path = root / LOG
        self.failures = 0
        self._largest = largest_bytes
        self._lock = threading.Lock()

    def write(self, role: Literal["served", "shadow"], film_sha256: str, **entry: Any) -> None:
        """Add one line. A full disk costs the line, not the answer."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"when": now, "film_sha256": film_sha256, "role": role, **entry}).encode() + b"\n"
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                if self.path.is_file() and self.path.stat().st_size + len(line) > self._largest:
                    self.path.replace(self.path.with_name(self.path.name + ".1"))
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    os.write(descriptor, line)
                finally:
                    os.close(descriptor)
        except OSError as error:
            self.failures += 1
            _log.error("%s cannot be written: %s", LOG, error)


def entry_of(served: Served, answer: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What the log says of one answer."""
    stamp = ("lane", "registered_name", "version", "model_key", "trained_on", "calibration_id")
    return {
        **{name: served.stamp[name] for name in stamp},
        "width": answer["width"],
        "height": answer["height"],
        "points": points_of(answer).tolist(),
        "seconds": round(seconds, 4),
    }


def read_log(root: Path) -> list[dict[str, Any]]:
    """All lines that are still there, oldest first; a last one that a crash cut short never happened."""
    found: list[dict[str, Any]] = []
    for path in (root / f"{LOG}.1", root / LOG):
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        found += [json.loads(line) for line in lines if line.endswith(b"\n")]
    return found


def pairs(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Films that two versions answered, one row a film and pair: the last answer of each counts.

    Columns: registered_name, film_sha256, served, shadow (versions), mean_px and max_px, the distance between
    their points in px of the film.
    """
    columns = ["registered_name", "film_sha256", "served", "shadow", "mean_px", "max_px"]
    served = {(e["registered_name"], e["film_sha256"]): e for e in entries if e["role"] == "served"}
    rows = {}
    for entry in entries:
        place = (entry["registered_name"], entry["film_sha256"])
        other = served.get(place)
        if entry["role"] == "served" or other is None or other["model_key"] == entry["model_key"]:
            continue
        apart = np.linalg.norm(np.array(entry["points"]) - np.array(other["points"]), axis=1)
        versions = (other["version"], entry["version"])
        rows[(*place, *versions)] = (float(apart.mean()), float(apart.max()))
    return pd.DataFrame([(*place, *found) for place, found in sorted(rows.items(), key=str)], columns=columns)


@dataclass(frozen=True)
class _Job:
    film: Film
    film_sha256: str
    options: dict[str, Any]
    points: np.ndarray
    served: Served
    other: Served


@dataclass
class Tally:
    """How far two models lie apart on the films that both answered, px of the films."""

    films: int = 0
    failures: int = 0
    distances: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def summary(self) -> dict[str, float | int | None]:
        apart = np.array(self.distances)
        return {
            "films": self.films,
            "failures": self.failures,
            "mean_px": round(float(apart.mean()), 3) if len(apart) else None,
            "p95_px": round(float(np.percentile(apart, 95)), 3) if len(apart) else None,
        }


class Shadow:
    """One thread that gives films to the model that did not answer them. It never holds up an answer."""

    def __init__(self, log: PredictionLog, waiting: int) -> None:
        self.dropped = 0
        self._log = log
        self._jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(
        self,
        film: Film,
        film_sha256: str,
        options: dict[str, Any],
        answer: dict[str, Any],
        served: Served,
        other: Served,
    ) -> None:
        """Have `other` answer the film that `served` answered; left out and counted when too many wait."""
        try:
            self._jobs.put_nowait(_Job(film, film_sha256, options, points_of(answer), served, other))
        except queue.Full:
            self.dropped += 1

    def drain(self) -> None:
        """Wait until every film that was taken in is answered."""
        self._jobs.join()

    def summary(self, name: str) -> list[dict[str, Any]]:
        """How far the models of one registered name lie apart, one entry a pair of keys (champion's first)."""
        with self._lock:
            return [
                {"served_key": one, "shadow_key": other, **tally.summary()}
                for (lane, one, other), tally in self._tallies.items()
                if lane == name
            ]

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                if job is not None:
                    self._answer(job)
            finally:
                self._jobs.task_done()

    def _answer(self, job: _Job) -> None:
        keys = (job.served.target.key, job.other.target.key)
        with self._lock:
            tally = self._tallies.setdefault((job.served.target.name, *keys), Tally())
        start = time.perf_counter()
        try:
            answer = job.other.answer(job.film, job.options)
            entry = entry_of(job.other, answer, time.perf_counter() - start)
            apart = float(np.linalg.norm(np.array(entry["points"]) - job.points, axis=1).mean())
        except Exception as error:  # the challenger may fail in any way; nobody waits for it
            with self._lock:
                tally.films += 1
                tally.failures += 1
            _log.warning("shadow: %s failed: %s: %s", job.other.target, type(error).__name__, error)
            return
        with self._lock:
            tally.films += 1
            tally.distances.append(apart)
        self._log.write("shadow", job.film_sha256, **entry)

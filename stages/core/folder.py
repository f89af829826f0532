"""What the film lanes share when they judge a model on a folder that no stage has seen."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stages.core.data.convert import FilmJob
from stages.core.data.decode import decode_film
from stages.core.model.prediction import LIMITS


def set_aside(store: Path) -> list[dict[str, str]]:
    """Rows of quarantine.csv in a store: what was left out or noted, and why."""
    with (store / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def seconds_per_film(answer: Callable[[np.ndarray], object], jobs: Sequence[FilmJob]) -> float:
    """Mean time from a film's file to its answer, one film at a time, after one to warm up.

    Args:
        answer: called with the film's pixels (H, W) uint8.
    """

    def once(job: FilmJob) -> None:
        answer(decode_film(job.path, LIMITS).pixels)

    once(jobs[0])
    started = time.perf_counter()
    for job in jobs:
        once(job)
    return (time.perf_counter() - started) / len(jobs)

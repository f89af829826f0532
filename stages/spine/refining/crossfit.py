"""The Refiner of one fold: trained on the other folds' films, and what it says of its own fold's.

A fold needs nothing of the others, so that it may be trained in any process that sees the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.core.data.labels import LabelledFilms
from stages.core.stage import Observer
from stages.spine.refining.pairs import Pairs
from stages.spine.refining.settings import RefinerSettings
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """What the Refiners of all folds have in common; `clicks` as in `Params` of spine-folds."""

    films: Path
    audit: Path
    split: Path
    settings: RefinerSettings
    pairs: Pairs | None
    seed: int
    threads: int
    device: str
    clicks: int
    observe: Observer


@dataclass(frozen=True)
class Fold:
    """One fold: its films are the rows `held_out`; the Refiner learns from the rows `learn`."""

    task: Task
    number: int
    learn: np.ndarray
    held_out: np.ndarray

    def __str__(self) -> str:
        return f"fold {self.number}"


@dataclass(frozen=True)
class FoldDone:
    """What became of a fold.

    Attributes:
        state: tensors of the network by name, on the CPU.
        table: rows of folds.parquet.
        errors: number of clicks -> (n,) mean radial error of each film, raw px.
        history: step -> what was observed; the steps follow those of the folds before.
    """

    state: dict[str, Tensor]
    table: pd.DataFrame
    errors: dict[int, np.ndarray]
    history: dict[int, dict[str, float]]


def train_fold(fold: Fold) -> FoldDone:
    """Train the fold's Refiner, and let it answer for its films, after each number of clicks on the worst point."""
    from threadpoolctl import threadpool_limits

    # The stage's own process has this limit already; a worker elsewhere has it from here.
    with threadpool_limits(limits=fold.task.threads):
        return _train(fold)


def _train(fold: Fold) -> FoldDone:
    from stages.core.evaluate.errors import film_errors, radial_errors
    from stages.spine.refining.clicking import click_worst
    from stages.spine.refining.training import train_refiner

    task, held_out = fold.task, fold.held_out
    data = LabelledFilms.open(task.films, task.split, task.audit)
    epochs = sum(phase.epochs for phase in task.settings.fit.phases)
    observe = _After(task.observe, fold.number * epochs)
    refiner, _ = train_refiner(
        data, fold.learn, data.trainable("val"), SCHEMA, task.settings, task.seed + 1 + fold.number, task.threads,
        task.device, task.pairs, observe, name=f"fold-{fold.number}",
    )  # fmt: skip
    state = {k: v.cpu() for k, v in refiner.members[0].network.state_dict().items()}
    truth, images = data.landmarks_model[held_out], data.films.images[held_out]
    scale = data.films.sizes_raw[held_out][:, None, :] / np.array(data.films.model_size)[::-1]
    hints = np.full_like(truth, np.nan)
    parts, errors = [], {}
    seen = refiner.run(images)
    for clicks in range(task.clicks + 1):
        if clicks:
            hints = click_worst(hints, seen.points, truth, scale)
            seen = refiner.run(images, hints, seen.maps)
        parts.append(_rows(data.films.ids[held_out], fold.number, clicks, seen.points, hints))
        found = radial_errors(data.films.to_raw(seen.points, held_out), data.landmarks_raw[held_out])
        errors[clicks] = film_errors(found)
    return FoldDone(state, pd.concat(parts), errors, observe.history)


class _After(Observer):
    """What a fold's fit observes, as steps after those of the folds before."""

    def __init__(self, observe: Observer, steps: int) -> None:
        super().__init__(observe._scratch, observe.key, observe._echo)
        self._steps = steps

    def __call__(self, step: int, **metrics: float) -> None:
        super().__call__(self._steps + step, **metrics)


def _rows(ids: np.ndarray, fold: int, clicks: int, points: np.ndarray, hints: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ids,
            "fold": fold,
            "clicks": clicks,
            "landmarks": list(points.astype(np.float32)),
            "hinted": list(np.isfinite(hints).all(-1)),
        }
    )

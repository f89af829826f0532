"""One network a fold, each trained on the other folds' films, and what each says of its own fold's.

Folds are trained side by side, each in a process with a single native thread: how many run at once changes
nothing but time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.chest.locating.frames import Frames
from stages.chest.locating.settings import LocatorSettings
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.pool import map_unordered
from stages.core.stage import Observer

if TYPE_CHECKING:
    from torch import Tensor

OUT_OF_FOLD = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.column("fold", pa.int32()),
        tables.points_column("landmarks", CHEST.n_points, "model px"),
        tables.column(
            "spread", pa.list_(pa.float32(), CHEST.n_points), "model px, deviation of a point's map"
        ),
    ]
)
"""Columns of what networks say of films that they were not trained on; one row a development film."""


@dataclass(frozen=True)
class Fold:
    """What one process needs to train a fold's network."""

    films: Path
    split: Path
    number: int
    learn: np.ndarray
    held_out: np.ndarray
    frames: Frames
    settings: LocatorSettings
    seed: int
    device: str
    observe: Observer


@dataclass(frozen=True)
class _Done:
    state: dict[str, np.ndarray]
    points: np.ndarray
    spread: np.ndarray
    history: Mapping[int, Mapping[str, float]]


def development(data: LabelledFilms) -> np.ndarray:
    """Row numbers of the films that networks learn from and are chosen by: the roles train and val."""
    return np.sort(np.concatenate([data.trainable("train"), data.trainable("val")]))


def cross_fit(
    data: LabelledFilms, folds: np.ndarray, workers: int, common: Fold
) -> tuple[dict[str, Tensor], pd.DataFrame, float]:
    """Train all folds.

    Args:
        folds: (n,) fold of each film of `development(data)`.
        workers: processes.
        common: what all folds share; its number, rows and observer's name are filled in here.
    Returns:
        The weights as `<fold>.<tensor>`, a table with the columns of `OUT_OF_FOLD` by id, and the mean
        error of its points in px at 224.
    """
    import torch

    from stages.core.evaluate.errors import film_errors, scaled_errors

    rows = development(data)
    jobs = [
        Fold(**{**vars(common), "number": k, "learn": rows[folds != k], "held_out": rows[folds == k]})
        for k in sorted(set(folds.tolist()))
    ]
    on_cpu = common.device == "cpu"
    done: dict[int, _Done] = {}
    for index, result in map_unordered(_train, jobs, workers if on_cpu else 1):
        done[index] = result
        common.observe.progress(len(done), len(jobs), "folds")
    _merge_histories(common.observe, [done[k].history for k in range(len(jobs))])
    tensors = {
        f"{job.number}.{name}": torch.from_numpy(value)
        for k, job in enumerate(jobs)
        for name, value in done[k].state.items()
    }
    parts, errors = [], []
    for k, job in enumerate(jobs):
        raw = data.films.to_raw(done[k].points, job.held_out)
        truth, sizes = data.landmarks_raw[job.held_out], data.films.sizes_raw[job.held_out]
        errors.append(film_errors(scaled_errors(raw, truth, sizes, REPORT_FRAME)))
        parts.append(
            pd.DataFrame(
                {
                    "id": data.films.ids[job.held_out],
                    "fold": job.number,
                    "landmarks": list(done[k].points.astype(np.float32)),
                    "spread": list(done[k].spread.astype(np.float32)),
                }
            )
        )
    return tensors, pd.concat(parts).sort_values("id"), float(np.concatenate(errors).mean())


def _train(job: Fold) -> _Done:
    from stages.chest.locating.training import train_locator

    data = LabelledFilms.open(job.films, job.split)
    observe = Observer(job.observe._scratch, job.observe.key, job.observe._echo)
    trained = train_locator(
        data, job.learn, job.held_out, job.frames, job.settings,
        job.seed + 1 + job.number, 1, job.device, observe, name=f"fold-{job.number}",
    )  # fmt: skip
    located = trained.locate(data.films.images[job.held_out], job.frames.fixed(job.held_out))
    state = {k: v.cpu().numpy() for k, v in trained.members[0].state_dict().items()}
    return _Done(state, located.points, located.spread, observe.history)


def _merge_histories(observe: Observer, histories: list[Mapping[int, Mapping[str, float]]]) -> None:
    """The folds' epochs as one history: means over the folds."""
    for step in histories[0]:
        rows = [history[step] for history in histories if step in history]
        observe.history[step] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

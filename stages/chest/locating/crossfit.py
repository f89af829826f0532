"""One network a fold, each trained on the other folds' films, and what each says of its own fold's.

Folds are trained side by side, each in a process with a single native thread: how many run at once changes
nothing but time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.chest.locating.frames import Frames
from stages.chest.locating.settings import LocatorSettings
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.pool import map_unordered
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.stage import Observer

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE = "folded-locators"
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
class Task:
    """What the networks of all folds have in common."""

    films: Path
    split: Path
    frames: Frames
    settings: LocatorSettings
    seed: int
    device: str
    observe: Observer


@dataclass(frozen=True)
class _Fold:
    """What one process needs to train a fold's network."""

    task: Task
    number: int
    learn: np.ndarray
    held_out: np.ndarray


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
    data: LabelledFilms, folds: np.ndarray, workers: int, task: Task
) -> tuple[dict[str, Tensor], pd.DataFrame, float]:
    """Train all folds.

    Args:
        folds: (n,) fold of each film of `development(data)`.
        workers: processes.
    Returns:
        The weights as `<fold>.<tensor>`, a table with the columns of `OUT_OF_FOLD` by id, and the mean
        error of its points in px at 224.
    """
    import torch

    from stages.core.evaluate.errors import film_errors, scaled_errors

    rows = development(data)
    jobs = [_Fold(task, k, rows[folds != k], rows[folds == k]) for k in sorted(set(folds.tolist()))]
    done: dict[int, _Done] = {}
    for index, result in map_unordered(_train, jobs, workers if task.device == "cpu" else 1):
        done[index] = result
        task.observe.progress(len(done), len(jobs), "folds")
    _merge_histories(task.observe, [done[k].history for k in range(len(jobs))])
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


def _train(fold: _Fold) -> _Done:
    from stages.chest.locating.training import train_locator

    task = fold.task
    data = LabelledFilms.open(task.films, task.split)
    observe = Observer(task.observe._scratch, task.observe.key, task.observe._echo)
    trained = train_locator(
        data, fold.learn, fold.held_out, task.frames, task.settings,
        task.seed + 1 + fold.number, 1, task.device, observe, name=f"fold-{fold.number}",
    )  # fmt: skip
    located = trained.locate(data.films.images[fold.held_out], task.frames.fixed(fold.held_out))
    state = {k: v.cpu().numpy() for k, v in trained.members[0].state_dict().items()}
    return _Done(state, located.points, located.spread, observe.history)


def _merge_histories(observe: Observer, histories: list[Mapping[int, Mapping[str, float]]]) -> None:
    """The folds' epochs as one history: means over the folds."""
    for step in histories[0]:
        rows = [history[step] for history in histories if step in history]
        observe.history[step] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def save_folds(
    output: Path, tensors: Mapping[str, Tensor], data: LabelledFilms, task: Task, params: dict[str, Any]
) -> None:
    """A model folder of a set of fold networks, trained with the stage's `params`."""
    from stages.core.model.card import InputSize, ModelCard, save_model

    side = task.settings.input
    card = ModelCard(
        lane=CHEST.lane,
        dataset=data.films.info.name,
        architecture=ARCHITECTURE,
        key=task.observe.key,
        params=params | {"stored_size": list(data.films.model_size)},
        input=InputSize(height=side, width=side),
        schema=CHEST.names,
        n_train=len(development(data)),
        split_sha256=split_digest(read_split(task.split)),
    )
    save_model(output, tensors, card)


def read_out_of_fold(file: Path, data: LabelledFilms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Folds (n,), points (n, 15, 2) in model px and spreads (n, 15) of the films of `development(data)`."""
    table = tables.read_table(file).set_index("id")
    ids = data.films.ids[development(data)]
    if set(ids) != set(table.index):
        raise StageError(
            f"{file} is about other films than the split's train and val: run `dvc repro` to make it again"
        )
    table = table.loc[ids]
    points = tables.stack_points(table["landmarks"]).astype(np.float64)
    return table["fold"].to_numpy(), points, np.stack(table["spread"].to_list()).astype(np.float64)

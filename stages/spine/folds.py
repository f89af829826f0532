"""Stage spine-folds: Refiners that have not seen a film say where its points are.

A network's errors on films that it was trained on are far smaller than on others (the reference: 20 against 39
raw px), so that Detector and Corrector would learn from errors that never come. Here every training film is
predicted by a Refiner of the same kind that was trained on the other folds' films only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.pool import map_unordered
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.refining.pairs import Pairs
from stages.spine.refining.settings import RefinerSettings
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

    from stages.spine.refining.crossfit import Fold, FoldDone

WEIGHTS = "weights.pt"


class Params(StageParams):
    section: ClassVar[str] = "spine.folds"
    seed: int
    threads: int
    device: str
    world_size: int = Field(ge=1)
    folds: int = Field(ge=2)
    epochs: float = Field(gt=0)
    clicks: int = Field(ge=0)


def fold_schema(n_points: int) -> pa.Schema:
    """Columns of folds.parquet: one row a training film and number of clicks."""
    return pa.schema(
        [
            tables.column("id", pa.string()),
            tables.column("fold", pa.int32()),
            tables.column("clicks", pa.int32(), "oracle clicks so far"),
            tables.points_column("landmarks", n_points, "model px"),
            tables.column("hinted", pa.list_(pa.bool_(), n_points)),
        ]
    )


def run(
    params: Params,
    films: Path,
    audit: Path,
    split: Path,
    pairs: Path,
    model: Path,
    predictions: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Train a Refiner a fold, as the card of `model` says, and write their predictions and weights.

    Writes `predictions` (see `fold_schema`), where each film is also predicted after 1 to `clicks` clicks on
    its worst point, and the folder `output` with weights.pt: the fold Refiners as `<fold>.<tensor>`.
    """
    from stages.core.model.card import save_tensors
    from stages.core.train import distributed

    tensors, table, metrics = distributed.launch(
        params.world_size, params.device, _train_all, params, films, audit, split, pairs, model, observe
    )
    tables.write_table(predictions, table, fold_schema(SCHEMA.n_points))
    save_tensors(output / WEIGHTS, tensors)
    return metrics


def _train_all(
    params: Params, films: Path, audit: Path, split: Path, pairs: Path, model: Path, observe: Observer
) -> tuple[dict[str, Tensor], pd.DataFrame, dict[str, float]]:
    """Weights, predictions and metrics of all folds; runs in every process of a team."""
    from stages.core.model.card import load_card
    from stages.spine.refining.crossfit import Fold, Task

    data = LabelledFilms.open(films, split, audit)
    settings = shortened(RefinerSettings.of(load_card(model).params), params.epochs)
    rows = data.trainable("train")
    folds = patient_folds(data.patients[rows], params.folds, params.seed)
    if lone := sorted(set(range(params.folds)) - set(folds)):
        raise StageError(f"no patients in the folds {lone}: ask for fewer than {params.folds} folds")
    task = Task(
        films=films,
        audit=audit,
        split=split,
        settings=settings,
        pairs=Pairs.load(pairs) if settings.needs_pairs else None,
        seed=params.seed,
        threads=params.threads,
        device=params.device,
        clicks=params.clicks,
        observe=observe,
    )
    jobs = [Fold(task, k, rows[folds != k], rows[folds == k]) for k in range(params.folds)]
    done = _trained(jobs, params.world_size, observe)
    for fold in done:
        observe.history.update(fold.history)
    tensors = {f"{k}.{n}": v for k, fold in enumerate(done) for n, v in fold.state.items()}
    table = pd.concat([fold.table for fold in done]).sort_values(["id", "clicks"])
    named = {
        f"error_raw_px@{clicks}": float(np.concatenate([fold.errors[clicks] for fold in done]).mean())
        for clicks in range(params.clicks + 1)
    }
    return tensors, table, {"n_films": len(rows), "folds": params.folds, **named}


def _trained(jobs: list[Fold], world_size: int, observe: Observer) -> list[FoldDone]:
    """All folds, one after the other or on the workers of `PLUMBLINE_DASK`; a team trains each together."""
    from stages.spine.refining.crossfit import train_fold

    if world_size > 1:
        return [train_fold(job) for job in jobs]
    done: dict[int, FoldDone] = {}
    for index, fold in map_unordered(train_fold, jobs, workers=1):
        done[index] = fold
        observe.progress(len(done), len(jobs), "folds")
    return [done[index] for index in range(len(jobs))]


def shortened(settings: RefinerSettings, share: float) -> RefinerSettings:
    """The same settings with so many of the epochs, at least one a phase; no clicks in validation."""
    phases = tuple(
        p.model_copy(update={"epochs": max(1, round(share * p.epochs))}) for p in settings.fit.phases
    )
    fit = settings.fit.model_copy(update={"phases": phases})
    return settings.model_copy(update={"fit": fit, "val_clicks": 0})


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

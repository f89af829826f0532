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
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.refining.pairs import Pairs
from stages.spine.refining.settings import RefinerSettings
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

if TYPE_CHECKING:
    from torch import Tensor

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
    from stages.core.evaluate.errors import film_errors, radial_errors
    from stages.core.model.card import load_card
    from stages.spine.refining.clicking import click_worst
    from stages.spine.refining.training import train_refiner

    data = LabelledFilms.open(films, split, audit)
    settings = shortened(RefinerSettings.of(load_card(model).params), params.epochs)
    watched = Pairs.load(pairs) if settings.needs_pairs else None
    rows, val = data.trainable("train"), data.trainable("val")
    folds = patient_folds(data.patients[rows], params.folds, params.seed)
    if lone := sorted(set(range(params.folds)) - set(folds)):
        raise StageError(f"no patients in the folds {lone}: ask for fewer than {params.folds} folds")

    epochs = sum(phase.epochs for phase in settings.fit.phases)
    tensors: dict[str, Tensor] = {}
    parts: list[pd.DataFrame] = []
    errors: dict[int, list[np.ndarray]] = {}
    for fold in range(params.folds):
        learn, held_out = rows[folds != fold], rows[folds == fold]
        refiner, _ = train_refiner(
            data, learn, val, SCHEMA, settings, params.seed + 1 + fold, params.threads, params.device,
            watched, _After(observe, fold * epochs), name=f"fold-{fold}",
        )  # fmt: skip
        tensors |= {f"{fold}.{k}": v for k, v in refiner.members[0].network.state_dict().items()}
        truth, images = data.landmarks_model[held_out], data.films.images[held_out]
        scale = data.films.sizes_raw[held_out][:, None, :] / np.array(data.films.model_size)[::-1]
        hints = np.full_like(truth, np.nan)
        seen = refiner.run(images)
        for clicks in range(params.clicks + 1):
            if clicks:
                hints = click_worst(hints, seen.points, truth, scale)
                seen = refiner.run(images, hints, seen.maps)
            parts.append(_rows(data.films.ids[held_out], fold, clicks, seen.points, hints))
            found = radial_errors(data.films.to_raw(seen.points, held_out), data.landmarks_raw[held_out])
            errors.setdefault(clicks, []).append(film_errors(found))
    table = pd.concat(parts).sort_values(["id", "clicks"])
    named = {f"error_raw_px@{clicks}": float(np.concatenate(e).mean()) for clicks, e in errors.items()}
    return tensors, table, {"n_films": len(rows), "folds": params.folds, **named}


class _After(Observer):
    """What a fold's fit observes, as steps after those of the folds before."""

    def __init__(self, observe: Observer, steps: int) -> None:
        super().__init__(observe._scratch, observe.key, observe._echo)
        self._whole, self._steps = observe, steps

    def __call__(self, step: int, **metrics: float) -> None:
        self._whole(self._steps + step, **metrics)


def shortened(settings: RefinerSettings, share: float) -> RefinerSettings:
    """The same settings with so many of the epochs, at least one a phase; no clicks in validation."""
    phases = tuple(
        p.model_copy(update={"epochs": max(1, round(share * p.epochs))}) for p in settings.fit.phases
    )
    fit = settings.fit.model_copy(update={"phases": phases})
    return settings.model_copy(update={"fit": fit, "val_clicks": 0})


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


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

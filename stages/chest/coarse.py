"""Stage chest-coarse: the first answer on whole films, by networks that have not seen the film.

The development films (roles train and val) are dealt into folds. Each fold's network learns from the other
folds, so that its errors on its own fold are those that films bring which nobody has labelled: what the second
stage learns to mend, and what every choice and every radius of chest-system rests on. All of them together
answer for other films.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from stages.chest.locating.crossfit import OUT_OF_FOLD, Fold, cross_fit, development
from stages.chest.locating.frames import WholeFilm
from stages.chest.locating.settings import LocatorSettings, Network
from stages.chest.schema import CHEST
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import patient_folds, read_split, split_digest
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan

ARCHITECTURE = "folded-locators"


class Params(StageParams):
    section: ClassVar[str] = "chest.coarse"
    seed: int
    threads: int
    device: str
    folds: int = Field(ge=2)
    input: int
    network: Network
    augment: Augmentation
    fit: Plan

    @property
    def settings(self) -> LocatorSettings:
        return LocatorSettings.of(vars(self))


def run(
    params: Params, films: Path, split: Path, predictions: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write `predictions` (see `crossfit.OUT_OF_FOLD`) and the folder `output` of the folds' networks."""
    data = LabelledFilms.open(films, split)
    rows = development(data)
    folds = patient_folds(data.patients[rows], params.folds, params.seed)
    if lone := sorted(set(range(params.folds)) - set(folds.tolist())):
        raise StageError(f"no films in the folds {lone}: ask for fewer than {params.folds} folds")
    settings = params.settings
    job = Fold(
        films=films,
        split=split,
        number=0,
        learn=rows,
        held_out=rows,
        frames=WholeFilm(data.films.model_size, settings.size),
        settings=settings,
        seed=params.seed,
        device=params.device,
        observe=observe,
    )
    tensors, table, error = cross_fit(data, folds, params.threads, job)
    tables.write_table(predictions, table, OUT_OF_FOLD)
    save(output, tensors, data, split, settings, params.model_dump(mode="json"), observe)
    return {"n_films": len(rows), "folds": params.folds, "out_of_fold_px224": error}


def save(
    output: Path,
    tensors: dict[str, Any],
    data: LabelledFilms,
    split: Path,
    settings: LocatorSettings,
    params: dict[str, Any],
    observe: Observer,
) -> None:
    """A model folder of a set of fold networks."""
    from stages.core.model.card import InputSize, ModelCard, save_model

    card = ModelCard(
        lane=CHEST.lane,
        dataset=data.films.info.name,
        architecture=ARCHITECTURE,
        key=observe.key,
        params=params | {"stored_size": list(data.films.model_size)},
        input=InputSize(height=settings.input, width=settings.input),
        schema=CHEST.names,
        n_train=len(development(data)),
        split_sha256=split_digest(read_split(split)),
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


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

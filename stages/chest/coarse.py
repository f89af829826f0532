"""Stage chest-coarse: the first answer on whole films, by networks that have not seen the film.

The development films (roles train and val) are dealt into folds. Each fold's network learns from the other
folds, so that its errors on its own fold are those that films bring which nobody has labelled: what the second
stage learns to mend, and what every choice and every radius of chest-system rests on. All of them together
answer for other films.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from stages.chest.locating.crossfit import OUT_OF_FOLD, Task, cross_fit, development, save_folds
from stages.chest.locating.frames import WholeFilm
from stages.chest.locating.settings import LocatorSettings, Network
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan


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
    task = Task(
        films=films,
        split=split,
        frames=WholeFilm(data.films.model_size, settings.size),
        settings=settings,
        seed=params.seed,
        device=params.device,
        observe=observe,
    )
    tensors, table, error = cross_fit(data, folds, params.threads, task)
    tables.write_table(predictions, table, OUT_OF_FOLD)
    save_folds(output, tensors, data, task, params.model_dump(mode="json"))
    return {"n_films": len(rows), "folds": params.folds, "out_of_fold_px224": error}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage chest-fine: the second answer, on crops that the first one turned, scaled and moved into place.

Position, size and tilt of the lungs are most of what varies; where the first answer has undone them, the same
kind of network has less to explain. It learns from out-of-fold first answers, since those of networks that had
seen the film would be too good; other films' errors are added to them at random.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.chest.alignment import Canonical
from stages.chest.locating.crossfit import (
    OUT_OF_FOLD,
    Task,
    cross_fit,
    development,
    read_out_of_fold,
    save_folds,
)
from stages.chest.locating.frames import Aligned
from stages.chest.locating.settings import LocatorSettings, Network
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan


class Guesses(BaseModel):
    """Attributes:
    share: of training samples whose first answer is moved by another film's error.
    strength: factor on that error, either way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    share: float = Field(ge=0, le=1)
    strength: float = Field(ge=0)


class Params(StageParams):
    section: ClassVar[str] = "chest.fine"
    seed: int
    threads: int
    device: str
    margin: float = Field(ge=0, lt=0.5)
    guesses: Guesses
    input: int
    network: Network
    augment: Augmentation
    fit: Plan

    @property
    def settings(self) -> LocatorSettings:
        return LocatorSettings.of(vars(self))


def run(
    params: Params,
    films: Path,
    split: Path,
    coarse: Path,
    predictions: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write `predictions` (see `crossfit.OUT_OF_FOLD`) and the folder `output` of the folds' networks.

    Folds are those of `coarse`, the table of chest-coarse: no network has seen a film that it answers for.
    """
    import torch

    data = LabelledFilms.open(films, split)
    rows = development(data)
    folds, guessed, _ = read_out_of_fold(coarse, data)
    labels = data.landmarks_model
    guesses = np.full_like(labels, np.nan)  # no other film is looked at
    guesses[rows] = guessed
    settings = params.settings
    canonical = Canonical.of(labels[rows], settings.input, params.margin)
    errors = guessed - labels[rows]
    task = Task(
        films=films,
        split=split,
        frames=Aligned(canonical, guesses, errors, params.guesses.share, params.guesses.strength),
        settings=settings,
        seed=params.seed + 100,
        device=params.device,
        observe=observe,
    )
    tensors, table, error = cross_fit(data, folds, params.threads, task)
    tables.write_table(predictions, table, OUT_OF_FOLD)
    tensors["canonical"] = torch.from_numpy(np.array(canonical.shape))
    save_folds(output, tensors, data, task, params.model_dump(mode="json"))
    return {"n_films": len(rows), "folds": len(set(folds.tolist())), "out_of_fold_px224": error}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

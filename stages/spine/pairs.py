"""Stage spine-pairs: which distances and angles the Refiner's morphology losses watch, from training labels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from stages.core.data.labels import LabelledFilms
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.refining.pairs import Criterion, choose_pairs
from stages.spine.schema import SCHEMA


class Params(StageParams):
    section: ClassVar[str] = "spine.pairs"
    criterion: Criterion
    count: int = Field(ge=1)


def run(
    params: Params, films: Path, audit: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write the pairs and triplets as JSON; only trainable films of the role train decide."""
    data = LabelledFilms.open(films, split, audit)
    rows = data.trainable()
    height, width = data.films.model_size
    shapes = data.landmarks_model[rows] / np.array([width, height])
    chosen = choose_pairs(shapes, SCHEMA, params.criterion, params.count)
    chosen.save(output)
    return {"n_films": len(rows), "n_pairs": len(chosen.pairs), "n_triplets": len(chosen.triplets)}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

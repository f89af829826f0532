"""Stage NAME-floors: what is reached on the films of a described lane without a network.

Regressions need whole shapes: where a training film lacks points, the usual shape stands in for them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.core.data.labels import LabelledFilms
from stages.core.floors.fitting import FloorParams
from stages.core.floors.stage import run_floors
from stages.core.stage import Observer
from stages.custom.command import lane_main
from stages.custom.description import read_description
from stages.custom.shape import completed, mean_shape


class Params(FloorParams):
    section: ClassVar[str] = "lane.floors"


def run(
    params: Params, lane: Path, films: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Fit the floors; see `floors.stage.run_floors` for what is written and returned."""
    data = LabelledFilms.open(films, split)
    return run_floors(filled(data), read_description(lane).schema, params, output, observe)


def filled(data: LabelledFilms) -> LabelledFilms:
    """The films with whole shapes where floors are fitted; val too only where not one film of it is whole.

    What is reported counts labels alone, but for val films of the latter kind.
    """
    roles = ["train"] if len(data.trainable("val")) else ["train", "val"]
    rows = data.rows(*roles)
    labels = data.landmarks_raw.astype(np.float64)
    labels[rows] = completed(labels[rows], mean_shape(labels[data.rows("train")]))
    return replace(data, landmarks_raw=labels.astype(np.float32))


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()

"""Stage chest-floors: what is reached on the chest films without a network.

A mean shape, a shape model, HOG with kernel ridge, and a second kernel ridge on films aligned by the first.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from stages.chest.aligned_floor import AlignedFloorParams, aligned_floor
from stages.chest.schema import CHEST, REPORT_SIZE
from stages.core.data.labels import LabelledFilms
from stages.core.floors.stage import run_floors
from stages.core.stage import Observer, stage_main


class Params(AlignedFloorParams):
    section: ClassVar[str] = "chest.floors"


def run(params: Params, films: Path, split: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Fit the floors; see `floors.stage.run_floors` for what is written and returned."""
    frames = {f"px{REPORT_SIZE}": (REPORT_SIZE, REPORT_SIZE)}
    further = partial(aligned_floor, params=params)
    return run_floors(LabelledFilms.open(films, split), CHEST, params, output, observe, frames, further)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage chest-floors: what a mean shape, a shape model and HOG with kernel ridge reach on the chest films."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.chest.schema import CHEST, REPORT_SIZE
from stages.core.data.labels import LabelledFilms
from stages.core.floors.fitting import FloorParams
from stages.core.floors.stage import run_floors
from stages.core.stage import Observer, stage_main


class Params(FloorParams):
    section: ClassVar[str] = "chest.floors"


def run(params: Params, films: Path, split: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Fit the floors; see `floors.stage.run_floors` for what is written and returned."""
    frames = {f"px{REPORT_SIZE}": (REPORT_SIZE, REPORT_SIZE)}
    return run_floors(LabelledFilms.open(films, split), CHEST, params, output, observe, frames)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

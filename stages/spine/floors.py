"""Stage spine-floors: what a mean shape, a shape model and HOG with kernel ridge reach on the spine films."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.core.data.labels import LabelledFilms
from stages.core.floors.fitting import FloorParams
from stages.core.floors.stage import run_floors
from stages.core.stage import Observer, stage_main
from stages.spine.schema import SCHEMA


class Params(FloorParams):
    section: ClassVar[str] = "spine.floors"


def run(
    params: Params, films: Path, audit: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Fit the floors on the audited labels; see `floors.stage.run_floors` for what is written."""
    return run_floors(LabelledFilms.open(films, split, audit), SCHEMA, params, output, observe)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

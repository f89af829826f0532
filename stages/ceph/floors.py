"""Stage ceph-floors: what is reached on the lateral films without a network."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.ceph.schema import CEPH
from stages.core.data.labels import LabelledFilms
from stages.core.floors.fitting import FloorParams
from stages.core.floors.stage import run_floors
from stages.core.stage import Observer, stage_main


class Params(FloorParams):
    section: ClassVar[str] = "ceph.floors"


def run(params: Params, films: Path, split: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Fit the floors; see `floors.stage.run_floors` for what is written and returned."""
    return run_floors(LabelledFilms.open(films, split), CEPH, params, output, observe)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

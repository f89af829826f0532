"""Stage ceph-convert: lateral films and their labels to a film store, every label checked, with spacing.

Left out, with a reason in quarantine.csv: films without one sound label (see stages/ceph/raw), second copies
of a film, and what the engine cannot decode. Kept but listed: frames that had to be assumed, and points that
a reader left out or set twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from stages.ceph.raw import RawCeph, read_raw
from stages.ceph.raw.layout import REASONS
from stages.ceph.schema import CEPH
from stages.ceph.spacing import read_spacing, write_spacing
from stages.core.data.convert import ConvertSettings, convert_films, names_file, write_names
from stages.core.data.decode import FilmLimits
from stages.core.data.films import DatasetInfo, FilmSet, dataset_name
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

DEFAULT_NAME = "isbi2015"
"""of the data set, where the folder has no dataset.json"""


class ConvertParams(StageParams):
    """Parameters of a conversion; the stage names the section.

    Attributes:
        size: (height, width) of the stored films, px.
    """

    size: tuple[int, int]
    on_error: Literal["quarantine", "stop"]
    workers: int = Field(ge=0)
    min_side: int = Field(ge=1)
    max_pixels: int = Field(ge=1)

    @property
    def settings(self) -> ConvertSettings:
        return ConvertSettings(
            self.size, self.workers, self.on_error, FilmLimits(self.min_side, self.max_pixels)
        )


class Params(ConvertParams):
    section: ClassVar[str] = "ceph.convert"


def run(params: Params, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the film store `output` with spacing.parquet, and the private table of names (see `names_file`).

    Returns:
        What `store_films` counts.
    """
    info = DatasetInfo(dataset_name(raw, DEFAULT_NAME), CEPH.lane)
    inventory = read_raw(raw)
    counts = store_films(inventory, info, params, output, observe)
    write_names(names_file(output, info), inventory.names)
    return counts


def store_films(
    inventory: RawCeph, info: DatasetInfo, params: ConvertParams, output: Path, observe: Observer
) -> dict[str, float]:
    """Convert the films of a raw folder into the film store `output`, with their spacing.

    Returns:
        What `convert_films` counts (reasons that no film has are there with 0), and n_with_spacing.
    """
    counts = convert_films(
        inventory.jobs, inventory.refusals, output, info, CEPH.n_points, params.settings, observe
    )
    ids = FilmSet.open(output).ids
    write_spacing(output, ids, inventory.spacing_mm)
    known = np.isfinite(read_spacing(output, ids)).all(1)
    return {**{f"n_{reason}": 0 for reason in REASONS}, **counts, "n_with_spacing": int(known.sum())}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

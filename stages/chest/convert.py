"""Stage chest-convert: films and the coordinate table to a film store, every row checked.

Left out, with a reason in quarantine.csv: what `layout.find_problems` and `layout.judge_points` name, films
of another size than the labels were made for, second copies of a file, films without a label, and what the
engine cannot decode. Kept but listed: labels that touch the border or depart from the fourteen degrees of
freedom or the grid (`layout.shape_findings`), films stored as colour, and names that speak of another class.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from stages.chest.raw.inventory import take_inventory
from stages.chest.raw.layout import DEFAULT_NAME, REASONS, read_raw
from stages.chest.schema import CHEST
from stages.core.data.convert import ConvertSettings, convert_films, names_file, write_names
from stages.core.data.decode import FilmLimits
from stages.core.data.films import DatasetInfo, dataset_name
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main


class Params(StageParams):
    section: ClassVar[str] = "chest.convert"
    stored_size: int = Field(ge=32)
    on_error: Literal["quarantine", "stop"]
    workers: int = Field(ge=0)
    min_side: int = Field(ge=1)
    max_pixels: int = Field(ge=1)

    @property
    def settings(self) -> ConvertSettings:
        size = (self.stored_size, self.stored_size)
        return ConvertSettings(size, self.workers, self.on_error, FilmLimits(self.min_side, self.max_pixels))


def run(params: Params, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the film store `output`, and the private table of names (see `names_file`).

    Returns:
        What `convert_films` counts; reasons that no film has are there with 0.
    """
    inventory = take_inventory(read_raw(raw))
    info = DatasetInfo(dataset_name(raw, DEFAULT_NAME), CHEST.lane)
    counts = convert_films(
        inventory.jobs, inventory.refusals, output, info, CHEST.n_points, params.settings, observe
    )
    write_names(names_file(output, info), inventory.names)
    return {**{f"n_{reason}": 0 for reason in REASONS}, **counts}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

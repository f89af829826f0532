"""Stage NAME-convert: the films and labels of a described lane to a film store, every label checked, with spacing.

Left out, with a reason in quarantine.csv: films without a label or with too few of their landmarks, second copies
of a film, and what the engine cannot decode. Kept but listed: points that are missing, doubled or off the film.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from stages.core.data.convert import ConvertSettings, convert_films, names_file, write_names
from stages.core.data.decode import FilmLimits
from stages.core.data.films import DatasetInfo, FilmSet
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer
from stages.custom.command import lane_main
from stages.custom.description import read_description
from stages.custom.raw.inventory import REASONS, read_raw
from stages.custom.spacing import read_spacing, write_spacing


class Params(StageParams):
    section: ClassVar[str] = "lane.convert"
    size: tuple[int, int]  # height, width of the stored films, px
    least_share: float = Field(ge=0, le=1)  # a film that has fewer of its landmarks is left out
    on_error: Literal["quarantine", "stop"]
    workers: int = Field(ge=0)
    min_side: int = Field(ge=1)
    max_pixels: int = Field(ge=1)


def run(
    params: Params, lane: Path, raw: Path, labels: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write the film store `output` with spacing.parquet, and the private table of names (see `names_file`).

    Returns:
        What `convert_films` counts (reasons that no film has are there with 0), n_with_spacing, patients_known.
    Raises:
        StageError: generated films under the name of a real data set, beside what `read_raw` raises.
    """
    described = read_description(lane)
    info = DatasetInfo(described.dataset, described.name)
    found = read_raw(described, raw, labels, params.least_share)
    settings = ConvertSettings(
        params.size, params.workers, params.on_error, FilmLimits(params.min_side, params.max_pixels)
    )
    n_points = len(described.landmarks)
    counts = convert_films(found.jobs, found.refusals, output, info, n_points, settings, observe)
    films = FilmSet.open(output)
    if films.table["phantom"].any() and not info.is_phantom:
        raise StageError(
            f"{int(films.table['phantom'].sum())} films are generated (phantoms), but {lane} calls the data set "
            f"'{described.dataset}': set dataset to phantom, so that no model of them reads a person's film"
        )
    write_spacing(output, films.ids, found.spacing_mm)
    write_names(names_file(output, info), found.names)
    known = (read_spacing(output, films.ids) > 0).all(1)
    return {
        **{f"n_{reason}": 0 for reason in REASONS},
        **counts,
        "n_with_spacing": int(known.sum()),
        "n_patients": int(films.table["patient"].nunique()),
        "patients_known": int(found.patients_known),
    }


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()

"""Stage ceph-clinic: the films of a clinic where the base model is new, and what readers said of them.

Its film store holds no labels: nothing there is truth to train on before somebody has reviewed it. The words
of readers go into readers.parquet, one row a film and reader, for simulated reviews and for the gate.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.ceph.convert import ConvertParams, store_films
from stages.ceph.raw import read_raw
from stages.ceph.readers import write_readers
from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.data.convert import names_file, write_names
from stages.core.data.films import DatasetInfo, FilmSet, dataset_name
from stages.core.stage import Observer, stage_main

DEFAULT_NAME = "clinic"
"""of the data set, where the folder has no dataset.json"""


class Params(ConvertParams):
    section: ClassVar[str] = "ceph.clinic"


def run(params: Params, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the film store `output` with spacing.parquet and readers.parquet, and the private table of names.

    Returns:
        What `store_films` counts, and by reader n_films_READER and n_missing_READER, the points that the
        reader did not set on these films.
    """
    info = DatasetInfo(dataset_name(raw, DEFAULT_NAME), CEPH.lane)
    inventory = read_raw(raw, clinic=True)
    counts = store_films(inventory, info, params, output, observe)
    readers = inventory.readers[inventory.readers["id"].isin(FilmSet.open(output).ids)]
    write_readers(output, readers)
    private = DatasetInfo(f"{info.name}-clinic" if info.name != DEFAULT_NAME else info.name, info.lane)
    write_names(names_file(output, private), inventory.names)
    for reader, own in readers.groupby("reader"):
        missing = np.isnan(tables.stack_points(own["landmarks"])).any(2)
        counts |= {f"n_films_{reader}": len(own), f"n_missing_{reader}": int(missing.sum())}
    return counts


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

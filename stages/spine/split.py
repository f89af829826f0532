"""Stage spine-split: patients to the roles train, val, gate and test.

Every film of the store gets a role, also those whose label the audit dropped: they are never trained on,
but evaluation counts them, and counts them apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.split import ROLES, assign_roles, split_metrics, write_split
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main


class Params(StageParams):
    section: ClassVar[str] = "spine.split"
    seed: int
    shares: dict[str, float]


def run(params: Params, films: Path, audit: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write `output` (id, patient, role) for all films of the store."""
    table = FilmSet.open(films).table
    labels = tables.read_table(audit / "labels.parquet").set_index("id")
    if set(labels.index) != set(table["id"]):
        raise StageError(f"{films} and {audit} hold different films; run `dvc repro` to audit again")
    roles = assign_roles(table["patient"], params.shares, params.seed)
    split = pd.DataFrame({"id": table["id"], "patient": table["patient"], "role": roles})
    write_split(output, split)
    usable = labels.loc[split["id"], "use"].to_numpy(bool)
    return {
        **split_metrics(split),
        **{f"n_not_trained_on_{role}": int((~usable & (roles == role)).sum()) for role in ROLES},
    }


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

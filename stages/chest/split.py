"""Stage chest-split: films to the roles train, val, gate and test.

The data set names no patients, so every film stands for itself; films of one patient may lie in two roles,
and nobody can tell. Where the raw folder has a split.csv, its val and test films are this project's test
films, and only its train films are divided further. The same goes for the published split (see
stages/chest/raw/published.py), which `reference` asks for where there is no split.csv. All other films are
divided by the hash of their pseudonym.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from stages.chest.raw.layout import LABEL_FILE, SPLIT_FILE, read_given_split, read_rows
from stages.chest.raw.published import matches_published, published_split
from stages.chest.schema import CHEST
from stages.core.data.films import FilmSet, pseudonym
from stages.core.data.split import assign_roles, split_metrics, write_split
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main


class Params(StageParams):
    section: ClassVar[str] = "chest.split"
    seed: int
    shares: dict[str, float]  # of train, val, gate and test
    reference: bool  # without a split.csv: the published split of the whole label file


def run(params: Params, films: Path, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the split's table to `output`.

    Returns:
        Films and patients by role; where the roles come from (`given_split`, `reference_split`), and whether
        the train and val films of that source are the published ones.
    Raises:
        StageError: films without a role, or a label file that the published split was not drawn over.
    """
    store = FilmSet.open(films)
    listed = read_given_split(raw)
    seeded = None
    if listed is None and params.reference:
        seeded = published_split([row.name for row in read_rows(raw / LABEL_FILE)])
    given = seeded if listed is None else listed
    patients = store.table["patient"].to_numpy()
    if given is None:
        roles = assign_roles(patients, params.shares, params.seed)
    else:
        roles = divide_given(store.ids, patients, given, params.shares, params.seed)
    split = pd.DataFrame({"id": store.ids, "patient": patients, "role": roles})
    write_split(output, split)
    return {
        **split_metrics(split),
        "given_split": int(listed is not None),
        "reference_split": int(seeded is not None),
        **{
            f"matches_published_{role}": int(matches_published(given or {}, role))
            for role in ("train", "val")
        },
        "n_patients_known": 0,
    }


def divide_given(
    ids: np.ndarray, patients: np.ndarray, given: dict[str, str], shares: dict[str, float], seed: int
) -> np.ndarray:
    """Roles (N,) that keep a given split: its val and test films are test, its train films are divided.

    Args:
        ids: (N,) pseudonyms of the films.
        given: train, val or test by name of film, as in split.csv.
        shares: those of train, val and gate keep their proportions.
    Raises:
        StageError: if films are in no role of the given split.
    """
    role_of = {pseudonym(CHEST.lane, name): role for name, role in given.items()}
    if absent := [i for i in ids if i not in role_of]:
        raise StageError(
            f"{SPLIT_FILE} has no role for {len(absent)} films: {', '.join(absent)} (their names are in "
            "data/raw/names). Add rows for them, or remove the file to have all films divided by hash"
        )
    held_out = np.array([role_of[i] != "train" for i in ids])
    rest = {role: share for role, share in shares.items() if role != "test"}
    rest = {role: share / sum(rest.values()) for role, share in rest.items()}
    roles = assign_roles(patients, rest, seed)
    return np.where(held_out, "test", roles)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

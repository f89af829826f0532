"""Stage ceph-split: the base films to train, val, gate and test; a clinic's to train, gate and test.

A clinic's train films are the pool that may be reviewed and trained on. No set names patients, so every film
stands for itself, and films of one patient may lie in two roles without anybody being able to tell. A
split.csv in a raw folder overrules the shares. Base films that are numbered as ISBI 2015's are tested on 151
and above, as everybody reports; only the films up to 150 are divided further.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.raw.inventory import film_ids
from stages.ceph.raw.layout import SPLIT_FILE, list_raw, read_given_split
from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.split import SPLIT_SCHEMA, assign_roles, split_metrics, write_split
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

CLINIC_ROLES = ("train", "gate", "test")
ISBI_TRAIN, ISBI_FILMS = 150, 400
"""films 001 to 150 are the training films, those above up to 400 the two test sets"""


class BaseShares(BaseModel):
    """Expected shares of the roles of the base films; of a given split, train is divided by those but test."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    train: float = Field(ge=0)
    val: float = Field(ge=0)
    gate: float = Field(ge=0)
    test: float = Field(ge=0)


class ClinicShares(BaseModel):
    """Expected shares of the roles of a clinic's films."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    train: float = Field(ge=0)
    gate: float = Field(ge=0)
    test: float = Field(ge=0)


class Params(StageParams):
    section: ClassVar[str] = "ceph.split"
    seed: int
    shares: BaseShares
    clinic_shares: ClinicShares
    isbi_numbering: bool  # films named 001 to 400: test is what lies above 150


def run(
    params: Params,
    films: Path,
    raw: Path,
    clinic: Path,
    clinic_raw: Path,
    output: Path,
    clinic_output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the split of the base films to `output` and that of the clinic's films to `clinic_output`.

    Returns:
        Films by role, those of the clinic as clinic_n_films_ROLE, and where the roles come from.
    Raises:
        StageError: films without a role, or a role without films.
    """
    store = FilmSet.open(films)
    shares = params.shares.model_dump()
    given = read_given_split(raw)
    numbered = isbi_roles(list_raw(raw).films) if params.isbi_numbering and given is None else None
    told = given or numbered
    if told is None:
        roles = assign_roles(store.ids, shares, params.seed)
    else:
        roles = given_roles(store.ids, film_ids(told), told, shares, params.seed)
    base = _table(store, roles)
    write_split(output, base)

    pool = FilmSet.open(clinic)
    clinic_shares = params.clinic_shares.model_dump()
    clinic_given = read_given_split(clinic_raw)
    if clinic_given is None:
        roles = assign_roles(pool.ids, clinic_shares, params.seed)
    else:
        ids = film_ids(clinic_given, clinic=True)
        roles = given_roles(pool.ids, ids, clinic_given, clinic_shares, params.seed)
    theirs = _table(pool, roles)
    _require_roles(theirs, CLINIC_ROLES, clinic_raw)
    tables.write_table(clinic_output, theirs, SPLIT_SCHEMA)
    of_clinic = split_metrics(theirs)
    return {
        **split_metrics(base),
        **{f"clinic_n_films_{role}": of_clinic[f"n_films_{role}"] for role in CLINIC_ROLES},
        "given_split": int(given is not None),
        "isbi_numbering": int(numbered is not None),
        "clinic_given_split": int(clinic_given is not None),
        "n_patients_known": 0,
    }


def isbi_roles(names: Collection[str]) -> dict[str, str] | None:
    """train or test by name of film, where all names are ISBI's numbers and both kinds occur; else None."""
    numbers = {name: int(name) for name in names if re.fullmatch(r"\d{3}", name)}
    if len(numbers) < len(names) or not all(1 <= n <= ISBI_FILMS for n in numbers.values()):
        return None
    roles = {name: "train" if n <= ISBI_TRAIN else "test" for name, n in numbers.items()}
    return roles if set(roles.values()) == {"train", "test"} else None


def given_roles(
    ids: np.ndarray,
    named: Mapping[str, str],
    given: Mapping[str, str],
    shares: Mapping[str, float],
    seed: int,
) -> np.ndarray:
    """Roles (N,) that keep a given split; roles that it has no films in are cut out of its train films by hash.

    Args:
        ids: (N,) pseudonyms of the films.
        named: name of film -> pseudonym.
        given: role by name of film.
        shares: those of train and of the roles to be cut keep their proportions.
    Raises:
        StageError: films that are in no role of the given split.
    """
    role_of = {named[name]: role for name, role in given.items()}
    if absent := [i for i in ids if i not in role_of]:
        raise StageError(
            f"{SPLIT_FILE} has no role for {len(absent)} films: {', '.join(absent)} (their names are in "
            "data/raw/names). Add rows for them, or remove the file to have all films divided by hash"
        )
    roles = np.array([role_of[i] for i in ids], dtype=object)
    open_roles = {role: share for role, share in shares.items() if role == "train" or role not in set(roles)}
    total = sum(open_roles.values())
    cut = assign_roles(ids, {role: share / total for role, share in open_roles.items()}, seed)
    return np.where(roles == "train", cut, roles)


def _table(store: FilmSet, roles: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"id": store.ids, "patient": store.table["patient"], "role": roles})


def _require_roles(split: pd.DataFrame, roles: tuple[str, ...], where: Path) -> None:
    counts = {role: int((split["role"] == role).sum()) for role in roles}
    other = sorted(set(split["role"]) - set(roles))
    if other or not all(counts.values()):
        said = ", ".join(f"{role} {count}" for role, count in counts.items())
        unknown = f", and {', '.join(other)}, which a clinic does not have" if other else ""
        raise StageError(
            f"{where}: a clinic needs films in each of {', '.join(roles)}; there are {said}{unknown}: change "
            "ceph.split.clinic_shares in params.yaml or split.csv, or add films"
        )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

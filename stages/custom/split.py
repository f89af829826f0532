"""Stage NAME-split: patients to the roles train, val, gate and test, by a hash of the patient and the lane's salt.

A hash alone leaves the roles of a small set uneven. So the salt is chosen once, when the lane is made, by nothing
but the numbers of films that it gives to the roles, and stands in params.yaml from then on: films that are added
later move no patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from stages.core.data.films import FilmSet
from stages.core.data.split import ROLES, assign_roles, split_metrics, write_split
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer
from stages.custom.command import lane_main

LEAST = {"train": 12, "val": 4, "gate": 6, "test": 6}
"""patients of each role: fewer films on gate and test give no interval (see `Bootstrap.minimum_groups`)"""
SALTS = 2000


class Shares(BaseModel):
    """Expected shares of the roles."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    train: float = Field(ge=0)
    val: float = Field(ge=0)
    gate: float = Field(ge=0)
    test: float = Field(ge=0)


class Params(StageParams):
    section: ClassVar[str] = "lane.split"
    salt: int
    shares: Shares


def run(params: Params, lane: Path, films: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the split; `lane` names the section of the parameters.

    Returns:
        Films and patients by role.
    Raises:
        StageError: a role has too few patients; names each with what it has and needs.
    """
    store = FilmSet.open(films)
    patients = store.table["patient"].to_numpy()
    roles = assign_roles(patients, params.shares.model_dump(), params.salt)
    split = pd.DataFrame({"id": store.ids, "patient": patients, "role": roles})
    require_enough(split)
    write_split(output, split)
    return split_metrics(split)


def require_enough(split: pd.DataFrame) -> None:
    """StageError where a role has fewer patients than `LEAST`."""
    there = {role: int(split.loc[split["role"] == role, "patient"].nunique()) for role in ROLES}
    if any(there[role] < least for role, least in LEAST.items()):
        said = ", ".join(f"{role} {there[role]} (of {least})" for role, least in LEAST.items())
        raise StageError(
            f"too few patients in some roles: {said}. All roles need {sum(LEAST.values())} patients together, and "
            "some more: add films, or choose other shares or another salt in params.yaml"
        )


def best_shares(n_patients: int) -> dict[str, float]:
    """Shares of the roles for a set of so many patients: small sets give gate and test what an interval needs."""
    if n_patients < sum(LEAST.values()):
        raise StageError(
            f"{n_patients} patients with usable films are too few: {sum(LEAST.values())} are needed ("
            + ", ".join(f"{least} {role}" for role, least in LEAST.items())
            + "), and some fifty for a model worth having"
        )
    wanted = {"val": 0.1, "gate": 0.13, "test": 0.17}
    shares = {role: round(max(share, LEAST[role] / n_patients), 4) for role, share in wanted.items()}
    return {"train": round(1 - sum(shares.values()), 4), **shares}


def best_salt(patients: Sequence[str], shares: Mapping[str, float]) -> int:
    """The first of `SALTS` salts whose roles come nearest to the shares, none below `LEAST` if that can be had.

    Args:
        patients: of every film.
    """
    films = np.array(patients)
    own = np.array(sorted(set(patients)))
    weight = np.array([(films == p).sum() for p in own])

    def off(salt: int) -> tuple[int, float]:
        roles = assign_roles(own, shares, salt)
        lacking = sum(max(0, least - int((roles == role).sum())) for role, least in LEAST.items())
        apart = sum(abs(weight[roles == role].sum() - share * len(films)) for role, share in shares.items())
        return lacking, float(apart)

    return min(range(SALTS), key=lambda salt: (off(salt), salt))


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()

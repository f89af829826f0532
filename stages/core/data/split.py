"""Roles of films: train, val, gate and test, decided by a hash of the patient.

A patient's role depends on nothing but its own pseudonym and the seed. So films of one patient never part,
and adding or removing films never moves another patient from one role to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.errors import StageError

ROLES = ("train", "val", "gate", "test")
SPLIT_SCHEMA = pa.schema([tables.column(name, pa.string()) for name in ("id", "patient", "role")])


def assign_roles(patients: Iterable[str], shares: Mapping[str, float], seed: int) -> np.ndarray:
    """The role of each entry of `patients`.

    Args:
        patients: pseudonyms; equal ones get equal roles.
        shares: expected share of patients of each role; must add up to 1.
        seed: another seed gives another split.
    Returns:
        Array of role names, one an entry.
    """
    if unknown := sorted(set(shares) - set(ROLES)):
        raise StageError(f"unknown roles {unknown}; there are {', '.join(ROLES)}")
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise StageError(f"the shares of the roles must be >= 0 and add up to 1, not {dict(shares)}")
    roles = [role for role in ROLES if role in shares]
    edges = np.cumsum([shares[role] for role in roles])[:-1]
    positions = [_position(patient, seed) for patient in patients]
    return np.array(roles, dtype=object)[np.searchsorted(edges, positions, side="right")]


def patient_folds(patients: Iterable[str], folds: int, seed: int) -> np.ndarray:
    """The fold in [0, folds) of each entry of `patients`; equal ones get equal folds.

    Patients in the order of their hash are dealt out in turn, so that no fold is empty while there are enough.
    """
    patients = list(patients)
    order = sorted(set(patients), key=lambda patient: _position(f"fold:{patient}", seed))
    dealt = {patient: i % folds for i, patient in enumerate(order)}
    return np.array([dealt[patient] for patient in patients], dtype=np.int64)


def _position(patient: str, seed: int) -> float:
    """A number in [0, 1) that only `patient` and `seed` decide."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def write_split(path: Path, split: pd.DataFrame) -> None:
    """Write columns id, patient, role, sorted by id. Empty roles and patients in two roles are errors."""
    torn = split.groupby("patient")["role"].nunique()
    if (torn > 1).any():
        raise StageError(f"patients in two roles: {', '.join(torn.index[torn > 1][:10])}")
    if absent := sorted(set(ROLES) - set(split["role"])):
        raise StageError(
            f"no films in the roles {', '.join(absent)} ({len(split)} films, {split['patient'].nunique()} patients): "
            "change the seed or the shares of the split in params.yaml, or add films"
        )
    tables.write_table(path, split.sort_values("id")[["id", "patient", "role"]], SPLIT_SCHEMA)


def read_split(path: Path) -> pd.DataFrame:
    """Columns id, patient, role."""
    return tables.read_table(path)


def split_digest(split: pd.DataFrame, roles: Iterable[str] = ROLES) -> str:
    """SHA-256 over the sorted (id, role) pairs of the given roles: what a locked split is recognised by."""
    wanted = set(roles)
    pairs = sorted(f"{i}\t{r}" for i, r in zip(split["id"], split["role"], strict=True) if r in wanted)
    return hashlib.sha256("\n".join(pairs).encode()).hexdigest()


def split_metrics(split: pd.DataFrame) -> dict[str, float]:
    """Films and patients of each role."""
    counts: dict[str, float] = {}
    for role in ROLES:
        part = split[split["role"] == role]
        counts[f"n_films_{role}"] = len(part)
        counts[f"n_patients_{role}"] = part["patient"].nunique()
    return counts

"""Who plays which role: train, val, gate or test, never the same person in two of them.

The unit is the dancer where a name tells who dances, else the sequence. The data set's own test dancers stay
the test. Its val list lies inside its training dancers and so cannot serve as a val of unseen people: val and
gate are dancers of their own, drawn from the remaining ones by hash.

People of other sources (split `extra`) are trained on and judge nothing.

With too few sequences for that (two, say), one is the test, and val and gate are pieces cut from the ends of
the training sequences; `policy` says so, and such a split supports no claim about unseen people.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from stages.core.data import tables
from stages.core.data.split import ROLES, assign_roles
from stages.core.errors import StageError

CLIP_SCHEMA = pa.schema(
    [
        tables.column("clip", pa.string()),
        tables.column("seq", pa.int16()),
        tables.column("sequence", pa.string()),
        tables.column("group", pa.string()),
        tables.column("dancer", pa.int16()),
        tables.column("genre", pa.string()),
        tables.column("role", pa.string()),
        tables.column("first_frame", pa.int32()),
        tables.column("last_frame", pa.int32()),
    ]
)

OFFICIAL = "the data set's own test dancers; val and gate are other dancers by hash"
HASHED = "all roles by hash of the dancer, or of the sequence where its name tells no dancer"
EXTRA = "; people of other sources are trained on only"
PIECES = "too few sequences: val and gate are pieces of the training sequences, and no unseen people"


class Settings(BaseModel):
    """How roles are given out.

    Attributes:
        shares: of the groups, by role; those of the data set's own test dancers are left as they are.
        pieces: shares of a sequence's frames that val and gate get where sequences are few, and the gap of
            unused frames before each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shares: dict[str, float]
    pieces: dict[str, float]


@dataclass(frozen=True)
class RoleTable:
    """One row a clip (a sequence, or a piece of one) with its role, and how the roles came about."""

    clips: pd.DataFrame
    policy: str

    @property
    def digest(self) -> str:
        """SHA-256 over the clips and their roles."""
        rows = sorted(
            f"{clip}\t{role}" for clip, role in zip(self.clips["clip"], self.clips["role"], strict=True)
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def give_roles(sequences: pd.DataFrame, settings: Settings, seed: int) -> RoleTable:
    """Roles of the rows of a sequence store's `sequences`.

    Raises:
        StageError: with a single dancer or sequence, which cannot be both trained and tested on.
    """
    table = _whole_clips(sequences)
    extra = table["split"] == "extra"
    fixed = sorted(set(table.loc[table["split"] == "test", "group"]))
    free = sorted(set(table.loc[~extra, "group"]) - set(fixed))
    wanted = [role for role in ROLES if role != "test" or not fixed]
    if len(free) >= len(wanted):
        roles = _hashed(free, {role: settings.shares[role] for role in wanted}, seed)
        policy = OFFICIAL if fixed else HASHED
    elif len(free) + bool(fixed) >= 2:
        roles, policy = dict.fromkeys(free, "train"), PIECES
        if not fixed:
            roles[min(free, key=lambda group: _position(seed, "test", group))] = "test"
    else:
        raise StageError(
            f"a single dancer or sequence ({', '.join(free + fixed)}) cannot be both trained and tested on: "
            "add another"
        )
    roles |= dict.fromkeys(fixed, "test")
    table["role"] = [roles.get(group, "train") for group in table["group"]]
    if policy == PIECES:
        pieces = _cut(table[~extra], settings.pieces)
        table = pd.concat([pieces, table[extra]]) if extra.any() else pieces
    policy += EXTRA if extra.any() else ""
    return RoleTable(table[CLIP_SCHEMA.names].sort_values("clip").reset_index(drop=True), policy)


def all_test(sequences: pd.DataFrame) -> RoleTable:
    """Every sequence in the role test: for judging a model on a folder of its own."""
    table = _whole_clips(sequences).assign(role="test")
    return RoleTable(table[CLIP_SCHEMA.names], "all are test")


def _whole_clips(sequences: pd.DataFrame) -> pd.DataFrame:
    """One clip a sequence, with its group, yet without a role."""
    table = sequences.rename(columns={"name": "sequence"}).copy()
    table["group"] = [
        f"d{dancer:02d}" if dancer >= 0 else name
        for dancer, name in zip(table["dancer"], table["sequence"], strict=True)
    ]
    table["clip"], table["first_frame"], table["last_frame"] = table["sequence"], 0, table["n_frames"] - 1
    return table


def _hashed(groups: list[str], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Roles by hash; one that came out empty takes a group of the largest role."""
    total = sum(shares.values())
    drawn = assign_roles(groups, {role: share / total for role, share in shares.items()}, seed)
    roles = dict(zip(groups, drawn.tolist(), strict=True))
    for role in shares:
        counts = Counter(roles.values())
        if not counts[role]:
            largest = max(sorted(counts), key=lambda name: counts[name])
            members = [group for group in groups if roles[group] == largest]
            roles[min(members, key=lambda group: _position(seed, role, group))] = role
    return roles


def _position(seed: int, role: str, group: str) -> str:
    return hashlib.sha256(f"{seed}:{role}:{group}".encode()).hexdigest()


def _cut(table: pd.DataFrame, pieces: dict[str, float]) -> pd.DataFrame:
    """Cut each training sequence into train | gap | val | gap | gate."""
    rows = []
    for row in table.to_dict("records"):
        if row["role"] != "train":
            rows.append(row)
            continue
        n, gap = row["n_frames"], pieces["gap"]
        ends = {"gate": 1.0, "val": 1.0 - pieces["gate"] - gap}
        ends["train"] = ends["val"] - pieces["val"] - gap
        starts = {"train": 0.0, **{role: ends[role] - pieces[role] for role in ("val", "gate")}}
        for role in ("train", "val", "gate"):
            first, last = round(starts[role] * n), round(ends[role] * n) - 1
            piece = {"clip": f"{row['sequence']}:{first}-{last}", "role": role}
            rows.append(row | piece | {"first_frame": first, "last_frame": last})
    return pd.DataFrame(rows)


def role_counts(clips: pd.DataFrame) -> dict[str, float]:
    """Clips and groups of each role."""
    counts: dict[str, float] = {}
    for role in ROLES:
        part = clips[clips["role"] == role]
        counts[f"n_clips_{role}"] = len(part)
        counts[f"n_groups_{role}"] = part["group"].nunique()
    return counts

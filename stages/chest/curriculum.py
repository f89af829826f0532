"""The phases of the regressor's curriculum as evaluation finds them: names and parents are on their cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.model.card import CARD, load_card

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Phase:
    """A step of the regressor's curriculum.

    Attributes:
        parent: whose weights it began from; a name without predictions is where the curriculum starts.
        begun: what the weights at that start were: `random`, or what stands for the user's file.
        points: (n, 15, 2) raw px.
    """

    name: str
    parent: str
    begun: str
    points: np.ndarray


def read_phases(folder: Path, data: LabelledFilms, rows: np.ndarray, digest: str) -> list[Phase]:
    """The phases below a folder for the films `rows`, every parent before its children.

    Raises:
        StageError: if phases were trained on another split, lack films, or name a parent that is not there;
            names every one.
    """
    cards = {path.parent.name: load_card(path.parent) for path in sorted(folder.glob(f"*/{CARD}"))}
    with_points = [name for name in cards if (folder / name / PREDICTIONS).is_file()]
    parents = {name: str(cards[name].params.get("parent")) for name in with_points}
    problems = [f"{n}: its parent {p} is not there" for n, p in parents.items() if p not in cards]
    problems += [f"{n}: trained on another split" for n in with_points if cards[n].split_sha256 != digest]
    ids, points = data.films.ids[rows], {}
    for name in with_points:
        table = tables.read_table(folder / name / PREDICTIONS).set_index("id")["landmarks"]
        if missing := sorted(set(ids) - set(table.index)):
            problems.append(f"{name}: no points of {len(missing)} films: {', '.join(missing[:5])}")
        else:
            points[name] = tables.stack_points(table.loc[ids])
    if problems:
        raise StageError(f"{folder}: run `dvc repro` to train these phases again: {'; '.join(problems)}")

    def below(parent: str, begun: str) -> list[Phase]:
        children = [name for name in with_points if parents[name] == parent]
        return [p for n in children for p in (Phase(n, parent, begun, points[n]), *below(n, begun))]

    roots = [name for name in cards if name not in parents]
    return [p for root in roots for p in below(root, str(cards[root].params.get("start", "unknown")))]


def write_phases(path: Path, phases: Sequence[Phase]) -> None:
    """Columns phase, parent and begun, in the order of `phases`."""
    rows = [(p.name, p.parent, p.begun) for p in phases]
    table = pd.DataFrame(rows, columns=["phase", "parent", "begun"])
    table.to_csv(path, index=False, lineterminator="\n")


def last_phase(parents: Mapping[str, str]) -> list[str]:
    """The phase with the most phases before it (of several the last by name), or none: at most one name."""

    def depth(name: str) -> int:
        return 1 + depth(parents[name]) if parents[name] in parents else 0

    return sorted(parents, key=lambda name: (depth(name), name))[-1:]

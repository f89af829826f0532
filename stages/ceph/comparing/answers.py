"""What two models say of the same films, side by side.

All lengths are in percent of the label's S-N distance, which is known for every film with both points, with a
spacing or without. A is the model on trial, B the one that it would replace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.ceph.angles import ANGLES
from stages.ceph.evaluation.films import BASE, SETS, TUNED
from stages.ceph.evaluation.judge import MM, PERCENT
from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors

UNIT = "% of S–N"


@dataclass(frozen=True)
class Side:
    """What one model says of n films; NaN where there is no label.

    Attributes:
        errors: (n, K) percent of S-N.
        errors_mm: (n, K); NaN where the spacing is unknown.
        expected: (n, K) errors that the model expects, percent of S-N.
        angles_deg: name -> (n,) predicted minus label.
        points, labels: (n, K, 2) raw px.
    """

    errors: np.ndarray
    errors_mm: np.ndarray
    expected: np.ndarray
    angles_deg: dict[str, np.ndarray]
    points: np.ndarray
    labels: np.ndarray

    @property
    def film_errors(self) -> np.ndarray:
        """(n,) mean over the film's labelled points."""
        return film_errors(self.errors)


@dataclass(frozen=True)
class SideBySide:
    """Two models on the same films.

    Attributes:
        ids, patients, sets: (n,) of the films, by set and id.
        a, b: the model on trial and the one in use.
    """

    ids: np.ndarray
    patients: np.ndarray
    sets: np.ndarray
    a: Side
    b: Side

    @property
    def difference(self) -> np.ndarray:
        """(n,) film error of A minus that of B; below 0 where A is better."""
        return self.a.film_errors - self.b.film_errors

    def rows(self, name: str) -> np.ndarray:
        """Positions of the films of one set."""
        return np.flatnonzero(self.sets == name)


@dataclass(frozen=True)
class JudgedTables:
    """What ceph-evaluate says of films of all sets, with a column `set`: its tables of films, points and errors."""

    per_film: pd.DataFrame
    per_point: pd.DataFrame
    radial: pd.DataFrame

    @classmethod
    def read(cls, evaluation: Path) -> JudgedTables:
        """From the folder of ceph-evaluate."""

        def both(file: str) -> pd.DataFrame:
            parts = [tables.read_table(evaluation / name / file).assign(set=name) for name in SETS]
            return pd.concat(parts, ignore_index=True)

        return cls(both("per_film.parquet"), both("per_point.parquet"), both("radial.parquet"))


def side_by_side(judged: JudgedTables, role: str, a: str = TUNED, b: str = BASE) -> SideBySide:
    """The films of one role by two methods.

    Raises:
        StageError: a method is missing, or the two did not judge the same films.
    """
    films, sides = {}, {}
    for method in (a, b):
        own = [
            table[(table["role"] == role) & (table["method"] == method)]
            for table in (judged.per_film, judged.radial, judged.per_point)
        ]
        films[method] = own[0].sort_values(["set", "id"])
        sides[method] = _side(films[method], *(t.sort_values(["set", "id", "point"]) for t in own[1:]))
    first, second = films[a], films[b]
    if first["id"].to_list() != second["id"].to_list() or first.empty:
        differing = sorted(set(first["id"]) ^ set(second["id"]))[:10]
        raise StageError(
            f"{a} and {b} did not judge the same {role} films ({differing} by one of them only, {len(first)} and "
            f"{len(second)} in all); evaluate again"
        )
    return SideBySide(
        ids=first["id"].to_numpy(),
        patients=first["patient"].to_numpy(),
        sets=first["set"].to_numpy(),
        a=sides[a],
        b=sides[b],
    )


def _side(films: pd.DataFrame, radial: pd.DataFrame, points: pd.DataFrame) -> Side:
    k = CEPH.n_points

    def by_film(table: pd.DataFrame, *columns: str) -> np.ndarray:
        values = table[list(columns)].to_numpy(np.float64)
        return values.reshape(-1, k) if len(columns) == 1 else values.reshape(-1, k, len(columns))

    return Side(
        errors=by_film(radial, PERCENT),
        errors_mm=by_film(radial, MM),
        expected=by_film(radial, "expected_percent_sn"),
        angles_deg={name: films[f"{name.lower()}_error_deg"].to_numpy(np.float64) for name in ANGLES},
        points=by_film(points, "x_raw", "y_raw"),
        labels=by_film(points, "x_label_raw", "y_label_raw"),
    )

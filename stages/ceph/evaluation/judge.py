"""One method's answers against the truth: a row a film, and a row a point.

Errors come in three units. Raw px say nothing across films; mm need the film's spacing; percent of the S-N
distance of the label are known for every film and mean the same on all, so they are what sets with and without
a spacing are judged by together.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.ceph.angles import ANGLES
from stages.ceph.evaluation.films import Answers, JudgedFilms
from stages.ceph.measures import angle_errors, errors_mm, errors_percent_sn, in_proportion
from stages.ceph.schema import CEPH, INDEX
from stages.core.data import tables
from stages.core.evaluate.errors import film_errors, film_table, point_table, radial_errors

MM, PERCENT = "error_mm", "error_percent_sn"
COMMON = PERCENT
"""the error that is known for every film with a label of sella and nasion, whatever its spacing"""
UNITS = {MM: "mm", PERCENT: "% of S–N", "error_raw_px": "raw px"}
FILM_COLUMNS = [
    tables.column(MM, pa.float32(), "mm"),
    tables.column(PERCENT, pa.float32(), "percent of the label's S-N distance"),
    *(tables.column(f"{a.lower()}_error_deg", pa.float32(), "degrees, predicted - label") for a in ANGLES),
]
RADIAL_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "patient", "role", "method")),
        tables.column("point", pa.int32()),
        tables.column("error_raw_px", pa.float32(), "raw px"),
        tables.column(MM, pa.float32(), "mm"),
        tables.column(PERCENT, pa.float32(), "percent of the label's S-N distance"),
        tables.column("expected_raw_px", pa.float32(), "raw px"),
        tables.column("expected_mm", pa.float32(), "mm"),
        tables.column("expected_percent_sn", pa.float32(), "percent of the label's S-N distance"),
    ]
)
"""Columns of radial.parquet: errors of single points beside what the method expected; NaN where unknown."""


def sn_lengths(truth_raw: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(n,) distance of sella and nasion, in mm where the spacing (n, 2) is known, else in raw px; NaN without both."""
    placed = truth_raw * in_proportion(spacing_mm)[:, None]
    return np.linalg.norm(placed[:, INDEX["nasion"]] - placed[:, INDEX["sella"]], axis=-1)


def judge_films(films: JudgedFilms, method: str, answers: Answers) -> pd.DataFrame:
    """One row a film: the columns of `film_table` and FILM_COLUMNS."""
    films = films.where(answers.points)
    table = film_table(films.data, films.rows, method, answers.points)
    judged = answers.points, films.truth, films.spacing_mm
    table[MM], table[PERCENT] = film_errors(errors_mm(*judged)), film_errors(errors_percent_sn(*judged))
    for angle, error in angle_errors(*judged).items():
        table[f"{angle.lower()}_error_deg"] = error
    return table


def judge_points(films: JudgedFilms, method: str, answers: Answers) -> pd.DataFrame:
    """One row a film and point: the columns of `point_table`."""
    films = films.where(answers.points)
    return point_table(films.data, films.rows, method, answers.points)


def radial_table(films: JudgedFilms, method: str, answers: Answers) -> pd.DataFrame:
    """One row a film and point: the columns of RADIAL_SCHEMA."""
    films = films.where(answers.points)
    n, k = len(films.rows), CEPH.n_points
    judged = answers.points, films.truth, films.spacing_mm
    expected = np.full((n, k), np.nan) if answers.expected is None else answers.expected
    mm = expected * np.sqrt(films.spacing_mm.prod(-1))[:, None]
    known = np.isfinite(films.spacing_mm).all(-1)[:, None]
    in_unit = np.where(known, mm, expected)
    columns = {
        "error_raw_px": radial_errors(*judged[:2]),
        MM: errors_mm(*judged),
        PERCENT: errors_percent_sn(*judged),
        "expected_raw_px": expected,
        "expected_mm": mm,
        "expected_percent_sn": 100 * in_unit / sn_lengths(films.truth, films.spacing_mm)[:, None],
    }
    return pd.DataFrame(
        {
            "id": np.repeat(films.ids, k),
            "patient": np.repeat(films.data.patients[films.rows], k),
            "role": np.repeat(films.data.roles[films.rows], k),
            "method": method,
            "point": np.tile(np.arange(k), n),
            **{name: values.ravel() for name, values in columns.items()},
        }
    )

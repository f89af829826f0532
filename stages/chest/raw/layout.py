"""The raw layout of the chest data set: what lies where, and what can be wrong with it.

dataset/<class>/<name>.png                films; the folder is the class
coordenadas/coordenadas_maestro.csv       no header: index, x1, y1, ..., x15, y15, name without ending
split.csv                                 optional: filename,split with train, val, test
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stages.chest.raw.structure import GRID_CELLS, grid_values, structure_from_shape, structure_residuals
from stages.chest.schema import BOTTOM, CHEST, CLASSES, LABEL_SIZE, TOP
from stages.core.errors import StageError

LABEL_FILE = Path("coordenadas") / "coordenadas_maestro.csv"
FILM_FOLDER = "dataset"
SPLIT_FILE = "split.csv"
ENDINGS = (".png", ".jpg", ".jpeg")
GIVEN_ROLES = ("train", "val", "test")
DEFAULT_NAME = "covid15"
"""of the data set, where the folder has no dataset.json"""
Reason = Literal[
    "no_label",
    "missing_film",
    "unknown_class",
    "duplicate_name",
    "column_count",
    "not_a_number",
    "out_of_range",
    "axis_upside_down",
    "sides_swapped",
    "other_size",
    "copied_film",
    "class_mismatch",
    "stored_as_colour",
    "channels_differ",
    "on_border",
    "off_grid",
    "off_axis",
    "off_perpendicular",
]
"""why a film is left out or listed; what the decoder cannot read has reasons of its own, film_..."""
REASONS: tuple[Reason, ...] = get_args(Reason)
ROUNDING_CELLS = 1.5
"""departure from the fourteen degrees of freedom, in cells of the label grid, that rounding explains: the
greatest in 813 real labels is 1.45"""


@dataclass(frozen=True)
class Row:
    """One row of the label file: its line number, the film's name and the cells between index and name."""

    line: int
    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class RawChest:
    """A raw folder, listed but not judged: `films` holds every file of a name, by name."""

    folder: Path
    rows: tuple[Row, ...]
    films: dict[str, tuple[Path, ...]]

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Names of films without a row, sorted."""
        return tuple(sorted(self.films.keys() - {row.name for row in self.rows}))


@dataclass(frozen=True)
class Problem:
    """Why a film is left out or listed: a reason code and what was found."""

    reason: Reason
    detail: str


def read_raw(folder: Path) -> RawChest:
    """List films and label rows of a raw folder.

    Raises:
        StageError: if the folder does not have the layout; the message says what is missing.
    """
    lacking = [str(p) for p in (LABEL_FILE, Path(FILM_FOLDER)) if not (folder / p).exists()]
    if lacking:
        raise StageError(
            f"{folder} is no chest data set: it has no {' and no '.join(lacking)}. Expected "
            f"{FILM_FOLDER}/<class>/<name>.png and {LABEL_FILE}"
        )
    films: dict[str, list[Path]] = {}
    for path in sorted((folder / FILM_FOLDER).glob("*/*")):
        if path.suffix.lower() in ENDINGS:
            films.setdefault(path.stem, []).append(path)
    return RawChest(folder, read_rows(folder / LABEL_FILE), {name: tuple(p) for name, p in films.items()})


def read_rows(path: Path) -> tuple[Row, ...]:
    """Rows of the label file in its order; blank lines are skipped."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        return tuple(
            Row(reader.line_num, cells[-1].strip(), tuple(c.strip() for c in cells[1:-1]))
            for cells in reader
            if any(cell.strip() for cell in cells)
        )


def parse_points(cells: tuple[str, ...]) -> np.ndarray | Problem:
    """The points (15, 2) float64 in raw px of a row's cells, or what is wrong with the cells."""
    expected = 2 * CHEST.n_points
    if len(cells) != expected:
        return Problem("column_count", f"{len(cells)} coordinates instead of {expected}")
    values = [_number(cell) for cell in cells]
    if wrong := [
        f"{'xy'[i % 2]}{i // 2 + 1}={cells[i]!r}" for i, v in enumerate(values) if not np.isfinite(v)
    ]:
        return Problem("not_a_number", ", ".join(wrong))
    return np.array(values).reshape(-1, 2)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def judge_points(points: np.ndarray) -> Problem | None:
    """What makes points (15, 2) in raw px unusable: points off the film, or sides exchanged."""
    outside = ((points < 0) | (points > LABEL_SIZE - 1)).any(1)
    if outside.any():
        named = [f"{CHEST.names[i]}=({points[i, 0]:g}, {points[i, 1]:g})" for i in np.flatnonzero(outside)]
        return Problem("out_of_range", f"{', '.join(named)} on a film of {LABEL_SIZE} x {LABEL_SIZE}")
    if points[TOP, 1] >= points[BOTTOM, 1]:
        return Problem("axis_upside_down", "L1 is not above L2")
    _, _, left, right = structure_from_shape(points[None])
    if (left < 0).any() or (right < 0).any():
        count = int((left < 0).sum() + (right < 0).sum())
        return Problem("sides_swapped", f"{count} of 10 contour points lie on the other side of the axis")
    return None


def shape_findings(points: np.ndarray) -> dict[Reason, np.ndarray]:
    """What is odd about labels without spoiling them.

    Args:
        points: (N, 15, 2) in raw px.
    Returns:
        Finding -> (N,) bool: `on_border` (a point in the grid's first or last row or column: the lung may go
        on beyond the film), `off_grid` (a coordinate that the grid does not have), `off_axis` (L9, L10 or L11
        away from its quarter), `off_perpendicular` (a contour point away from its perpendicular).
    """
    quarters, along = (residuals.max(1) for residuals in structure_residuals(points))
    tolerance = ROUNDING_CELLS * LABEL_SIZE / GRID_CELLS
    grid = grid_values(LABEL_SIZE)
    return {
        "on_border": ((points <= grid[0]) | (points >= grid[-1])).any((1, 2)),
        "off_grid": np.any(~np.isin(points, grid), axis=(1, 2)),
        "off_axis": quarters > tolerance,
        "off_perpendicular": along > tolerance,
    }


def find_problems(raw: RawChest) -> tuple[dict[str, np.ndarray], dict[str, Problem]]:
    """Judge all rows of the label file without opening a film.

    Returns:
        Points (15, 2) in raw px by name of film, of rows that may be used, and the problem of every other
        name. Names that occur in differing rows are a problem; equal rows count once.
    """
    good: dict[str, np.ndarray] = {}
    bad: dict[str, Problem] = {}
    distinct: dict[str, set[tuple[str, ...]]] = {row.name: set() for row in raw.rows}
    for row in raw.rows:
        distinct[row.name].add(row.cells)
    repeated = Counter(row.name for row in raw.rows)
    for row in raw.rows:
        files = raw.films.get(row.name, ())
        points = parse_points(row.cells)
        if len(distinct[row.name]) > 1:
            bad[row.name] = Problem("duplicate_name", f"{repeated[row.name]} rows that differ")
        elif isinstance(points, Problem):
            bad[row.name] = Problem(points.reason, f"line {row.line}: {points.detail}")
        elif not files:
            bad[row.name] = Problem(
                "missing_film", f"line {row.line}: no film of this name in any class folder"
            )
        elif len(files) > 1:
            where = ", ".join(path.parent.name for path in files)
            bad[row.name] = Problem("duplicate_name", f"films of this name in {where}")
        elif files[0].parent.name not in CLASSES:
            expected = ", ".join(CLASSES)
            bad[row.name] = Problem("unknown_class", f"folder {files[0].parent.name} is none of {expected}")
        else:
            good[row.name] = points
    return good, bad


def read_given_split(raw: Path) -> dict[str, str] | None:
    """Role by name of film from split.csv, or None where the data set has none.

    Raises:
        StageError: wrong header, or rows with other roles, or names in two roles; names every offender.
    """
    path = raw / SPLIT_FILE
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != ["filename", "split"]:
            raise StageError(f"{path}: expected the header filename,split, found {reader.fieldnames}")
        rows = [(row["filename"].strip(), row["split"].strip()) for row in reader]
    given: dict[str, set[str]] = {}
    for name, role in rows:
        given.setdefault(name, set()).add(role)
    if wrong := sorted(
        name for name, roles in given.items() if len(roles) > 1 or not roles <= set(GIVEN_ROLES)
    ):
        raise StageError(
            f"{path}: every film needs one role of {', '.join(GIVEN_ROLES)}; see {', '.join(wrong)}"
        )
    return {name: roles.pop() for name, roles in given.items()}

"""A table of points as CSV, with comma, semicolon or tab, in px of the films; an empty cell is a missing point.

    long    file,landmark,x,y           one row a point
    wide    file,x1,y1,x2,y2,...        one row a film; also sella_x,sella_y or x_sella,y_sella

The first column may be called file, film, image, filename, name, id or path. Columns `patient`, and `width` and
`height` of the picture that was labelled, are taken where they are there; others are left alone.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from stages.core.errors import StageError
from stages.custom.raw.record import FilmLabel, LabelSet, Problem, frame_of

FILE = ("file", "film", "image", "filename", "file_name", "image_name", "image_path", "path", "name", "id")
LANDMARK = ("landmark", "point", "label", "keypoint", "landmark_name")
PATIENT = ("patient", "patient_id", "subject", "case")
_ENDING = re.compile(r"^(?P<name>.*?)[ _.\-]?(?P<axis>[xy])$")
_START = re.compile(r"^(?P<axis>[xy])[ _.\-]?(?P<name>.+)$")


def read(path: Path) -> LabelSet:
    """Read a table of points.

    Raises:
        StageError: its columns are none of the two forms, or it has no rows; says what was found.
    """
    rows = _rows(path)
    if len(rows) < 2:
        raise StageError(f"{path}: expected a header and rows, found {len(rows)} lines")
    header = [cell.strip().casefold() for cell in rows[0]]
    file = _column(header, FILE)
    landmark = _column(header, LANDMARK)
    pairs = _pairs(rows[0], {file, landmark, *(_column(header, (n,)) for n in (*PATIENT, "width", "height"))})
    long = landmark is not None and {"x", "y"} <= set(header)
    if file is None or not (long or pairs):
        raise StageError(
            f"{path}: expected columns file,landmark,x,y (one row a point) or file,x1,y1,x2,y2,... (one row a "
            f"film), found {', '.join(rows[0])}"
        )
    body = [row + [""] * (len(header) - len(row)) for row in rows[1:] if any(cell.strip() for cell in row)]
    entries = [(i, row) for i, row in enumerate(body, start=2)]
    films: dict[str, list[tuple[int, list[str]]]] = {}
    for i, row in entries:
        films.setdefault(row[file].strip(), []).append((i, row))
    named = {header.index("x"): "x", header.index("y"): "y"} if long else {}
    labels = [
        _label(name, own, header, landmark if long else None, pairs, named) for name, own in films.items()
    ]
    mentioned = (
        [row[landmark].strip() for _, row in entries] if landmark is not None and long else list(pairs)
    )
    first: dict[str, str] = {}
    for name in mentioned:
        first.setdefault(name.casefold(), name)
    return LabelSet(tuple(labels), tuple(first.values()))


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path} cannot be read as a table: {error}") from None
    head = text.split("\n", 1)[0]
    mark = max(",;\t", key=head.count)
    return list(csv.reader(text.splitlines(), delimiter=mark))


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _pairs(header: list[str], taken: set[int | None]) -> dict[str, tuple[int, int]]:
    """Name of a landmark -> columns of its x and y, in the order of the header."""
    found: dict[str, dict[str, int]] = {}
    for i, cell in enumerate(header):
        told = (
            None if i in taken else _START.match(cell.strip().lower()) or _ENDING.match(cell.strip().lower())
        )
        if told and told["name"]:
            start, end = told.span("name")
            name = cell.strip()[start:end]
            found.setdefault(f"point_{name}" if name.isdigit() else name, {})[told["axis"]] = i
    return {name: (axes["x"], axes["y"]) for name, axes in found.items() if len(axes) == 2}


def _label(
    name: str,
    rows: list[tuple[int, list[str]]],
    header: list[str],
    landmark: int | None,
    pairs: dict[str, tuple[int, int]],
    named: dict[int, str],
) -> FilmLabel:
    points, wrong = [], []
    columns = {axis: i for i, axis in named.items()}
    for line, row in rows:
        places = pairs if landmark is None else {row[landmark].strip(): (columns["x"], columns["y"])}
        for point, (x, y) in places.items():
            cells = row[x].strip(), row[y].strip()
            if not any(cells) or {c.casefold() for c in cells} <= {"nan", "na"}:
                continue
            try:
                points.append((point, _number(cells[0]), _number(cells[1])))
            except ValueError:
                wrong.append(f"line {line}, {point}: {cells[0]!r}, {cells[1]!r}")
    first = rows[0][1]
    patient = _column(header, PATIENT)
    width, height = (_column(header, (n,)) for n in ("width", "height"))
    frame = None if width is None or height is None else frame_of(first[width], first[height])
    problem = Problem("not_a_number", "; ".join(wrong)) if wrong else None
    said = "" if patient is None else first[patient].strip()
    return FilmLabel(f"line {rows[0][0]}", (name,), tuple(points), frame, said, problem)


def _number(cell: str) -> float:
    return float(cell.replace(",", "."))

"""What lies where in a folder of lateral films.

images/NAME.(jpg|png|bmp|tif|dcm)     films; NAME says nothing
labels/NAME.txt                       19 lines x,y in the label frame; later lines (ISBI's classes) are ignored
reader_*/NAME.json                    labelme files of further readers, one folder a reader
dataset.json                          optional: name, label frame and spacing (see described.py)
split.csv                             optional: name,role or file,role
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from stages.core.data.split import ROLES
from stages.core.errors import StageError

FILM_FOLDER, LABEL_FOLDER, READER_PREFIX = "images", "labels", "reader_"
SPLIT_FILE = "split.csv"
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".dcm", ".dicom")
Reason = Literal[
    "no_label",
    "missing_film",
    "duplicate_name",
    "copied_film",
    "label_unreadable",
    "line_count",
    "not_a_number",
    "other_aspect",
    "out_of_range",
    "out_of_order",
    "faces_left",
    "assumed_frame",
    "missing_point",
    "doubled_point",
    "unknown_point",
]
"""why a film is left out or listed; what the decoder cannot read has reasons of its own, film_..."""
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True)
class Problem:
    """Why a film or a label is left out or listed: a reason code and what was found."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class Listing:
    """A raw folder, listed but not judged.

    Attributes:
        films: name -> every film file of that name.
        labels: name -> its label file.
        readers: reader ("a" of the folder reader_a) -> name -> its labelme file.
    """

    folder: Path
    films: dict[str, tuple[Path, ...]]
    labels: dict[str, Path]
    readers: dict[str, dict[str, Path]]

    @property
    def labelled(self) -> set[str]:
        """Names with a label of anybody."""
        return set(self.labels).union(*self.readers.values())


def list_raw(folder: Path) -> Listing:
    """List films and label files of a raw folder.

    Raises:
        StageError: if the folder does not have the layout; the message says what is missing.
    """
    if not (folder / FILM_FOLDER).is_dir():
        raise StageError(
            f"{folder} holds no lateral films: it has no folder {FILM_FOLDER}. Expected {FILM_FOLDER}/NAME.jpg "
            f"with {LABEL_FOLDER}/NAME.txt or {READER_PREFIX}*/NAME.json"
        )
    films: dict[str, list[Path]] = {}
    for path in sorted((folder / FILM_FOLDER).iterdir()):
        if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            films.setdefault(path.stem, []).append(path)
    if not films:
        raise StageError(f"{folder / FILM_FOLDER} holds no film; known endings: {', '.join(ENDINGS)}")
    readers = {
        reader.name.removeprefix(READER_PREFIX): {path.stem: path for path in sorted(reader.glob("*.json"))}
        for reader in sorted(folder.glob(f"{READER_PREFIX}*"))
        if reader.is_dir()
    }
    labels = {path.stem: path for path in sorted((folder / LABEL_FOLDER).glob("*.txt"))}
    return Listing(folder, {name: tuple(paths) for name, paths in films.items()}, labels, readers)


def read_given_split(folder: Path) -> dict[str, str] | None:
    """Role by name of film from split.csv, or None where the data set has none.

    Raises:
        StageError: wrong header, or rows with other roles, or names in two roles; names every offender.
    """
    path = folder / SPLIT_FILE
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        header = reader.fieldnames or []
        named = next((column for column in ("name", "file") if column in header), None)
        if named is None or "role" not in header:
            raise StageError(f"{path}: expected the header name,role or file,role, found {','.join(header)}")
        rows = [((row[named] or "").strip(), (row["role"] or "").strip()) for row in reader]
    if named == "file":
        rows = [(Path(file).stem, role) for file, role in rows]
    counts = Counter(name for name, _ in set(rows))
    if wrong := sorted({name for name, role in rows if role not in ROLES or counts[name] > 1}):
        raise StageError(f"{path}: every film needs one role of {', '.join(ROLES)}; see {', '.join(wrong)}")
    return dict(rows)

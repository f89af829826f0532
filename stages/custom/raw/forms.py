"""Which form labels have, and their reader."""

from __future__ import annotations

from pathlib import Path

from stages.core.errors import StageError
from stages.custom.description import Form
from stages.custom.raw import coco, labelme, points
from stages.custom.raw.record import LabelSet, read_json

READERS = {"coco": coco.read, "labelme": labelme.read, "points": points.read}
WHAT = "a COCO file of key points (.json), a folder of labelme files, or a table of points (.csv)"


def form_of(path: Path) -> Form:
    """The form of labels at `path`.

    Raises:
        StageError: they have none that is known.
    """
    if path.is_dir():
        if any(path.glob("*.json")):
            return "labelme"
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "points"
    elif path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, dict) and "annotations" in content:
            return "coco"
        if isinstance(content, dict) and "shapes" in content:
            return "labelme"
    found = "does not exist" if not path.exists() else "is none of them"
    raise StageError(f"labels are expected to be {WHAT}; {path} {found}")


def read_labels(path: Path, form: Form) -> LabelSet:
    """Read labels of a form; StageError where they are of another."""
    return READERS[form](path)


def find_labels(folder: Path) -> Path:
    """The labels in a folder of films: a table, a COCO file, or labelme files beside the films or one level below.

    Raises:
        StageError: there are none, or several; names them.
    """
    found = []
    for path in sorted(folder.iterdir()):
        is_table = path.suffix.lower() in (".csv", ".tsv")
        is_coco = path.suffix.lower() == ".json" and _is_coco(path)
        if (path.is_file() and (is_table or is_coco)) or (path.is_dir() and any(path.glob("*.json"))):
            found.append(path)
    if any(path.suffix.lower() == ".json" and not _is_coco(path) for path in folder.glob("*.json")):
        found.append(folder)
    if len(found) != 1:
        said = ", ".join(p.name or str(p) for p in found) or "nothing of the kind"
        raise StageError(f"{folder} should hold labels once, as {WHAT}; there is {said}")
    return found[0]


def _is_coco(path: Path) -> bool:
    try:
        content = read_json(path)
    except StageError:
        return False
    return isinstance(content, dict) and "annotations" in content

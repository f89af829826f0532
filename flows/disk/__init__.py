"""What a checkout keeps on disk beside its outputs, what of it is needed and why, and removal of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Area(StrEnum):
    """Where things lie. The first four are what `plumbline clean` knows how to clean."""

    CACHE = "cache"
    CHECKPOINTS = "checkpoints"
    MLFLOW = "mlflow"
    PREFECT = "prefect"
    OUTPUTS = "outputs"
    RECORDS = "records"


DAY = 86_400.0
"""Seconds."""


@dataclass(frozen=True)
class Holding:
    """Something that takes up space.

    Attributes:
        area: where it lies.
        what: in words, with the lane or stage that it belongs to.
        bytes: its size.
        why: for what it is kept, or why it may go.
        paths: files and folders, those first that point at later ones: a removal that is cut short leaves
            nothing that points nowhere. Empty for what is never removed.
        touched: when the newest of it was written, seconds since the epoch.
        other_profile: may only go when somebody asks for what other profiles would be restored from.
        count: of files or folders in it.
        models: MLflow's ids of logged models that go with it.
    """

    area: Area
    what: str
    bytes: int
    why: str
    paths: tuple[Path, ...] = ()
    touched: float = 0.0
    other_profile: bool = False
    count: int = 1
    models: tuple[str, ...] = ()


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_symlink() or not path.exists():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file() and not f.is_symlink())


def newest(path: Path) -> float:
    """When a file, or the newest file below a folder, was last written; an empty folder's own time."""
    files = [f for f in path.rglob("*") if not f.is_dir()] if path.is_dir() else []
    return max(f.lstat().st_mtime for f in files or [path])

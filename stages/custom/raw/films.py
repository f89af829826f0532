"""The pictures of a folder: which file a label speaks of, and which are copies."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from stages.core.data.decode import DICOM_SUFFIXES

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", *DICOM_SUFFIXES)
MAX_PIXELS = 200_000_000
"""of a film whose size is asked for"""


class FilmFolder:
    """The pictures in a folder and below it, found by path, name or name without its ending; case counts nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        self._named: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            inside = path.relative_to(folder).as_posix()
            for name in {inside, inside.rpartition(".")[0], path.name, path.stem}:
                self._named[name.casefold()].append(path)

    def find(self, names: Iterable[str]) -> list[Path]:
        """Pictures of the first of `names` that any has: by its whole path, its last part, and that without ending."""
        for name in names:
            inside = PureWindowsPath(name).as_posix()
            last = PureWindowsPath(name).name
            for tried in (inside, last, PureWindowsPath(last).stem):
                if found := self._named.get(tried.casefold()):
                    return found
        return []

    def key(self, path: Path) -> str:
        """What a film is known by: its path inside the folder, without its ending."""
        return path.relative_to(self.folder).with_suffix("").as_posix()


def find_copies(films: Iterable[Path]) -> dict[Path, Path]:
    """Films whose bytes another film before them has -> that film: copies could lie in different roles."""
    first: dict[str, Path] = {}
    copies = {}
    for path in sorted(films):
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            continue
        if first.setdefault(digest, path) != path:
            copies[path] = first[digest]
    return copies

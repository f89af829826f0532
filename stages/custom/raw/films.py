"""The pictures of a folder: which file a label speaks of, and what a file tells before it is taken in."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from stages.core.data.decode import DICOM_SUFFIXES, FilmError, FilmLimits, decode_film

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", *DICOM_SUFFIXES)
_ANY_FILM = FilmLimits(min_side=1, max_pixels=200_000_000)
"""the engine applies the stage's own limits afterwards"""


@dataclass(frozen=True)
class FilmFacts:
    """Width and height of a film in px, and mm per px along x and y where the file states them."""

    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None


def film_facts(path: Path) -> FilmFacts | None:
    """Size and spacing of a film, or None where the file tells nothing. Only of DICOM the picture is read."""
    from PIL import Image, UnidentifiedImageError

    try:
        if path.suffix.lower() in DICOM_SUFFIXES:
            film = decode_film(path, _ANY_FILM)
            height, width = film.pixels.shape
            return FilmFacts((width, height), film.spacing_mm and (film.spacing_mm[1], film.spacing_mm[0]))
        with Image.open(path) as picture:
            return FilmFacts(picture.size)
    except (FilmError, UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None


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

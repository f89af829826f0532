"""What the files of films tell before any is taken in: size, spacing, copies.

Files that cannot be read are left to the conversion engine, which says what is wrong with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.ceph.raw.layout import Problem
from stages.core.data.decode import DICOM_SUFFIXES, FilmError, FilmLimits, decode_film

_ANY_FILM = FilmLimits(min_side=1, max_pixels=100_000_000)
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


def find_copies(films: Mapping[str, Path], pseudonyms: Mapping[str, str]) -> dict[str, Problem]:
    """All films but the last by name of those with equal bytes: they could lie in different roles.

    The last is kept because ISBI 2015 has training films that are there again among the higher numbers, which
    are tested: 038 is 283, and 144 is 173.
    """
    last: dict[str, str] = {}
    copies = {}
    for name in sorted(films, reverse=True):
        try:
            digest = hashlib.sha256(films[name].read_bytes()).hexdigest()
        except OSError:
            continue
        if last.setdefault(digest, name) != name:
            copies[name] = Problem("copied_film", f"the same file as {pseudonyms[last[digest]]}")
    return copies

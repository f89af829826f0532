"""What a file of a film tells before it is taken in.

A file that cannot be read is left to the conversion engine, which says what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.core.data.decode import DICOM_SUFFIXES, FilmError, FilmLimits, decode_film


@dataclass(frozen=True)
class FilmFacts:
    """Width and height of a film in px, and mm per px along x and y where the file states them."""

    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None


def film_facts(path: Path, max_pixels: int) -> FilmFacts | None:
    """Size and spacing of a film, or None where the file tells nothing.

    Only of DICOM the picture is read, up to `max_pixels`; the engine applies the stage's own limits afterwards.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if path.suffix.lower() in DICOM_SUFFIXES:
            film = decode_film(path, FilmLimits(min_side=1, max_pixels=max_pixels))
            height, width = film.pixels.shape
            return FilmFacts((width, height), film.spacing_mm and (film.spacing_mm[1], film.spacing_mm[0]))
        with Image.open(path) as picture:
            return FilmFacts(picture.size)
    except (FilmError, UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None

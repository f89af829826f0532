"""Rules of prediction that all film lanes share: which files are films, and whose films a model may read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.data.decode import DICOM_SUFFIXES, Film, FilmError, FilmLimits, decode_film
from stages.core.errors import StageError
from stages.core.model.card import ModelCard

LIMITS = FilmLimits(min_side=64, max_pixels=200_000_000)
"""Prediction and folder evaluation run outside a checkout, away from params.yaml. The largest digital films
have some 30 million pixels."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", *DICOM_SUFFIXES)


def read_films(card: ModelCard, files: Sequence[Path], allow_phantom: bool) -> dict[Path, Film | FilmError]:
    """Decode films, and the films in folders, for a model; what cannot be decoded stands as its error.

    Raises:
        StageError: no film could be read, or the model was trained on phantoms and some films are not
            phantoms (unless `allow_phantom`). Names every offender.
    """
    films: dict[Path, Film | FilmError] = {}
    for file in film_files(files):
        try:
            films[file] = decode_film(file, LIMITS)
        except FilmError as error:
            films[file] = error
    persons = [f"\n  {file}" for file, film in films.items() if isinstance(film, Film) and not film.phantom]
    if card.is_phantom and persons and not allow_phantom:
        raise StageError(
            "this model was trained on generated films (phantoms) and must not read a person's film. Train "
            f"one on real films, or say --allow-phantom to see what it does nevertheless:{''.join(persons)}"
        )
    if not any(isinstance(film, Film) for film in films.values()):
        problems = "".join(f"\n  {file}: {error}" for file, error in films.items())
        raise StageError(f"none of {len(films)} files can be read as a film:{problems}")
    return films


def film_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are named, folders as the pictures in them (by name, not deeper)."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise StageError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
        files += found
    return files


def provenance(card: ModelCard) -> dict[str, Any]:
    """What every answer of a model says about it."""
    return {
        "lane": card.lane,
        "trained_on": card.dataset,
        "model_key": card.key,
        "notice": "research use only",
    }


def overlay_names(files: Sequence[Path]) -> dict[Path, str]:
    """A file name of its own for the overlay of each film: its stem, with a number where stems repeat."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        name, count = f"{file.stem}.overlay.png", 2
        while name in taken:
            name, count = f"{file.stem}-{count}.overlay.png", count + 1
        taken.add(name)
        names[file] = name
    return names

"""What the files of films tell before any is taken in: size, colour, copies, and the class in their names.

Files that cannot be read are left to the conversion engine, which says what is wrong with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.chest.raw.layout import Problem
from stages.chest.schema import CHEST, CLASSES, LABEL_SIZE
from stages.core.data.films import pseudonym

COLOUR_MODES = ("RGB", "RGBA", "P", "CMYK", "YCbCr")
"""Pillow's names of what may hold colours"""


def size_problem(path: Path) -> Problem | None:
    """A film of another size than its label was made for."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None
    if (width, height) == (LABEL_SIZE, LABEL_SIZE):
        return None
    return Problem("other_size", f"{width} x {height} px; labels are for {LABEL_SIZE} x {LABEL_SIZE}")


def colour_findings(path: Path) -> list[Problem]:
    """`stored_as_colour` of a film that is not stored as grey, and `channels_differ` where it is not grey."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in COLOUR_MODES:
                return []
            mode, channels = image.mode, np.asarray(image.convert("RGB"), np.int16)
    except (OSError, SyntaxError, ValueError):
        return []
    found = [Problem("stored_as_colour", f"pixel mode {mode}; converted to grey")]
    if difference := int(np.ptp(channels, axis=2).max()):
        found.append(Problem("channels_differ", f"by up to {difference} of 255; converted to grey"))
    return found


def class_finding(path: Path) -> Problem | None:
    """A film whose name begins with another class than that of its folder.

    Film and label find each other by the name, so that the points still belong to the picture. Only the class,
    by which tables are grouped, is in doubt; the folder's is taken. Names that begin with no class are fine.
    """
    claimed = [folder for folder, prefix in CLASSES.items() if path.name.startswith((prefix, folder))]
    if not claimed or path.parent.name in claimed:
        return None
    return Problem("class_mismatch", f"its name begins with {CLASSES[claimed[0]]}, in {path.parent.name}")


def find_copies(films: Mapping[str, Path]) -> dict[str, Problem]:
    """All films but the first by name of those with equal bytes: they could lie in different roles."""
    first: dict[str, str] = {}
    copies = {}
    for name in sorted(films):
        digest = hashlib.sha256(films[name].read_bytes()).hexdigest()
        if first.setdefault(digest, name) != name:
            original = pseudonym(CHEST.lane, first[digest])
            copies[name] = Problem("copied_film", f"the same file as {original}")
    return copies

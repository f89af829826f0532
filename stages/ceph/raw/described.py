"""dataset.json beside lateral films: the frame that their labels are in, and millimetres.

    {"name": "isbi2015", "label_frame": [1935, 2400], "spacing_mm": 0.1}

label_frame is width, height in px; without it labels are in the px of the films. spacing_mm is mm per px of that
frame, a number or [x, y]; without it, or with null, lengths are unknown. The usual other spellings are known
too, and `film_spacing_mm` is mm per px of the films as they are stored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.ceph.raw.layout import FILM_FOLDER
from stages.ceph.schema import ISBI_FRAME, ISBI_SPACING_MM
from stages.core.errors import StageError

FRAME_KEYS = ("label_frame", "labels_frame", "frame", "label_size", "labels_size", "original_size")
SCALE_KEYS = ("film_scale", "image_scale", "images_scale", "scale")
SPACING_KEYS = (
    "spacing_mm",
    "mm_per_px",
    "mm_per_pixel",
    "pixel_spacing_mm",
    "label_spacing_mm",
    "labels_spacing_mm",
    "pixel_spacing",
    "spacing",
)
FILM_SPACING_KEYS = ("film_spacing_mm", "films_spacing_mm", "image_spacing_mm", "images_spacing_mm")
_KNOWN = {"name", "lane", "films", "seed", *FRAME_KEYS, *SCALE_KEYS, *SPACING_KEYS, *FILM_SPACING_KEYS}
ASPECT_TOLERANCE = 0.01
"""by which width over height of a film may differ from that of the frame of its labels, relative"""

Pair = tuple[float, float]


@dataclass(frozen=True)
class Described:
    """What dataset.json says about all films of a folder.

    Attributes:
        frame: (width, height) px of the frame of the labels; None for that of each film.
        scale: of the films, relative to the frame of the labels, where that is said instead of the frame.
        spacing_mm: (x, y) mm per px of that frame; None where it is unknown.
        film_spacing_mm: (x, y) mm per px of the films; goes before `spacing_mm`.
        unknown: keys that say nothing here.
    """

    frame: Pair | None = None
    scale: float | None = None
    spacing_mm: Pair | None = None
    film_spacing_mm: Pair | None = None
    unknown: tuple[str, ...] = ()

    def frame_of(self, size: Pair) -> Pair | None:
        """(width, height) of the frame that the labels of a film of this size are in; None if it cannot be."""
        if self.frame is None:
            return size if self.scale is None else (size[0] / self.scale, size[1] / self.scale)
        turned = (self.frame[1], self.frame[0])
        return next((frame for frame in (self.frame, turned) if same_aspect(frame, size)), None)

    def film_spacing(self, size: Pair) -> Pair | None:
        """(x, y) mm per px of a film of this size, or None."""
        frame = self.frame_of(size)
        if self.film_spacing_mm is not None or self.spacing_mm is None or frame is None:
            return self.film_spacing_mm
        return self.spacing_mm[0] * frame[0] / size[0], self.spacing_mm[1] * frame[1] / size[1]


ISBI = Described(frame=ISBI_FRAME, spacing_mm=(ISBI_SPACING_MM, ISBI_SPACING_MM))
"""what holds for ISBI's films where no dataset.json says it"""


def same_aspect(a: Pair, b: Pair) -> bool:
    """Whether two sizes (width, height) are those of one picture, stored at different scales."""
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) <= ASPECT_TOLERANCE


def read_described(folder: Path) -> Described:
    """Read dataset.json of a raw folder, or of the folder of its films; all unknown where there is none.

    Raises:
        StageError: not JSON, or a frame or spacing that is none; the message says what was expected.
    """
    places = [folder / "dataset.json", folder / FILM_FOLDER / "dataset.json"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return Described()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise StageError(f"{path}: expected a JSON object, found something else ({error})") from None
    found = dict(_leaves(content))

    def first(keys: tuple[str, ...], what: str) -> Pair | None:
        for key in keys:
            if found.get(key) is not None:
                pair = _pair(found[key])
                if pair is None:
                    raise StageError(f"{path}: {key} must be {what}, not {found[key]!r}")
                return pair
        return None

    scale = first(SCALE_KEYS, "a number > 0")
    return Described(
        frame=first(FRAME_KEYS, "[width, height] in px"),
        scale=scale[0] if scale else None,
        spacing_mm=first(SPACING_KEYS, "mm per px of the label frame: a number > 0, [x, y] or null"),
        film_spacing_mm=first(FILM_SPACING_KEYS, "mm per px of the films: a number > 0, [x, y] or null"),
        unknown=tuple(sorted(found.keys() - _KNOWN)),
    )


def _leaves(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(key, value) of an object and of the objects in it, as `labels: {frame: ..}`; a size stays whole."""
    for key, value in content.items():
        name = key.strip().lower().replace("-", "_").replace(" ", "_")
        if isinstance(value, dict) and _pair(value) is None:
            yield from _leaves(value)
        else:
            yield name, value


def _pair(value: Any) -> Pair | None:
    """Two positive numbers of what states a size or spacing: 0.1, [0.1, 0.1], {"width": ..}, "1935x2400"."""
    if isinstance(value, dict):
        value = [value.get(a, value.get(b)) for a, b in (("width", "x"), ("height", "y"))]
    if isinstance(value, str):
        value = re.findall(r"\d+(?:\.\d+)?", value)
        value = value if len(value) == 2 else None
    try:
        first, second = value if isinstance(value, list | tuple) else (value, value)
        pair = float(first), float(second)
    except (TypeError, ValueError):
        return None
    return pair if all(math.isfinite(v) and v > 0 for v in pair) else None

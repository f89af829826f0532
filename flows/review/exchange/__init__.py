"""Points to and from other annotation programs: Label Studio JSON, labelme and COCO key points.

All three are read and written with px as their own converters count them, which is how the raw readers of the
lanes take such files too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.review.exchange import coco, label_studio, labelme
from flows.review.exchange.record import FilmPoints
from stages.core.data.schema import LandmarkSchema


@dataclass(frozen=True)
class Format:
    """One program's format: how films with points are written to a path and read from it."""

    write: Callable[[Path, list[FilmPoints], LandmarkSchema], None]
    read: Callable[[Path, LandmarkSchema], list[FilmPoints]]
    what: str


FORMATS = {
    "label-studio": Format(label_studio.write, label_studio.read, "a JSON file of tasks"),
    "labelme": Format(labelme.write, labelme.read, "a folder with a JSON file a film"),
    "coco": Format(coco.write, coco.read, "a JSON file of COCO key points"),
}

__all__ = ["FORMATS", "FilmPoints", "Format"]

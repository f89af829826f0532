"""labelme: a folder with one JSON file a film, each landmark a shape of the kind "point".

A landmark that is not visible is left out, as labelme has no place for such a statement; a point that was placed
without being seen carries the flag "occluded".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.review.exchange.record import FilmPoints, Placed, read_json, require_known, write_json
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError

VERSION = "5.0.1"
"""of labelme's file format"""
OCCLUDED = "occluded"


def write(path: Path, films: list[FilmPoints], schema: LandmarkSchema) -> None:
    """Write FILM.json for each film into the folder `path`; pictures are not copied."""
    for film in films:
        shapes = [
            {
                "label": name,
                "points": [[film.points[name].x, film.points[name].y]],
                "group_id": None,
                "shape_type": "point",
                "flags": {} if film.points[name].visible else {OCCLUDED: True},
            }
            for name in schema.names
            if name in film.points
        ]
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{film.film}.png",
            "imageData": None,
            "imageHeight": film.height,
            "imageWidth": film.width,
        }
        write_json(path / f"{film.film}.json", content)


def read(path: Path, schema: LandmarkSchema) -> list[FilmPoints]:
    """The films of a folder, or of one file; the name of a file is the film's pseudonym.

    Raises:
        StageError: there are no such files, or one is no labelme file, names other landmarks or one twice.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise StageError(f"{path} holds no labelme files (*.json)")
    return [_read_one(file, schema) for file in files]


def _read_one(file: Path, schema: LandmarkSchema) -> FilmPoints:
    content = read_json(file)
    try:
        shapes = [shape for shape in content["shapes"] if shape["shape_type"] == "point"]
        labels = [str(shape["label"]) for shape in shapes]
        points = {
            str(shape["label"]): Placed(
                float(shape["points"][0][0]),
                float(shape["points"][0][1]),
                not shape.get("flags", {}).get(OCCLUDED, False),
            )
            for shape in shapes
        }
        size = int(content["imageWidth"]), int(content["imageHeight"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise StageError(f"{file} is not a labelme file: {type(error).__name__} {error}") from None
    require_known(file, set(labels), schema)
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise StageError(f"{file} has two points of {', '.join(twice)}")
    return FilmPoints(file.stem, *size, points)

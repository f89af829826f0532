"""COCO key points: one JSON file with images, one annotation a film, and visibility.

    v = 2    placed and visible
    v = 1    placed without being seen
    v = 0    no place: COCO does not tell "not visible" from "not labelled", so those come back as not labelled

The box of an annotation is that of its placed points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.review.exchange.record import FilmPoints, Placed, read_json, require_known, write_json
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError


def write(path: Path, films: list[FilmPoints], schema: LandmarkSchema) -> None:
    """Write a COCO file; pictures are named by the film's pseudonym and are not copied."""
    category = {
        "id": 1,
        "name": schema.lane,
        "supercategory": "film",
        "keypoints": list(schema.names),
        "skeleton": [[a + 1, b + 1] for a, b in schema.edges],
    }
    images = [
        {"id": i, "file_name": f"{film.film}.png", "width": film.width, "height": film.height}
        for i, film in enumerate(films, start=1)
    ]
    annotations = [_annotation(i, film, schema) for i, film in enumerate(films, start=1)]
    write_json(path, {"images": images, "annotations": annotations, "categories": [category]})


def _annotation(number: int, film: FilmPoints, schema: LandmarkSchema) -> dict[str, Any]:
    flat: list[float] = []
    for name in schema.names:
        point = film.points.get(name)
        flat += [point.x, point.y, 2 if point.visible else 1] if point else [0, 0, 0]
    xs, ys = [p.x for p in film.points.values()], [p.y for p in film.points.values()]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)] if film.points else [0, 0, 0, 0]
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": flat,
        "num_keypoints": len(film.points),
        "bbox": box,
        "area": box[2] * box[3],
    }


def read(path: Path, schema: LandmarkSchema) -> list[FilmPoints]:
    """The films of a COCO file, by image; key points are known by their category's names, in any order.

    Raises:
        StageError: the file is no COCO file, names other landmarks, or has two annotations of one film.
    """
    content = read_json(path)
    try:
        images = {image["id"]: image for image in content["images"]}
        names = {category["id"]: category["keypoints"] for category in content["categories"]}
        found = [
            _film(images[one["image_id"]], names[one["category_id"]], one["keypoints"])
            for one in content["annotations"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StageError(f"{path} is no COCO file of key points: {type(error).__name__} {error}") from None
    require_known(path, {name for own in names.values() for name in own}, schema)
    films = [one.film for one in found]
    if twice := sorted({film for film in films if films.count(film) > 1}):
        raise StageError(f"{path} has two annotations of {', '.join(twice)}")
    return found


def _film(image: dict[str, Any], names: list[str], flat: list[float]) -> FilmPoints:
    if len(flat) != 3 * len(names):
        raise ValueError(f"{len(flat)} numbers for {len(names)} key points of {image['file_name']}")
    points = {
        name: Placed(float(flat[3 * i]), float(flat[3 * i + 1]), flat[3 * i + 2] == 2)
        for i, name in enumerate(names)
        if flat[3 * i + 2] > 0
    }
    return FilmPoints(Path(image["file_name"]).stem, int(image["width"]), int(image["height"]), points)

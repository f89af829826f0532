"""COCO key points: one JSON file with images, annotations with visibility, and categories with a skeleton.

Points of visibility 0 have no place; 1 (placed without being seen) counts as 2. All annotations of an image
belong to one film, so that categories may share it out; a landmark that two of them place is doubled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.core.errors import StageError
from stages.custom.raw.record import FilmLabel, LabelSet, Problem, frame_of, read_json


def read(path: Path) -> LabelSet:
    """Read a COCO file.

    Raises:
        StageError: it is no COCO file of key points; names every annotation that points nowhere.
    """
    content = read_json(path)
    try:
        images = {image["id"]: image for image in content["images"]}
        categories = {c["id"]: c for c in content["categories"] if c.get("keypoints")}
        annotations = [one for one in content["annotations"] if one.get("keypoints")]
        names = {i: [str(n).strip() for n in c["keypoints"]] for i, c in categories.items()}
        skeleton = [
            (names[i][a - 1], names[i][b - 1])
            for i, c in categories.items()
            for a, b in c.get("skeleton") or ()
        ]
        files = {i: str(image["file_name"]) for i, image in images.items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StageError(f"{path} is no COCO file of key points: {type(error).__name__} {error}") from None
    lost = [
        f"annotation {one.get('id', '?')}: image {one.get('image_id')!r}, category {one.get('category_id')!r}"
        for one in annotations
        if one.get("image_id") not in images or one.get("category_id") not in names
    ]
    if lost:
        raise StageError(f"{path}: these annotations speak of no image or category:\n  " + "\n  ".join(lost))
    if not annotations:
        raise StageError(f"{path} holds no annotation with key points")
    by_image: dict[Any, list[dict[str, Any]]] = {i: [] for i in images}
    for one in annotations:
        by_image[one["image_id"]].append(one)
    labels = [_label(files[i], images[i], own, names) for i, own in by_image.items() if own]
    declared = dict.fromkeys(name for own in names.values() for name in own)
    return LabelSet(tuple(labels), tuple(declared), tuple(dict.fromkeys(skeleton)))


def _label(
    file: str, image: dict[str, Any], annotations: list[dict[str, Any]], names: dict[Any, list[str]]
) -> FilmLabel:
    points: list[tuple[str, float, float]] = []
    problem = None
    for one in annotations:
        own, flat = names[one["category_id"]], one["keypoints"]
        if len(flat) != 3 * len(own):
            problem = Problem("label_shape", f"{len(flat)} numbers for {len(own)} key points")
            continue
        try:
            triples = [tuple(map(float, flat[i : i + 3])) for i in range(0, len(flat), 3)]
        except (TypeError, ValueError) as error:
            problem = Problem("not_a_number", str(error))
            continue
        points += [(name, x, y) for name, (x, y, v) in zip(own, triples, strict=True) if v > 0]
    frame = frame_of(image.get("width"), image.get("height"))
    patient = next(
        (str(image[k]) for k in ("patient", "patient_id", "subject") if image.get(k) is not None), ""
    )
    return FilmLabel(f"image {image['id']}", (file,), tuple(points), frame, patient, problem)

"""Label Studio: a JSON file of tasks, each landmark a `keypointlabels` result with its place in percent.

`CONFIG` is the labelling interface that shows such tasks. Points go out as predictions that a person can take
over and move; what persons said (`annotations`) comes back, the last annotation of a task, and tasks that nobody
annotated do not. A landmark that is
not visible is listed by a `choices` result, as a point in Label Studio always has a place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.review.exchange.record import FilmPoints, Placed, read_json, require_known, write_json
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError

POINTS, FILM, HIDDEN = "points", "film", "hidden"
"""names of the tags of the labelling interface"""
POINT_WIDTH = 0.4
"""percent of the film's width, of a mark as Label Studio draws it"""


def labelling_interface(schema: LandmarkSchema) -> str:
    """The labelling interface (XML) of a lane, for a project's settings."""
    labels = "".join(f'<Label value="{name}"/>' for name in schema.names)
    choices = "".join(f'<Choice value="{name}"/>' for name in schema.names)
    return (
        f'<View><Image name="{FILM}" value="$image" zoom="true" zoomControl="true" brightnessControl="true" '
        f'contrastControl="true"/><KeyPointLabels name="{POINTS}" toName="{FILM}">{labels}</KeyPointLabels>'
        f'<Header value="Not visible"/><Choices name="{HIDDEN}" toName="{FILM}" choice="multiple">{choices}'
        "</Choices></View>"
    )


def write(path: Path, films: list[FilmPoints], schema: LandmarkSchema) -> None:
    """Write tasks to the file `path`, and the labelling interface beside it as `<name>.xml`."""
    write_json(path, [_task(film, schema) for film in films])
    path.with_suffix(".xml").write_text(labelling_interface(schema) + "\n", encoding="utf-8")


def _task(film: FilmPoints, schema: LandmarkSchema) -> dict[str, Any]:
    frame = {"original_width": film.width, "original_height": film.height, "image_rotation": 0}
    result: list[dict[str, Any]] = [
        {
            "id": f"{film.film}-{name}",
            "from_name": POINTS,
            "to_name": FILM,
            "type": "keypointlabels",
            **frame,
            "value": {
                "x": 100 * film.points[name].x / film.width,
                "y": 100 * film.points[name].y / film.height,
                "width": POINT_WIDTH,
                "keypointlabels": [name],
            },
            "meta": {} if film.points[name].visible else {"text": ["occluded"]},
        }
        for name in schema.names
        if name in film.points
    ]
    if film.hidden:
        chosen = [name for name in schema.names if name in film.hidden]
        result.append(
            {"from_name": HIDDEN, "to_name": FILM, "type": "choices", **frame, "value": {"choices": chosen}}
        )
    data = {"image": f"{film.film}.png", "film": film.film, "width": film.width, "height": film.height}
    return {"data": data, "predictions": [{"model_version": "plumbline", "result": result}]}


def read(path: Path, schema: LandmarkSchema) -> list[FilmPoints]:
    """The films of an exported file that somebody annotated, as the last annotation has them.

    Raises:
        StageError: the file is no export of tasks, or names other landmarks.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise StageError(f"{path} is no list of tasks: export the project as JSON")
    films = [_read_task(path, number, task, schema) for number, task in enumerate(tasks)]
    return [film for film in films if film is not None]


def _read_task(path: Path, number: int, task: Any, schema: LandmarkSchema) -> FilmPoints | None:
    try:
        film = str(task["data"]["film"])
        said = [one for one in task.get("annotations", []) if not one.get("was_cancelled", False)]
        if not said:
            return None
        points: dict[str, Placed] = {}
        hidden: set[str] = set()
        size = task["data"].get("width"), task["data"].get("height")
        for one in said[-1]["result"]:
            if one["type"] == "choices":
                hidden |= set(map(str, one["value"]["choices"]))
            if one["type"] == "keypointlabels":
                size = int(one["original_width"]), int(one["original_height"])
                value = one["value"]
                place = float(value["x"]) * size[0] / 100, float(value["y"]) * size[1] / 100
                seen = "occluded" not in one.get("meta", {}).get("text", [])
                points[str(value["keypointlabels"][0])] = Placed(*place, seen)
        if None in size:
            raise KeyError("original_width")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise StageError(
            f"{path}, task {number} is none of key points: {type(error).__name__} {error}"
        ) from None
    require_known(path, set(points) | hidden, schema)
    return FilmPoints(film, int(size[0]), int(size[1]), points, frozenset(hidden - set(points)))

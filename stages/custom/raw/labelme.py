"""labelme: a folder with one JSON file a film, each landmark a shape of the kind "point".

A film is known by `imagePath`, or where there is no such picture by the name of the JSON file.
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from stages.core.errors import StageError
from stages.custom.raw.record import FilmLabel, LabelSet, Problem, frame_of, mentioned, read_json


def read(path: Path) -> LabelSet:
    """Read a folder of labelme files; other JSON files in it become labels that cannot be used.

    Raises:
        StageError: no file in it is labelme's.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    labels = tuple(_label(file) for file in files)
    if not any(label.problem is None for label in labels):
        said = "".join(f"\n  {label.source}: {label.problem.detail}" for label in labels if label.problem)
        raise StageError(f"{path} holds no labelme file with points (*.json){said}")
    return LabelSet(labels, mentioned(labels))


def _label(file: Path) -> FilmLabel:
    try:
        content = read_json(file)
        shapes = [s for s in content["shapes"] if s.get("shape_type", "point") == "point"]
        points = tuple(
            (str(s["label"]).strip(), float(s["points"][0][0]), float(s["points"][0][1])) for s in shapes
        )
        size = content.get("imageWidth"), content.get("imageHeight")
        named = PureWindowsPath(str(content.get("imagePath") or "")).name  # takes both kinds of slashes
    except (StageError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        found = Problem("label_unreadable", f"not a labelme file ({type(error).__name__})")
        return FilmLabel(file.name, (file.stem,), problem=found)
    frame = frame_of(*size)
    return FilmLabel(file.name, (*([named] if named else []), file.stem), points, frame)

"""What goes between programs: the points of one film, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.review.events import SHOWN


@dataclass(frozen=True)
class Placed:
    """A point, raw px; `visible` is False where somebody placed it without seeing it."""

    x: float
    y: float
    visible: bool = True


@dataclass(frozen=True)
class FilmPoints:
    """The points of one film.

    Attributes:
        film: pseudonym.
        width, height: of the film, raw px.
        points: landmark -> where it is. A landmark that is not here has no label.
        hidden: landmarks that were looked for and are not visible; they have no place.
    """

    film: str
    width: int
    height: int
    points: Mapping[str, Placed]
    hidden: frozenset[str] = field(default=frozenset())


def read_json(path: Path) -> Any:
    """A JSON file; StageError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} does not exist") from None
    except (ValueError, OSError) as error:
        raise StageError(f"{path} is not a JSON file: {error}") from None


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def require_known(path: Path, names: set[str], schema: LandmarkSchema) -> None:
    """Raise StageError naming the labels that are no landmarks of the lane."""
    if strange := sorted(names - set(schema.names)):
        raise StageError(
            f"{path}: no landmarks of the lane {schema.lane}: {', '.join(strange[:SHOWN])}; "
            f"it has {', '.join(schema.names)}"
        )

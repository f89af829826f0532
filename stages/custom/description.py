"""The description of a lane, data/lanes/NAME.json: what its landmarks are and how its labels are to be read.

It is plain text for people to correct: a guessed mirror partner, a group for the report, a line of the skeleton.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError

Form = Literal["coco", "labelme", "points"]
FOLDER = Path("data/lanes")


class LaneDescription(BaseModel):
    """Attributes:
    name: of the lane: its stages, its folders and its section of params.yaml.
    title: heading of the report.
    dataset: models are registered as `<name>-<dataset>`; "phantom" for generated films.
    form: of the labels.
    landmarks: names in order, as the labels spell them (upper and lower case are one).
    mirror: pairs of names that change places when a film is mirrored. Without any, no film is mirrored.
    groups: name of a part -> its landmarks, for the report.
    skeleton: pairs of names to draw a line between.
    ignored: names in the labels that are no landmarks of this lane.
    spacing_mm: mm a px of every film whose file states none; null where it is unknown.
    patients: regular expression on a film's name without its ending whose first group (or whole match) is the
        patient; null where the labels' own column says it or nothing does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern="^[a-z][a-z0-9_]*$")
    title: str
    dataset: str = Field(pattern="^[A-Za-z0-9_-]+$")
    form: Form
    landmarks: tuple[str, ...] = Field(min_length=2)
    mirror: tuple[tuple[str, str], ...] = ()
    groups: dict[str, tuple[str, ...]] = {}
    skeleton: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    spacing_mm: float | None = Field(default=None, gt=0)
    patients: str | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> LaneDescription:
        used = [n for part in (*self.mirror, *self.skeleton, *self.groups.values()) for n in part]
        if unknown := sorted(set(used) - set(self.landmarks)):
            raise ValueError(f"no landmarks {', '.join(unknown)}; there are {', '.join(self.landmarks)}")
        if len({n.casefold() for n in self.landmarks}) != len(self.landmarks):
            raise ValueError("names of landmarks repeat (upper and lower case are one)")
        _ = self.schema
        return self

    @property
    def schema(self) -> LandmarkSchema:  # type: ignore[override]
        index = {name: i for i, name in enumerate(self.landmarks)}
        return LandmarkSchema(
            lane=self.name,
            names=self.landmarks,
            pairs=tuple((index[a], index[b]) for a, b in self.mirror),
            groups={name: tuple(index[n] for n in part) for name, part in self.groups.items()},
            edges=tuple((index[a], index[b]) for a, b in self.skeleton),
        )


def description_file(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name}.json"


def read_description(path: Path) -> LaneDescription:
    """Read a description.

    Raises:
        StageError: the file is missing or wrong; the message names every wrong field.
    """
    try:
        return LaneDescription.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} does not exist: `plumbline new-lane` writes it") from None
    except ValidationError as error:
        wrong = "".join(f"\n  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise StageError(f"{path} does not describe a lane:{wrong}") from None


def write_description(path: Path, described: LaneDescription) -> None:
    """Write a description, one line a field, lists of pairs one line a pair."""
    entries = []
    for name, value in described.model_dump(mode="json").items():
        if name in ("mirror", "skeleton") and value:
            body = ",\n    ".join(json.dumps(pair, ensure_ascii=False) for pair in value)
            text = f"[\n    {body}\n  ]"
        elif name == "groups" and value:
            body = ",\n    ".join(
                f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()
            )
            text = f"{{\n    {body}\n  }}"
        else:
            text = json.dumps(value, ensure_ascii=False)
        entries.append(f'  "{name}": {text}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")

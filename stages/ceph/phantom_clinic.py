"""The made-up films of a clinic: another machine, two readers, and landmarks that they define differently.

images/NNN.jpg                          films of a size and scale that nobody states
reader_a/NNN.json, reader_b/NNN.json    labelme files, points l1 to l19
dataset.json                            name, and that the spacing is unknown
planted.csv                             file, defect, detail: what was spoilt on purpose
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.phantom_film import Look, draw_film, encode_film, place_head
from stages.ceph.phantom_shape import Measures, read_points, sample_head, shift_convention
from stages.ceph.schema import CEPH, NAMES
from stages.core.data import geometry
from stages.core.data.pool import map_unordered
from stages.core.errors import StageError
from stages.core.stage import Observer

READERS = ("a", "b")


class ClinicDefects(BaseModel):
    """How many label files of the clinic get each defect."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    missing_point: int
    doubled_point: int
    no_label: int  # no file of reader b


class ClinicParams(BaseModel):
    """The clinic's set.

    Attributes:
        films: how many.
        look: its machine.
        convention: landmark -> (x, y) mm by which this clinic sets it elsewhere, in the frame of the head.
        reader_noise: of each reader, in the spreads of one reader.
        defects: of its label files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    films: int
    look: Look
    convention: dict[str, tuple[float, float]]
    reader_noise: float = Field(ge=0)
    defects: ClinicDefects


def write_clinic(
    params: ClinicParams, measures: Measures, seed: int, workers: int, output: Path, observe: Observer
) -> dict[str, float]:
    """Write the set into the folder `output`, replacing what is there; counts with the prefix clinic_."""
    if unknown := sorted(set(params.convention) - set(NAMES)):
        raise StageError(f"ceph.phantom.clinic.convention: no landmarks {', '.join(unknown)}")
    shutil.rmtree(output, ignore_errors=True)
    for folder in ("images", *(f"reader_{reader}" for reader in READERS)):
        (output / folder).mkdir(parents=True)
    tasks = [_Task(f"{i + 1:03d}", (seed, 2, i), params, measures, output) for i in range(params.films)]
    for done, _ in enumerate(map_unordered(_write_film, tasks, workers, group=4), start=1):
        observe.progress(done, len(tasks), "clinic's films")
    planted = _plant(params.defects, [task.name for task in tasks], seed, output)
    with (output / "planted.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "defect", "detail"), *planted])
    described = {"name": "phantom", "lane": CEPH.lane, "films": len(tasks), "seed": seed, "spacing_mm": None}
    (output / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return {"clinic_n_films": len(tasks), "clinic_n_planted": len(planted)}


@dataclass(frozen=True)
class _Task:
    """What a worker needs to draw one film and to write its label files."""

    name: str
    seed: tuple[int, int, int]
    params: ClinicParams
    measures: Measures
    folder: Path

    def __str__(self) -> str:
        return f"{self.name}.jpg"


def _write_film(task: _Task) -> None:
    look = task.params.look
    rng = np.random.default_rng([*task.seed, 0])
    points_mm = sample_head(task.measures, rng)
    placed = place_head(points_mm, look, rng)
    picture = draw_film(points_mm, placed, look, np.random.default_rng([*task.seed, 1]))
    (task.folder / "images" / f"{task.name}.jpg").write_bytes(encode_film(picture, look.quality))
    meant = shift_convention(points_mm, task.params.convention)
    for reader in READERS:
        points = geometry.apply(placed, read_points(meant, task.params.reader_noise, rng))
        points = np.clip(points, 0, np.array([look.width, look.height]) - 1)
        _write_json(task.folder / f"reader_{reader}" / f"{task.name}.json", labelme(points, look, task.name))


def labelme(points: np.ndarray, look: Look, name: str) -> dict[str, Any]:
    """A labelme file's content for points (19, 2) px."""
    shapes: list[dict[str, Any]] = [
        {
            "label": f"l{i}",
            "points": [[round(x, 3), round(y, 3)]],
            "group_id": None,
            "shape_type": "point",
            "flags": {},
        }
        for i, (x, y) in enumerate(points.tolist(), start=1)
    ]
    return {
        "version": "5.0.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageData": None,
        "imageHeight": look.height,
        "imageWidth": look.width,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _plant(defects: ClinicDefects, names: list[str], seed: int, folder: Path) -> list[tuple[str, str, str]]:
    """Spoil label files, one of a film and each in one way; rows (file, defect, detail) of the truth table."""
    wanted = [name for name, count in defects.model_dump().items() for _ in range(count)]
    if len(wanted) > len(names):
        raise StageError(f"ceph.phantom.clinic: {len(wanted)} defects but only {len(names)} films")
    rng = np.random.default_rng([seed, 3])
    planted = []
    for defect, film in zip(wanted, rng.choice(names, len(wanted), replace=False).tolist(), strict=True):
        reader = "b" if defect == "no_label" else str(rng.choice(READERS))
        path = folder / f"reader_{reader}" / f"{film}.json"
        if defect == "no_label":
            path.unlink()
            planted.append((film, defect, f"reader {reader}"))
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        point = int(rng.integers(CEPH.n_points))
        if defect == "missing_point":
            del content["shapes"][point]
        else:
            other = content["shapes"][(point + 9) % CEPH.n_points]
            content["shapes"].append({**other, "label": content["shapes"][point]["label"]})
        _write_json(path, content)
        planted.append((film, defect, f"reader {reader}: {NAMES[point]}"))
    return sorted(planted)

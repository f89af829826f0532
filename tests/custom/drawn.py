"""Drawn films of somebody's own landmarks: bright spots about a bar, with a left and a right side, of many sizes."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from stages.core.data.decode import PHANTOM_MARK

NAMES = ("top", "bottom", "left_upper", "right_upper", "left_lower", "right_lower")
SKELETON = (("top", "bottom"), ("left_upper", "left_lower"), ("right_upper", "right_lower"))
SHAPE = np.array([(0.5, 0.2), (0.5, 0.8), (0.3, 0.35), (0.7, 0.35), (0.22, 0.7), (0.78, 0.7)])
"""(6, 2) in shares of a film's width and height"""


@dataclass
class Drawn:
    """Films in a folder, and where their points are.

    Attributes:
        points: file name -> name -> (x, y) raw px. A test takes points away or moves them before it writes labels.
    """

    folder: Path
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    points: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def write_coco(self, path: Path) -> Path:
        images = [
            {"id": i, "file_name": f"some/where/{name}", "width": w, "height": h}
            for i, (name, (w, h)) in enumerate(self.sizes.items())
        ]
        annotations = []
        for i, name in enumerate(self.sizes):
            flat: list[float] = []
            for landmark in NAMES:
                own = self.points[name].get(landmark)
                flat += [*own, 2] if own else [0, 0, 0]
            annotations.append({"id": i, "image_id": i, "category_id": 1, "keypoints": flat})
        edges = [[NAMES.index(a) + 1, NAMES.index(b) + 1] for a, b in SKELETON]
        category = {"id": 1, "name": "thing", "keypoints": list(NAMES), "skeleton": edges}
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
        return path

    def write_labelme(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        for name, (w, h) in self.sizes.items():
            shapes = [
                {"label": landmark, "points": [list(xy)], "shape_type": "point"}
                for landmark, xy in self.points[name].items()
            ]
            content = {"shapes": shapes, "imagePath": f"..\\films\\{name}", "imageWidth": w, "imageHeight": h}
            (path / f"{Path(name).stem}.json").write_text(json.dumps(content))
        return path

    def write_points(self, path: Path, wide: bool = False) -> Path:
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            if not wide:
                writer.writerow(("Image", "patient", "Landmark", "X", "Y"))
                for name, own in self.points.items():
                    writer.writerows((name, patient_of(name), landmark, *xy) for landmark, xy in own.items())
                return path
            writer.writerow(("film", *(f"{landmark}_{axis}" for landmark in NAMES for axis in "xy")))
            for name, own in self.points.items():
                places = [own.get(landmark, ("", "")) for landmark in NAMES]
                writer.writerow((Path(name).stem, *(v for place in places for v in place)))
        return path


def patient_of(name: str) -> str:
    """Two films each."""
    return f"P{int(Path(name).stem[4:]) // 2}"


def draw(folder: Path, n: int = 40, seed: int = 0, phantom: bool = True) -> Drawn:
    """Draw `n` films of sizes from 96 x 120 to 160 x 200 px into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    made = Drawn(folder)
    for i in range(n):
        scale = rng.uniform(0.8, 1.25)
        width, height = round(120 * scale), round(150 * scale * rng.uniform(0.95, 1.05))
        share = SHAPE + rng.uniform(-0.08, 0.08, 2) + rng.uniform(-0.015, 0.015, SHAPE.shape)
        points = share * (width - 1, height - 1)
        film = 50 + rng.normal(0, 2, (height, width))
        rows, columns = np.mgrid[:height, :width]
        for k, (x, y) in enumerate(points):
            film += (50 + 25 * k) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (4 * scale) ** 2))
        name = f"film{i:03d}.jpg"
        picture = Image.fromarray(np.clip(film, 0, 255).astype(np.uint8))
        picture.save(folder / name, quality=95, **({"comment": PHANTOM_MARK} if phantom else {}))
        made.sizes[name] = width, height
        made.points[name] = {
            landmark: (round(float(x), 2), round(float(y), 2))
            for landmark, (x, y) in zip(NAMES, points, strict=True)
        }
    return made

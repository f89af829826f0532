"""Made-up films: the raw layout, the labels' structure, and where the labels lie on the pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.chest import phantom
from stages.chest.phantom_film import draw_film
from stages.chest.phantom_shape import chest_points, sample_chest
from stages.chest.raw.layout import ROUNDING_CELLS, find_problems, judge_points, read_raw
from stages.chest.raw.structure import GRID_CELLS, grid_values, structure_residuals
from stages.chest.schema import CLASSES, LABEL_SIZE, LEFT, RIGHT
from stages.core.data.decode import PHANTOM_MARK
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import contents, phantom_params


@pytest.fixture(scope="module")
def chests():
    """Kind and chest of 60 sampled shapes."""
    params = phantom_params()
    return [
        (kind, sample_chest(params.axis[kind], params.widths, np.random.default_rng([7, i])))
        for i, kind in enumerate(list(CLASSES) * 20)
    ]


def test_raw_layout(raw: Path):
    assert json.loads((raw / "dataset.json").read_text())["name"] == "phantom"
    films = sorted((raw / "dataset").glob("*/*.png"))
    assert {p.parent.name for p in films} == {*CLASSES, phantom.STRAY_CLASS}
    assert any(p.name.startswith("Viral Pneumonia-") for p in films)
    modes = set()
    for path in films:
        try:
            with Image.open(path) as image:
                image.load()
                modes.add(image.mode)
                assert image.info["Comment"] == PHANTOM_MARK
        except OSError:
            assert path.stem in {row["file"] for row in planted(raw) if row["defect"] == "broken_film"}
    assert modes == {"L", "RGB"}
    with (raw / "coordenadas" / "coordenadas_maestro.csv").open(newline="") as stream:
        widths = [len(row) for row in csv.reader(stream)]
    assert sorted(set(widths)) == [32, 33]
    assert widths.count(33) == 1


def planted(raw: Path) -> list[dict[str, str]]:
    with (raw / "planted.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_labels_have_fourteen_degrees_of_freedom_up_to_the_grid(raw: Path):
    good, _ = find_problems(read_raw(raw))
    spoilt = {row["file"] for row in planted(raw)}
    shapes = np.stack([points for name, points in good.items() if name not in spoilt])
    assert len(shapes) > 30
    assert np.isin(shapes, grid_values(LABEL_SIZE)).all()
    for residuals in structure_residuals(shapes):
        assert residuals.max() <= ROUNDING_CELLS * LABEL_SIZE / GRID_CELLS
        assert residuals.max() > 0
    assert all(judge_points(points) is None for points in shapes)


def test_shapes_lie_on_the_film_and_vary_like_the_real_ones(chests):
    shapes = np.stack([chest_points(chest) for _, chest in chests])
    assert shapes.min() >= -1e-9
    assert shapes.max() <= GRID_CELLS - 1 + 1e-9
    error_px224 = np.linalg.norm(shapes - shapes.mean(0), axis=2).mean() * 224 / GRID_CELLS
    assert 13 < error_px224 < 20  # 16.6 on 813 real labels


def test_labels_lie_on_the_drawn_contour(chests):
    """Across the contour at t = 1/2 the film is darker inside (air) than in the chest wall outside."""
    steeper, tried = 0, 0
    for i, (kind, chest) in enumerate(chests[:30]):
        film = draw_film(chest, kind, LABEL_SIZE, np.random.default_rng(i)).astype(float)
        middle = chest.top + chest.length / 2 * chest.down
        rightward = np.array([chest.down[1], -chest.down[0]])
        for side, offset in ((-1, chest.left[2]), (1, chest.right[2])):
            walk = middle + side * np.linspace(offset - 5, offset + 5, 41)[:, None] * rightward
            x, y = np.rint(walk * LABEL_SIZE / GRID_CELLS).astype(int).T
            if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) >= LABEL_SIZE:
                continue
            step = np.convolve(film[y, x], np.repeat([1.0, -1.0], 4), "valid")
            tried += 1
            steeper += abs(np.linspace(-5, 5, 41)[4 + np.argmax(step)]) < 1.5
    assert tried > 30
    assert steeper > 0.8 * tried


def test_classes_look_different(chests):
    """The lungs of the same chest are denser with either infection than without."""

    def density(kind: str) -> float:
        values = []
        for i, (_, chest) in enumerate(chests[:12]):
            film = draw_film(chest, kind, LABEL_SIZE, np.random.default_rng(i)).astype(float)
            points = chest_points(chest)[list(LEFT + RIGHT)] * LABEL_SIZE / GRID_CELLS
            centre = np.rint(0.6 * points[[2, 7]] + 0.4 * points.mean(0)).astype(int)
            lungs = np.mean([film[y - 8 : y + 8, x - 8 : x + 8].mean() for x, y in centre])
            values.append(lungs / film.mean())
        return float(np.mean(values))

    assert density("COVID") > density("Normal")
    assert density("Viral_Pneumonia") > density("Normal")


def test_every_defect_is_planted_once(raw: Path):
    assert sorted(row["defect"] for row in planted(raw)) == sorted(phantom.Defects.model_fields)


def test_same_bytes_twice_and_films_independent_of_their_number(tmp_path: Path):
    base = phantom_params()
    none = phantom.Defects(**dict.fromkeys(phantom.Defects.model_fields, 0))
    params = base.model_copy(
        update={"films": dict.fromkeys(CLASSES, 1), "unlabelled": 1, "colour": 1, "defects": none}
    )
    for name in ("a", "b"):
        phantom.run(params, tmp_path / name, Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    other = params.model_copy(update={"seed": params.seed + 1})
    phantom.run(other, tmp_path / "c", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_more_defects_than_films_is_an_error(tmp_path: Path):
    params = phantom_params().model_copy(update={"films": dict.fromkeys(CLASSES, 1)})
    with pytest.raises(
        StageError, match=f"{len(phantom.Defects.model_fields)} defects but only 3 labelled films"
    ):
        phantom.run(params, tmp_path / "raw", Observer.quiet(tmp_path / "s"))

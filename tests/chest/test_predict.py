"""Points, discs and overlays of single films, and the figures of a folder: what people and the registry get."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.chest.folder import evaluate_folder
from stages.chest.overlay import POINT, write_overlay
from stages.chest.predict import predict_files, radii_on
from stages.chest.raw.layout import find_problems, read_raw
from stages.core.data.films import pseudonym
from stages.core.data.split import read_split
from stages.core.errors import StageError

from .conftest import Lane
from .stand_ins import COVERAGE, RADIUS_PX224, standing_in, write_system


@pytest.fixture(scope="module", autouse=True)
def _system():
    with standing_in():
        yield


@pytest.fixture(scope="module")
def model(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_system(tmp_path_factory.mktemp("models") / "system", lane.films, lane.split)


def phantoms(lane: Lane, n: int) -> list[Path]:
    return sorted((lane.raw / "dataset" / "Normal").glob("*.png"))[:n]


def test_an_answer_says_points_discs_and_where_they_come_from(
    lane: Lane, model: Path, tmp_path: Path
) -> None:
    answer = predict_files(model, phantoms(lane, 1), tmp_path)[0]
    marks = answer["landmarks"]
    assert [mark["name"] for mark in marks] == [f"L{i}" for i in range(1, 16)]
    assert [m["radius_px"] for m in marks] == pytest.approx(RADIUS_PX224 * answer["width"] / 224, abs=0.01)
    assert answer["radius_coverage"] == COVERAGE
    assert answer["model"]["trained_on"] == "phantom"
    assert answer["model"]["notice"] == "research use only"
    assert cv2.imread(str(tmp_path / answer["overlay"])).shape == (896, 896, 3)
    json.dumps(answer)


def test_a_disc_keeps_its_promise_on_films_that_are_not_square() -> None:
    """A miss of r px at 224 in any direction lies within the disc on the film."""
    pixels = np.zeros((300, 500), np.uint8)
    radius = radii_on(pixels, np.array([10.0]))[0]
    around = np.deg2rad(np.arange(0, 360, 5))
    offsets = 10.0 * np.stack([np.cos(around) * 500 / 224, np.sin(around) * 300 / 224])
    assert np.hypot(*offsets).max() == pytest.approx(radius)


def test_the_overlay_shows_a_larger_disc_for_a_larger_radius(tmp_path: Path) -> None:
    film, points = np.zeros((224, 224), np.uint8), np.full((15, 2), 112.0)
    for radius in (20.0, 60.0):
        write_overlay(tmp_path / "film.png", film, points, np.full(15, radius))
        drawn = cv2.imread(str(tmp_path / "film.png"))[:, :, ::-1]
        coloured = np.argwhere(np.abs(drawn.astype(int) - POINT).sum(2) < 120)
        reach = np.hypot(*(coloured - (112.5 * 4 - 0.5)).T).max()
        assert reach == pytest.approx(radius * 4, abs=4)


def test_a_phantom_model_refuses_a_persons_film(model: Path, tmp_path: Path) -> None:
    person = tmp_path / "person.png"
    cv2.imwrite(str(person), np.random.default_rng(0).integers(0, 255, (300, 260), np.uint8))
    with pytest.raises(StageError, match="person.png"):
        predict_files(model, [person], tmp_path / "out")
    answer = predict_files(model, [person], tmp_path / "out", allow_phantom=True)[0]
    assert (answer["width"], answer["height"], answer["phantom"]) == (260, 300, False)
    assert all(-0.5 <= m["x"] <= 259.5 and -0.5 <= m["y"] <= 299.5 for m in answer["landmarks"])


def test_a_file_that_is_no_film_is_answered_with_its_reason(lane: Lane, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    answers = predict_files(model, [broken, *phantoms(lane, 1)], tmp_path / "out")
    assert answers[0]["error"]["reason"] == "film_format"
    assert len(answers[1]["landmarks"]) == 15


def test_folder_evaluation_counts_good_films_and_names_bad_ones(
    lane: Lane, model: Path, tmp_path: Path
) -> None:
    """The mean over a raw folder of test films is that of its films, predicted one by one from their files."""
    raw = read_raw(lane.raw)
    roles = read_split(lane.split).set_index("id")["role"]
    good, bad = find_problems(raw)
    names = [name for name in good if roles.get(pseudonym("chest", name)) == "test"]
    unread = next(name for name, problem in bad.items() if problem.reason == "not_a_number")
    folder = tmp_path / "data"
    (folder / "coordenadas").mkdir(parents=True)
    with (folder / "coordenadas" / "coordenadas_maestro.csv").open("w", newline="") as stream:
        rows = [(0, *row.cells, row.name) for row in raw.rows if row.name in {*names, unread}]
        csv.writer(stream).writerows(rows)
    for name in [*names, unread]:
        target = folder / "dataset" / raw.films[name][0].parent.name / raw.films[name][0].name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw.films[name][0], target)
    answer = evaluate_folder(model, folder, tmp_path / "scratch", threads=1)
    assert answer["n_films"] == len(names)
    assert answer["n_quarantined"] == 1
    assert "not_a_number" in [entry["reason"] for entry in answer["quarantined"]]

    labels = {row.name: np.array(row.cells, float).reshape(15, 2) for row in raw.rows if row.name in names}
    predicted = predict_files(model, [raw.films[name][0] for name in names], tmp_path / "out")
    points = np.array([[[mark["x"], mark["y"]] for mark in one["landmarks"]] for one in predicted])
    errors = np.linalg.norm(points - np.array([labels[name] for name in names]), axis=2) * 224 / 299
    assert answer["mean_px224"] == pytest.approx(errors.mean(), rel=1e-3)
    assert answer["median_px224"] == pytest.approx(np.median(errors.mean(1)), rel=1e-3)
    assert answer["share_under_px224"]["10"] == pytest.approx((errors.mean(1) < 10).mean())
    assert answer["coverage"] == pytest.approx((errors <= RADIUS_PX224).mean(), abs=0.01)
    assert answer["coverage_claimed"] == COVERAGE
    assert answer["seconds_per_film"] > 0
    json.dumps(answer)

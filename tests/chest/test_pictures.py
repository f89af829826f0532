"""A picture a test film, named by class, film and error, with label and prediction where they lie."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.chest import pictures
from stages.chest.measures import METHOD
from stages.chest.overlay import PREDICTION, TRUTH, comparison
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_table, point_table, write_tables
from stages.core.stage import Observer

from .conftest import Lane, contents


@pytest.fixture(scope="module")
def evaluation(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system off by 3, 4, 5, ... raw px to the right, film by film."""
    folder = tmp_path_factory.mktemp("evaluation")
    data = LabelledFilms.open(lane.films, lane.split)
    rows = data.rows("gate", "test")
    points = data.landmarks_raw[rows] + np.arange(3, 3 + len(rows))[:, None, None] * [1.0, 0.0]
    found = film_table(data, rows, METHOD, points), point_table(data, rows, METHOD, points)
    write_tables(folder, *found)
    return folder


def run(lane: Lane, evaluation: Path, output: Path, images: bool = True) -> dict[str, float]:
    params = pictures.Params(images=images, height=300)
    return pictures.run(params, lane.films, lane.split, evaluation, output, Observer.quiet(output / "s"))


def test_names_say_class_film_and_error(lane: Lane, evaluation: Path, tmp_path: Path) -> None:
    metrics = run(lane, evaluation, tmp_path / "out")
    data = LabelledFilms.open(lane.films, lane.split)
    rows = data.rows("test")
    files = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert len(files) == len(rows) == metrics["n_pictures"] == metrics["n_films"]
    judged = pd.read_parquet(evaluation / "per_film.parquet").set_index("id")["error_raw_px"] * 224 / 299
    groups = data.films.table.set_index("id")["group"]
    ids = data.films.ids[rows]
    assert files == sorted(f"{groups[i]}_{i}_error_{judged[i]:.2f}px.png" for i in ids)


def test_the_index_names_every_film_worst_first(lane: Lane, evaluation: Path, tmp_path: Path) -> None:
    run(lane, evaluation, tmp_path / "out")
    index = pd.read_csv(tmp_path / "out" / "index.csv")
    assert index["error_px224"].is_monotonic_decreasing
    assert sorted(index["picture"]) == sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert set(index["worst_landmark"]) <= {f"L{i}" for i in range(1, 16)}


def test_without_images_only_the_index_is_written(lane: Lane, evaluation: Path, tmp_path: Path) -> None:
    metrics = run(lane, evaluation, tmp_path / "out", images=False)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["index.csv"]
    index = pd.read_csv(tmp_path / "out" / "index.csv")
    assert metrics == {"n_films": len(index), "n_pictures": 0}
    assert index["picture"].isna().all()


def test_same_bytes_twice(lane: Lane, evaluation: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(lane, evaluation, tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_missing_films_are_named(lane: Lane, evaluation: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(evaluation / "per_point.parquet")
    lost = table[table["role"] == "test"]["id"].iloc[0]
    table[table["id"] != lost].to_parquet(tmp_path / "per_point.parquet")
    with pytest.raises(StageError, match=f"1 test films: {lost}"):
        run(lane, tmp_path, tmp_path / "out")


def centre_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Mean (x, y) of the pixels of nearly that colour."""
    near = np.argwhere(np.abs(picture.astype(int) - colour).sum(2) < 60)
    return near.mean(0)[::-1]


def test_labels_are_green_and_predictions_red_where_they_lie() -> None:
    """On a stored film of half the size, under a title strip."""
    labels, points = np.tile([50.0, 80.0], (15, 1)), np.tile([150.0, 120.0], (15, 1))
    drawn = comparison(np.zeros((100, 100), np.uint8), (200, 200), "title", labels, points, 400)
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    strip = picture.shape[0] - 400
    assert picture.shape[1] == 400
    assert picture[:strip].max() == 255
    for colour, (x, y) in ((TRUTH, labels[0]), (PREDICTION, points[0])):
        found = centre_of(picture, colour)
        np.testing.assert_allclose(found, [(x + 0.5) * 2 - 0.5, (y + 0.5) * 2 - 0.5 + strip], atol=1.5)

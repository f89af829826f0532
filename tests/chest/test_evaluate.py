"""Evaluation beside floors, on folders, and prediction of single films: one path, the same numbers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.chest import evaluate
from stages.chest.folder import evaluate_folder
from stages.chest.predict import predict_files
from stages.chest.raw.layout import find_problems, read_raw
from stages.core.data import tables
from stages.core.data.films import FilmSet, pseudonym
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import Lane, contents


def run(lane: Lane, output: Path, **changes: Path) -> dict[str, float]:
    folders = {"films": lane.films, "split": lane.split, "floors": lane.floors, "model": lane.model} | changes
    return evaluate.run(lane.evaluate_params, **folders, output=output, observe=Observer.quiet(output / "s"))


@pytest.fixture(scope="module")
def evaluated(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    output = tmp_path_factory.mktemp("evaluation") / "evaluation"
    return output, run(lane, output)


def test_every_held_out_film_is_judged_by_every_method(lane: Lane, evaluated):
    table = tables.read_table(evaluated[0] / "per_film.parquet")
    roles = read_split(lane.split)
    held_out = roles[roles["role"] != "train"]
    for _, own in table.groupby("method"):
        assert sorted(own["id"]) == sorted(held_out["id"])
    assert set(table["method"]) == {"regressor", "mean_shape", "pca_shape", "hog_kernel_ridge"}
    groups = FilmSet.open(lane.films).table.set_index("id")["group"]
    assert (table.set_index("id")["group"] == groups.loc[table["id"]].to_numpy()).all()


def test_errors_are_px_at_224_of_raw_errors(evaluated):
    table = tables.read_table(evaluated[0] / "per_film.parquet")
    np.testing.assert_allclose(table["error_px224"], table["error_raw_px"] * 224 / 299, rtol=1e-5)
    points = tables.read_table(evaluated[0] / "per_point.parquet")
    means = points.groupby(["method", "id"])["error_raw_px"].mean()
    expected = table.set_index(["method", "id"])["error_raw_px"]
    np.testing.assert_allclose(means.loc[expected.index], expected, rtol=1e-5)


def test_metrics_agree_with_the_tables(evaluated):
    output, metrics = evaluated
    table = tables.read_table(output / "per_film.parquet")
    test = table[(table["method"] == "regressor") & (table["role"] == "test")]
    assert metrics["n_films"] == len(test) == sum(metrics[name] for name in evaluate.QUALITY_BINS)
    assert metrics["mean_px224"] == pytest.approx(test["error_px224"].mean(), rel=1e-6)
    assert metrics["mean_px224_low"] < metrics["mean_px224"] < metrics["mean_px224_high"]
    for name, own in test.groupby("group"):
        assert metrics[f"{name}_mean_px224"] == pytest.approx(own["error_px224"].mean(), rel=1e-6)
        assert metrics[f"{name}_n_films"] == len(own)
    by_landmark = [metrics[f"mean_L{i}_px224"] for i in range(1, 16)]
    assert np.mean(by_landmark) == pytest.approx(metrics["mean_px224"], rel=1e-5)


def test_comparison_is_paired_with_every_floor(evaluated):
    table = pd.read_csv(evaluated[0] / "comparison.csv")
    assert len(table) == 9
    films = tables.read_table(evaluated[0] / "per_film.parquet")
    wide = films[films["role"] == "test"].pivot(index="id", columns="method", values="error_px224")
    for row in table[table["role"] == "test"].itertuples():
        expected = (wide["regressor"] - wide[row.method_b]).mean()
        assert row.mean_difference == pytest.approx(expected, rel=1e-4)
        assert row.low <= row.mean_difference <= row.high


def test_bins_and_percentiles_of_known_errors():
    summary = evaluate.summarise_films(np.array([4.99, 5.0, 8.4, 8.5, 20.0]))
    assert [summary[name] for name in evaluate.QUALITY_BINS] == [1, 2, 1, 1]
    assert summary["median_px224"] == 8.4
    assert summary["worst_px224"] == 20.0


def test_same_bytes_twice(lane: Lane, evaluated, tmp_path: Path):
    assert run(lane, tmp_path / "again") == evaluated[1]
    assert contents(tmp_path / "again") == contents(evaluated[0])


def test_a_model_of_another_split_is_refused(lane: Lane, tmp_path: Path):
    table = read_split(lane.split)
    table["role"] = table["role"].replace({"test": "train", "train": "test"})
    from stages.core.data.split import write_split

    write_split(tmp_path / "split.parquet", table)
    with pytest.raises(StageError, match="trained on another split"):
        run(lane, tmp_path / "out", split=tmp_path / "split.parquet")


def test_prediction_of_a_file_is_that_of_the_evaluation(lane: Lane, evaluated, tmp_path: Path):
    """Through the file or through the store: the same points to a hundredth of a pixel."""
    raw = read_raw(lane.raw)
    data = LabelledFilms.open(lane.films, lane.split)
    held_out = set(data.films.ids[data.rows("test")])
    files = [files[0] for name, files in raw.films.items() if pseudonym("chest", name) in held_out][:4]
    points = tables.read_table(evaluated[0] / "per_point.parquet")
    points = points[points["method"] == "regressor"].set_index(["id", "point"])[["x_raw", "y_raw"]]
    for file, answer in zip(files, predict_files(lane.model, files, tmp_path), strict=True):
        found = [[mark["x"], mark["y"]] for mark in answer["landmarks"]]
        np.testing.assert_allclose(found, points.loc[pseudonym("chest", file.stem)], atol=0.011)
        overlay = cv2.imread(str(tmp_path / answer["overlay"]))
        assert overlay.shape == (896, 896, 3)
        assert answer["model"]["trained_on"] == "phantom"
        assert answer["model"]["notice"] == "research use only"
    json.dumps(answer)


def test_a_phantom_model_refuses_a_persons_film(lane: Lane, tmp_path: Path):
    person = tmp_path / "person.png"
    cv2.imwrite(str(person), np.random.default_rng(0).integers(0, 255, (300, 260), np.uint8))
    with pytest.raises(StageError, match="person.png"):
        predict_files(lane.model, [person], tmp_path / "out")
    answer = predict_files(lane.model, [person], tmp_path / "out", allow_phantom=True)[0]
    assert (answer["width"], answer["height"], answer["phantom"]) == (260, 300, False)
    assert all(-0.5 <= m["x"] <= 259.5 and -0.5 <= m["y"] <= 299.5 for m in answer["landmarks"])


def test_a_file_that_is_no_film_is_answered_with_its_reason(lane: Lane, tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    film = next((lane.raw / "dataset" / "Normal").glob("*.png"))
    answers = predict_files(lane.model, [broken, film], tmp_path / "out")
    assert answers[0]["error"]["reason"] == "film_format"
    assert len(answers[1]["landmarks"]) == 15


def test_folder_evaluation_counts_good_films_and_names_bad_ones(lane: Lane, evaluated, tmp_path: Path):
    """A raw folder of the test films only gives the evaluation's own mean."""
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
    answer = evaluate_folder(lane.model, folder, tmp_path / "scratch", threads=1)
    assert answer["n_films"] == len(names)
    assert answer["n_quarantined"] == 1
    assert answer["quarantined"][0]["reason"] == "not_a_number"
    assert answer["mean_px224"] == pytest.approx(evaluated[1]["mean_px224"], rel=1e-5)
    assert answer["median_px224"] == pytest.approx(evaluated[1]["median_px224"], rel=1e-5)
    assert answer["seconds_per_film"] > 0
    json.dumps(answer)

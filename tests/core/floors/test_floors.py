"""The floors stage on a small store: it learns, chooses on val alone, saves what it predicts with."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from stages.chest.floors import Params as ChestParams
from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.floors.fitting import METHODS, FloorParams, Floors
from stages.core.floors.stage import Fitted, read_predictions, run_floors
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine.floors import Params as SpineParams


class Params(FloorParams):
    section: ClassVar[str] = "blobs.floors"


PARAMS = Params.model_validate(
    {
        "threads": 1,
        "thumbnail": {"height": 48, "width": 32},
        "cells": [8],
        "orientations": 9,
        "variance": 0.99,
        "widths": [0.7, 1.5],
        "penalties": [0.001, 0.1],
    }
)


@pytest.fixture(scope="module")
def fitted(blob_store, tmp_path_factory):
    output = tmp_path_factory.mktemp("floors")
    observe = Observer.quiet(output / "scratch")
    frames = {"px224": (224, 224)}
    return output, run_floors(blob_store.open(), blob_store.schema, PARAMS, output, observe, frames)


def test_pictures_help_and_the_mean_shape_is_the_mean_of_trusted_labels(blob_store, fitted) -> None:
    _, metrics = fitted
    assert metrics["hog_kernel_ridge_test_raw_px"] < 0.6 * metrics["mean_shape_test_raw_px"]
    assert metrics["pca_shape_test_raw_px"] < 0.6 * metrics["mean_shape_test_raw_px"]
    assert metrics["pca_bound_test_raw_px"] < metrics["pca_shape_test_raw_px"]
    assert metrics["n_train"] == 47  # one of 48 is suspect

    labelled = blob_store.open()
    train, test = labelled.trainable(), labelled.rows("test")
    mean = np.repeat(labelled.landmarks_model[train].mean(0)[None], len(test), 0)
    by_hand = radial_errors(labelled.films.to_raw(mean, test), labelled.landmarks_raw[test])
    assert metrics["mean_shape_test_raw_px"] == pytest.approx(film_errors(by_hand).mean(), rel=1e-6)
    assert metrics["mean_shape_test_px224"] > metrics["mean_shape_test_raw_px"]


def test_predictions_are_kept_for_every_film_but_the_training_ones(blob_store, fitted) -> None:
    output, metrics = fitted
    labelled = blob_store.open()
    rows = labelled.rows("val", "gate", "test")
    predicted = read_predictions(output, labelled, rows)
    assert tuple(predicted) == METHODS
    table = tables.read_table(output / "predictions.parquet")
    assert set(table["role"]) == {"val", "gate", "test"}
    gate = labelled.roles[rows] == "gate"
    error = film_errors(radial_errors(predicted["hog_kernel_ridge"], labelled.landmarks_raw[rows]))
    assert error[gate].mean() == pytest.approx(metrics["hog_kernel_ridge_gate_raw_px"], rel=1e-4)
    with pytest.raises(StageError, match="blobs-000"):
        read_predictions(output, labelled, labelled.rows("train"))


def test_a_lanes_own_floor_comes_after_the_common_ones(blob_store, tmp_path) -> None:
    """It sees the fitted floors and the films to predict; its points and choices are kept with the others'."""
    labelled = blob_store.open()

    def further(fitted: Fitted) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        predicted = fitted.floors.predict_features(fitted.features[fitted.rows])
        return {"a_shifted_mean": predicted["mean_shape"] + 3}, {"a_shifted_mean_shift": 3.0}

    observe = Observer.quiet(tmp_path / "scratch")
    metrics = run_floors(labelled, blob_store.schema, PARAMS, tmp_path / "out", observe, None, further)
    rows = labelled.rows("test", "gate")
    predicted = read_predictions(tmp_path / "out", labelled, rows)
    assert tuple(predicted) == (*METHODS, "a_shifted_mean")
    moved = labelled.films.to_raw(labelled.films.to_model(predicted["mean_shape"], rows) + 3, rows)
    np.testing.assert_allclose(predicted["a_shifted_mean"], moved, atol=1e-3)
    assert metrics["a_shifted_mean_test_raw_px"] != metrics["mean_shape_test_raw_px"]
    assert Floors.load(tmp_path / "out").choices["a_shifted_mean_shift"] == 3.0


def test_saved_floors_predict_what_the_stage_predicted(blob_store, fitted) -> None:
    output, _ = fitted
    labelled = blob_store.open()
    rows = labelled.rows("test")
    floors = Floors.load(output)
    saved = read_predictions(output, labelled, rows)
    for method, points in floors.predict(labelled.films.images[rows]).items():
        np.testing.assert_allclose(labelled.films.to_raw(points, rows), saved[method], atol=1e-3)
    with pytest.raises(StageError, match="dvc repro"):
        Floors.load(output / "absent")


def test_the_same_inputs_give_the_same_bytes(blob_store, fitted, tmp_path) -> None:
    output, metrics = fitted
    observe = Observer.quiet(tmp_path / "scratch")
    frames = {"px224": (224, 224)}
    again = run_floors(blob_store.open(), blob_store.schema, PARAMS, tmp_path / "again", observe, frames)
    assert again == metrics
    files = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert files == ["floors.json", "floors.npz", "predictions.parquet"]
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (output / name).read_bytes(), name


def test_gate_and_test_labels_decide_nothing(blob_store, fitted, tmp_path) -> None:
    output, _ = fitted
    labelled = blob_store.open()
    for row in labelled.rows("gate", "test"):
        labelled.landmarks_raw[row] = labelled.landmarks_raw[row][::-1] + 7
    observe = Observer.quiet(tmp_path / "scratch")
    run_floors(labelled, blob_store.schema, PARAMS, tmp_path / "other", observe)
    assert (tmp_path / "other" / "floors.npz").read_bytes() == (output / "floors.npz").read_bytes()
    assert (tmp_path / "other" / "floors.json").read_bytes() == (output / "floors.json").read_bytes()


def test_val_chooses(blob_store, fitted, tmp_path) -> None:
    output, metrics = fitted
    floors = Floors.load(output)
    assert floors.choices["hog_kernel_ridge_val_raw_px"] == pytest.approx(
        metrics["hog_kernel_ridge_val_raw_px"], rel=1e-4
    )
    for width in PARAMS.widths:
        for penalty in PARAMS.penalties:
            alone = PARAMS.model_copy(update={"widths": (width,), "penalties": (penalty,)})
            observe = Observer.quiet(tmp_path / "scratch")
            tried = run_floors(blob_store.open(), blob_store.schema, alone, tmp_path / "tried", observe)
            chosen = metrics["hog_kernel_ridge_val_raw_px"]
            assert tried["hog_kernel_ridge_val_raw_px"] >= chosen * (1 - 1e-6)


def test_mirrored_films_swap_their_sides(blob_store, fitted) -> None:
    """A ridge that saw unswapped mirror images would put left and right points on the midline."""
    labelled = blob_store.open()
    rows = labelled.rows("test")
    points = Floors.load(fitted[0]).predict(labelled.films.images[rows][:, :, ::-1])["hog_kernel_ridge"]
    assert (points[:, 2, 0] - points[:, 1, 0] > 8).all()
    mirrored = labelled.films.model_size[1] - 1 - labelled.landmarks_model[rows][:, blob_store.schema.swap]
    assert np.abs(points[..., 0] - mirrored[..., 0]).mean() < 2


def test_too_few_films_are_named(blob_store, tmp_path) -> None:
    labelled = blob_store.open()
    labelled = replace(labelled, use=labelled.use & (labelled.roles != "val"))
    with pytest.raises(StageError, match="1 val film, found 47 and 0"):
        run_floors(labelled, blob_store.schema, PARAMS, tmp_path, Observer.quiet(tmp_path / "s"))


@pytest.mark.parametrize("params", [SpineParams, ChestParams], ids=lambda p: p.section)
def test_the_lanes_parameters_are_complete(params) -> None:
    loaded = load_params(params)
    assert all(
        loaded.thumbnail.height % cell == 0 and loaded.thumbnail.width % cell == 0 for cell in loaded.cells
    )

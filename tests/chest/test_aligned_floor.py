"""The floor on aligned films: what it learns from, what it may know, and how mirrored films fare."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from stages.chest import floors
from stages.chest.aligned_floor import (
    METHOD,
    Aligned,
    _mirrored_ridges,
    aligned_floor,
    erring_guesses,
    out_of_fold_guesses,
    symmetric_canonical,
)
from stages.chest.alignment import Canonical, apply_each, crops, invert_each
from stages.chest.schema import CHEST
from stages.core.data import geometry, tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.floors.fitting import METHODS, Descriptor, fit_floors
from stages.core.floors.ridge import fit_ridges, kernel
from stages.core.floors.stage import PREDICTED_ROLES, Fitted, read_predictions
from stages.core.params import load_params

from .conftest import Lane

SETTINGS = Aligned(size=48, margin=0.15, folds=3, copies=1)
CELLS = (8,)


def params() -> floors.Params:
    loaded = load_params(floors.Params, profile="demo")
    few = {"widths": (0.5, 1.0), "penalties": (0.01, 0.1)}
    return loaded.model_copy(update={"cells": CELLS, "aligned": SETTINGS, **few})


def fitted(labelled: LabelledFilms) -> Fitted:
    """What the stage hands over, fitted on thumbnails of the films."""
    descriptor = Descriptor.of(params())
    thumbnails = descriptor.thumbnails(labelled.films.images)
    features = descriptor.features(thumbnails)
    mirrored = descriptor.features(thumbnails[labelled.trainable()][:, :, ::-1])
    made = fit_floors(labelled, features, mirrored, CHEST, params())
    return Fitted(labelled, made, features, mirrored, labelled.rows(*PREDICTED_ROLES))


@pytest.fixture(scope="module")
def stage(lane: Lane) -> Fitted:
    return fitted(LabelledFilms.open(lane.films, lane.split))


@pytest.fixture(scope="module")
def canonical(stage: Fitted) -> Canonical:
    labelled = stage.labelled
    return symmetric_canonical(labelled.landmarks_model[labelled.trainable()], SETTINGS)


def mirror(points: np.ndarray, width: int) -> np.ndarray:
    return geometry.apply(geometry.mirror_matrix(width), points)[:, CHEST.swap]


def test_the_stage_writes_a_fourth_floor_that_beats_the_one_it_stands_on(lane: Lane):
    labelled = LabelledFilms.open(lane.films, lane.split)
    rows = labelled.rows(*PREDICTED_ROLES)
    predicted = read_predictions(lane.floors, labelled, rows)
    assert tuple(predicted) == (*METHODS, METHOD)
    error = {m: np.linalg.norm(p - labelled.landmarks_raw[rows], axis=2).mean() for m, p in predicted.items()}
    assert error[METHOD] < 0.97 * error["hog_kernel_ridge"]
    table = tables.read_table(lane.floors / "predictions.parquet")
    assert set(table.loc[table["method"] == METHOD, "role"]) == set(PREDICTED_ROLES)
    chosen = json.loads((lane.floors / "floors.json").read_text())
    val = labelled.roles[rows] == "val"
    truth = labelled.landmarks_raw[rows[val]]
    val_error = np.linalg.norm(predicted[METHOD][val] - truth, axis=2).mean()
    assert chosen[f"{METHOD}_val_raw_px"] == pytest.approx(val_error, rel=1e-4)


def test_aligned_labels_are_upright_and_as_large_as_the_mean(canonical: Canonical, stage: Fitted):
    labels = stage.labelled.landmarks_model
    aligned = apply_each(canonical.maps(labels), labels)
    np.testing.assert_allclose(aligned[:, 0, 0], aligned[:, 1, 0])  # the axis points straight down
    np.testing.assert_allclose(aligned.mean(1), np.broadcast_to(canonical.shape.mean(0), (len(labels), 2)))
    assert np.linalg.norm(aligned - aligned.mean(0), axis=2).mean() < 0.5 * SETTINGS.size / 224 * (
        np.linalg.norm(labels - labels.mean(0), axis=2).mean()
    )


def test_the_canonical_shape_is_its_own_mirror_image(canonical: Canonical):
    np.testing.assert_allclose(mirror(canonical.shape[None], canonical.side)[0], canonical.shape)
    low, high = canonical.shape.min(0), canonical.shape.max(0)
    np.testing.assert_allclose(low + 0.5, SETTINGS.margin * canonical.side)
    np.testing.assert_allclose(high + 0.5, (1 - SETTINGS.margin) * canonical.side)


def test_a_crop_shows_what_lies_under_its_map(canonical: Canonical):
    """A blob drawn at a landmark appears in the crop where the map takes the landmark."""
    shapes = np.stack([canonical.shape * 3 + 20, canonical.shape * [2, 4] + 9])
    maps = canonical.maps(shapes)
    images = np.zeros((2, 224, 224), np.uint8)
    for image, points in zip(images, shapes, strict=True):
        x, y = np.rint(points[4]).astype(int)
        image[y - 4 : y + 5, x - 4 : x + 5] = 255
    for cut, place in zip(
        crops(images, np.arange(2), maps, canonical.side), apply_each(maps, shapes)[:, 4], strict=True
    ):
        ys, xs = np.indices(cut.shape)
        centre = np.array([(xs * cut).sum(), (ys * cut).sum()]) / cut.sum()
        np.testing.assert_allclose(centre, place, atol=0.4)
    points = apply_each(invert_each(maps), apply_each(maps, shapes))
    np.testing.assert_allclose(points, shapes)


def test_a_guess_of_a_training_film_does_not_know_its_label(stage: Fitted):
    labelled = stage.labelled
    train = labelled.trainable()
    before = out_of_fold_guesses(stage, 3, seed=1)
    fold_of = patient_folds(labelled.patients[train], 3, 1)
    changed = labelled.landmarks_raw.copy()
    changed[train[0]] += 40
    other = replace(stage, labelled=replace(labelled, landmarks_raw=changed))
    moved = np.abs(out_of_fold_guesses(other, 3, seed=1) - before).max((1, 2))
    assert (moved[fold_of == fold_of[0]] == 0).all()
    assert (moved[fold_of != fold_of[0]] > 0).all()


def test_guesses_of_training_films_err_like_guesses_of_unseen_films(stage: Fitted):
    labelled = stage.labelled
    train, unseen = labelled.trainable(), labelled.rows("gate", "test")

    def error(points: np.ndarray, rows: np.ndarray) -> float:
        return float(np.linalg.norm(points - labelled.landmarks_model[rows], axis=2).mean())

    first = stage.floors.predict_features(stage.features)["hog_kernel_ridge"]
    honest = error(out_of_fold_guesses(stage, 3, seed=1), train)
    assert error(first[train], train) < 0.5 * honest  # what the regression says of films that it has seen
    assert 0.7 < honest / error(first[unseen], unseen) < 1.6


def test_more_folds_than_films_are_refused(stage: Fitted):
    n = len(stage.labelled.trainable())
    with pytest.raises(StageError, match=f"aligned.folds is {n + 1}, but the {n} train films"):
        out_of_fold_guesses(stage, n + 1, seed=1)


def test_copies_take_the_errors_of_other_films(stage: Fitted, canonical: Canonical):
    labels = stage.labelled.landmarks_model[stage.labelled.trainable()]
    guesses = labels + np.random.default_rng(0).normal(0, 6, labels.shape)
    views = erring_guesses(guesses, labels, canonical, 2, seed=5).reshape(3, *labels.shape)
    np.testing.assert_array_equal(views[0], guesses)

    def errors(points: np.ndarray) -> np.ndarray:
        maps = canonical.maps(labels)
        found = apply_each(maps, points) - apply_each(maps, labels)
        return found[np.argsort(found[:, 0, 1])]  # mirrored or not, L1's error down the film stays

    np.testing.assert_allclose(errors(views[1]), errors(guesses), atol=1e-9)
    np.testing.assert_allclose(errors(views[2]), (errors(guesses) * [-1, 1])[:, CHEST.swap], atol=1e-9)
    assert np.abs(views[1:] - guesses).max((0, 2, 3)).min() > 0.1  # nobody keeps its own
    np.testing.assert_array_equal(
        erring_guesses(guesses, labels, canonical, 2, seed=5).reshape(3, *labels.shape), views
    )


def test_half_systems_solve_the_regression_on_rows_and_mirror_images():
    rng = np.random.default_rng(3)
    seen = rng.normal(size=(20, 6)).astype(np.float16)
    mirrored = seen[:, ::-1].copy()
    targets = rng.normal(size=(20, 2, 2))
    flipped = rng.normal(size=(20, 2, 2))
    same, across = kernel(seen, seen, 2.0), kernel(seen, mirrored, 2.0)
    doubled = np.concatenate([seen, mirrored])
    goals = np.concatenate([targets, flipped]).reshape(40, -1)
    penalties = (0.01, 0.3)
    whole = fit_ridges(doubled, goals, 2.0, penalties)
    for (offset, weights), ridge in zip(
        _mirrored_ridges(same, across, targets, flipped, penalties), whole, strict=True
    ):
        np.testing.assert_allclose(offset, ridge.offset)
        np.testing.assert_allclose(np.concatenate(weights), ridge.weights, rtol=1e-4)


def test_a_mirrored_film_gets_the_mirrored_points(stage: Fitted):
    """Averaging over both views of a film would change nothing, so it is not done."""
    labelled = stage.labelled
    width = labelled.films.model_size[1]
    plain = aligned_floor(stage, params())[0][METHOD]
    images = np.asarray(labelled.films.images).copy()
    asked = np.flatnonzero(labelled.roles != "train")
    images[asked] = images[asked][:, :, ::-1]
    features = stage.features.copy()
    descriptor = Descriptor.of(params())
    features[asked] = descriptor.features(
        descriptor.thumbnails(np.asarray(labelled.films.images)[asked])[:, :, ::-1]
    )
    flipped_labels = labelled.landmarks_raw.copy()
    flipped_labels[asked] = labelled.films.to_raw(mirror(labelled.landmarks_model[asked], width), asked)
    other = replace(labelled, films=replace(labelled.films, images=images), landmarks_raw=flipped_labels)
    mirrored = aligned_floor(replace(stage, labelled=other, features=features), params())[0][METHOD]
    np.testing.assert_allclose(mirrored, mirror(plain, width), atol=0.3)
    assert np.abs(mirrored - plain).mean() > 3


def test_gate_and_test_labels_decide_nothing_and_val_chooses(stage: Fitted):
    points, choices = aligned_floor(stage, params())
    labelled = stage.labelled
    changed = labelled.landmarks_raw.copy()
    hidden = labelled.rows("gate", "test")
    changed[hidden] = changed[hidden][::-1] + 9
    other = replace(stage, labelled=replace(labelled, landmarks_raw=changed))
    again, same_choices = aligned_floor(other, params())
    assert same_choices == choices
    np.testing.assert_array_equal(again[METHOD], points[METHOD])
    errors = [
        aligned_floor(stage, params().model_copy(update={"widths": (width,), "penalties": (penalty,)}))[1]
        for width in params().widths
        for penalty in params().penalties
    ]
    assert min(e[f"{METHOD}_val_raw_px"] for e in errors) == choices[f"{METHOD}_val_raw_px"]


def test_a_crop_that_cells_do_not_divide_is_refused():
    loaded = params()
    values = loaded.model_dump() | {"cells": [8, 5], "aligned": SETTINGS.model_dump() | {"size": 36}}
    with pytest.raises(ValidationError, match=r"aligned.size 36 is no multiple of the cells \[8, 5\]"):
        floors.Params.model_validate(values)

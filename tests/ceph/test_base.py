"""The base model: same bytes twice, learns from the role train alone, resumes, opens again, answers in any frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from stages.ceph import base
from stages.ceph.locating.model import TrainedCeph
from stages.ceph.locating.settings import LocatorSettings
from stages.ceph.locating.training import fit
from stages.ceph.schema import CEPH
from stages.core.data import geometry, tables
from stages.core.data.films import FilmSet, film_schema
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights, save_model
from stages.core.stage import Observer

from .stored import RAW, STORED, base_params, draw_film, fit_settings, settings, write_store

LEARNING = {
    "fit": fit_settings(40),
    "views": [{"rotation": 0, "log_scale": 0}, {"rotation": 3, "log_scale": 0.03}],
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_store(tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def trained(stored: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "base"
    base.run(base_params(**LEARNING), *stored, folder, Observer.quiet(folder.parent / "s"))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_the_same_bytes_twice_and_others_for_another_seed(stored: tuple[Path, Path], tmp_path: Path) -> None:
    coarse = {"input": {"height": 40, "width": 32}, "fit": fit_settings(1)}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        params = base_params(seed=seed, coarse=coarse)
        metrics = base.run(params, *stored, tmp_path / name, Observer.quiet(tmp_path / "s"))
        assert metrics["epochs"] == 3
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["weights.pt"] != contents(tmp_path / "c")["weights.pt"]


def test_the_network_learns(stored: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    data = LabelledFilms.open(*stored)
    rows = data.rows("gate", "test")
    found = TrainedCeph.open(trained).predict(np.asarray(data.films.images[rows])).points
    mean_shape = data.landmarks_model[data.trainable()].mean(0)
    error = np.linalg.norm(found - data.landmarks_model[rows], axis=2).mean()
    assert error < 0.5 * np.linalg.norm(mean_shape - data.landmarks_model[rows], axis=2).mean()


def test_neither_val_nor_gate_nor_test_decides_a_weight(stored: tuple[Path, Path], tmp_path: Path) -> None:
    """Whatever lies in the other roles, the network is the same; of val only the calibration knows."""
    data = LabelledFilms.open(*stored)
    spoiled = tmp_path / "films"
    shutil.copytree(stored[0], spoiled)
    images = np.load(spoiled / "images.npy")
    others = data.rows("val", "gate", "test")
    images[others] = 255 - images[others]
    np.save(spoiled / "images.npy", images)
    base.run(base_params(), *stored, tmp_path / "a", Observer.quiet(tmp_path / "s"))
    base.run(base_params(), spoiled, stored[1], tmp_path / "b", Observer.quiet(tmp_path / "s"))
    first, second = load_weights(tmp_path / "a"), load_weights(tmp_path / "b")
    differing = {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert differing == {"expected"}


def test_a_killed_run_ends_with_the_same_weights(stored: tuple[Path, Path], tmp_path: Path) -> None:
    coarse = {"input": {"height": 40, "width": 32}, "fit": fit_settings(2)}
    params = base_params(coarse=coarse)

    class KilledError(Exception):
        pass

    class Mortal(Observer):
        def __call__(self, step: int, **metrics: float) -> None:
            super().__call__(step, **metrics)
            if step == self.last:
                raise KilledError

    base.run(params, *stored, tmp_path / "whole", Observer.quiet(tmp_path / "one"))
    for last in (2, 4):
        observe = Mortal(tmp_path / "two", "k" * 64, False)
        observe.last = last  # type: ignore[attr-defined]
        with pytest.raises(KilledError):
            base.run(params, *stored, tmp_path / "broken", observe)
    observe = Observer.quiet(tmp_path / "two", "k" * 64)
    base.run(params, *stored, tmp_path / "broken", observe)
    assert contents(tmp_path / "whole")["weights.pt"] == contents(tmp_path / "broken")["weights.pt"]
    assert sorted(observe.history) == [1, 2, 3, 4]


def test_the_card_says_what_it_was_trained_on(stored: tuple[Path, Path], trained: Path) -> None:
    card = load_card(trained)
    data = LabelledFilms.open(*stored)
    assert (card.lane, card.dataset, card.landmarks) == ("ceph", "phantom", CEPH.names)
    assert card.n_train == len(data.trainable())
    assert card.split_sha256 == split_digest(read_split(stored[1]))
    assert TrainedCeph.open(trained).stored_size == STORED
    json.dumps(card.model_dump(mode="json"))


def test_what_is_asked_twice_is_answered_the_same_and_film_by_film(
    stored: tuple[Path, Path], trained: Path
) -> None:
    model, images = TrainedCeph.open(trained), np.asarray(FilmSet.open(stored[0]).images[:11])
    whole = model.predict(images)
    alone = [model.predict(image[None]) for image in images]
    for name in ("points", "expected_error", "peak", "spread"):
        assert getattr(whole, name) == pytest.approx(
            np.concatenate([getattr(a, name) for a in alone]), abs=1e-3
        )
    assert (whole.expected_error > 0).all()
    assert model.predict(images[:0]).points.shape == (0, CEPH.n_points, 2)


def test_a_film_of_another_size_is_answered_in_its_own_pixels(trained: Path) -> None:
    pixels, points = draw_film(np.random.default_rng(77))
    model = TrainedCeph.open(trained)
    own = model.predict_film(pixels)
    larger = model.predict_film(geometry.resize(pixels, (2 * RAW[1], 2 * RAW[0])))
    assert np.linalg.norm(own.points[0] - points, axis=1).mean() < 4
    doubled = geometry.apply(geometry.resize_matrix((1, 1), (2, 2)), own.points)
    assert np.abs(larger.points - doubled).max() < 0.5
    assert larger.expected_error == pytest.approx(2 * own.expected_error, rel=0.1)


def test_maps_are_distributions_whose_cells_lie_where_the_points_are(
    stored: tuple[Path, Path], trained: Path
) -> None:
    model, images = TrainedCeph.open(trained), np.asarray(FilmSet.open(stored[0]).images[:3])
    maps = model.probability_maps(images)
    assert maps.dtype == np.float32
    assert maps.sum((-2, -1)) == pytest.approx(1.0, abs=1e-4)
    rows, columns = np.unravel_index(maps.reshape(3, CEPH.n_points, -1).argmax(-1), maps.shape[-2:])
    placed = model.map_to_model(np.stack([columns, rows], -1))
    assert np.linalg.norm(placed - model.locator.locate_once(images).points, axis=2).mean() < 1.5
    assert model.target_sigma_cells == 2.0


def test_augmented_answers_come_back_to_the_film(stored: tuple[Path, Path], trained: Path) -> None:
    """Moved, answered and moved back, points scatter about the answer; not exactly on it, and the same each time."""
    model, images = TrainedCeph.open(trained), np.asarray(FilmSet.open(stored[0]).images[:4])
    drawn = model.predict_augmented(images, 3, seed=9)
    assert drawn.shape == (3, 4, CEPH.n_points, 2)
    offset = np.linalg.norm(drawn - model.predict(images).points, axis=-1)
    assert 0 < np.median(offset) < 2.0
    assert (model.predict_augmented(images, 2, seed=9) == drawn[:2]).all()
    assert model.predict_augmented(images[1:2], 3, seed=9) == pytest.approx(drawn[:, 1:2], abs=1e-3)


def test_dropped_answers_vary_and_leave_the_network_as_it_was(
    stored: tuple[Path, Path], trained: Path
) -> None:
    model, images = TrainedCeph.open(trained), np.asarray(FilmSet.open(stored[0]).images[:2])
    before = model.predict(images).points
    drawn = model.predict_dropped(images, 4, seed=1)
    assert drawn.shape == (4, 2, CEPH.n_points, 2)
    assert (drawn.std(0) > 0).any()
    assert (model.predict_dropped(images, 4, seed=1) == drawn).all()
    assert (model.predict(images).points == before).all()


def test_training_goes_on_from_given_weights_and_heeds_the_mask(
    stored: tuple[Path, Path], trained: Path
) -> None:
    """With labels of one landmark alone moved, and only that one counted, its answer follows and no label is needed
    of the others."""
    model, data = TrainedCeph.open(trained), LabelledFilms.open(*stored)
    rows = data.trainable()
    points = np.full_like(data.landmarks_model[rows], np.nan)
    points[:, 9] = data.landmarks_model[rows][:, 9] + [6.0, 0.0]
    weight = np.ones(points.shape[:2])
    plan = LocatorSettings.model_validate(settings(fit=fit_settings(15))).fit
    images = np.asarray(data.films.images[rows])
    got = fit(
        model.settings, images, points, weight, None, plan, model.state, Observer.quiet(stored[0].parent / "s"),
        seed=1, threads=1, device_name="cpu",
    )  # fmt: skip
    before = model.predict(images).points
    model.locator.network.load_state_dict(got.state)
    moved = (model.predict(images).points - before)[:, 9]
    assert np.median(moved[:, 0]) == pytest.approx(6.0, abs=1.5)


def test_labels_that_teach_nothing_are_an_error(stored: tuple[Path, Path], trained: Path) -> None:
    model, data = TrainedCeph.open(trained), LabelledFilms.open(*stored)
    images, points = np.asarray(data.films.images[:4]), data.landmarks_model[:4]
    common = {"seed": 1, "threads": 1, "device_name": "cpu"}
    observe, plan = Observer.quiet(stored[0].parent / "s"), model.settings.fit
    with pytest.raises(StageError, match="none of 4 films"):
        fit(model.settings, images, points, np.zeros((4, CEPH.n_points)), None, plan, None, observe, **common)
    with pytest.raises(ValueError, match="finite"):
        fit(
            model.settings,
            images,
            points,
            np.full((4, CEPH.n_points), -1.0),
            None,
            plan,
            None,
            observe,
            **common,
        )


def test_films_without_labels_are_left_out(stored: tuple[Path, Path], tmp_path: Path) -> None:
    films = tmp_path / "films"
    shutil.copytree(stored[0], films)
    data = LabelledFilms.open(*stored)
    table = data.films.table.copy()
    bare = data.films.ids[data.trainable()[0]]
    table["landmarks"] = [
        np.full(2 * CEPH.n_points, np.nan, np.float32) if i == bare else p
        for i, p in zip(table["id"], table["landmarks"], strict=True)
    ]
    tables.write_table(films / "films.parquet", pd.DataFrame(table), film_schema(CEPH.n_points))
    metrics = base.run(base_params(), films, stored[1], tmp_path / "m", Observer.quiet(tmp_path / "s"))
    assert metrics["n_train"] == len(data.trainable()) - 1


def test_another_models_folder_is_refused(trained: Path, tmp_path: Path) -> None:
    card = load_card(trained)
    save_model(tmp_path / "a", load_weights(trained), card.model_copy(update={"architecture": "something"}))
    with pytest.raises(StageError, match="landmark-maps"):
        TrainedCeph.open(tmp_path / "a")
    network = card.params["network"] | {"channels": [8, 12, 16, 20]}
    other = card.model_copy(update={"params": card.params | {"network": network}})
    save_model(tmp_path / "b", load_weights(trained), other)
    with pytest.raises(StageError, match="do not fit the card"):
        TrainedCeph.open(tmp_path / "b")


def test_losses_of_the_coarse_training_are_checked_as_well() -> None:
    wrong = fit_settings(1)
    wrong["phases"][0]["weights"] = {"mse": 1.0}
    with pytest.raises(ValidationError, match="mse"):
        base_params(coarse={"input": {"height": 40, "width": 32}, "fit": wrong})

"""Training: the mirror that exchanges sides, the loss in px at 224, and the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.chest import train
from stages.chest.raw.structure import structure_from_shape
from stages.chest.regressor.inference import TrainedRegressor, predict_input, to_input
from stages.chest.regressor.network import LandmarkRegressor
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.core.train.augment import mirror_warps, warp_films, warp_points

from .conftest import Lane, contents, train_params


def test_mirror_twice_is_identity(lane: Lane):
    store = FilmSet.open(lane.films)
    rows = np.arange(4)
    images, points = store.images[rows], store.to_model(store.landmarks_raw[rows], rows)
    warps = mirror_warps(4, images.shape[2])
    np.testing.assert_array_equal(warp_films(warp_films(images, warps), warps), images)
    np.testing.assert_allclose(
        warp_points(warp_points(points, warps, CHEST), warps, CHEST), points, atol=1e-9
    )


def test_mirrored_labels_keep_their_side(lane: Lane):
    """After a mirror, "left" is still the side of smaller x: without the exchange, offsets turn negative."""
    store = FilmSet.open(lane.films)
    points = store.to_model(store.landmarks_raw, np.arange(len(store)))
    mirrored = warp_points(points, mirror_warps(len(points), 224), CHEST)
    _, _, left, right = structure_from_shape(mirrored)
    assert left.min() > 0
    assert right.min() > 0
    plain = geometry.apply(geometry.mirror_matrix(224), points)
    assert max(side.max() for side in structure_from_shape(plain)[2:]) < 0


def test_loss_does_not_depend_on_the_input_size_of_the_same_error(lane: Lane):
    """An untrained network answers about the mean shape: its loss in px at 224 is that of the mean shape."""
    data = LabelledFilms.open(lane.films, lane.split)
    losses = []
    for side in (48, 96):
        params = train_params()
        still = params.augment.model_copy(
            update={"mirror": 0.0, "rotation": 0.0, "log_scale": 0.0, "shift": 0.0}
        )
        rates = {"backbone": 1e-9, "head": 1e-9}
        phase = params.fit.phases[0].model_copy(update={"epochs": 1, "rates": rates})
        fit = params.fit.model_copy(update={"phases": (phase,), "batch_size": len(data.trainable())})
        quiet = Observer.quiet(lane.model / "none")
        train.train_network(
            data, params.model_copy(update={"input": side, "augment": still, "fit": fit}), quiet
        )
        losses.append(quiet.history[1]["train_wing"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] > 10  # px at 224; the same in shares of the film would be under 1


def test_same_bytes_twice(lane: Lane, tmp_path: Path):
    observe = Observer.quiet(tmp_path / "s")
    metrics = train.run(lane.train_params, lane.films, lane.split, tmp_path / "model", observe)
    assert contents(tmp_path / "model") == contents(lane.model)
    assert metrics["epochs"] == 2
    assert set(observe.history[1]) == {"train_loss", "train_wing", "val_error_px224"}


def test_monitored_error_is_that_of_the_kept_weights(lane: Lane, tmp_path: Path):
    """In px at 224, through the path that evaluation and prediction use."""
    observe = Observer.quiet(tmp_path / "s")
    metrics = train.run(lane.train_params, lane.films, lane.split, tmp_path / "model", observe)
    data = LabelledFilms.open(lane.films, lane.split)
    rows = data.rows("val")
    predicted = data.films.to_raw(
        TrainedRegressor.open(tmp_path / "model").predict(data.films.images[rows]), rows
    )
    error = np.linalg.norm(predicted - data.landmarks_raw[rows], axis=-1).mean() * 224 / 299
    assert metrics["val_error_px224"] == pytest.approx(error, rel=1e-5)
    assert metrics["val_error_px224"] == min(row["val_error_px224"] for row in observe.history.values())


def test_only_train_films_are_trained_on(lane: Lane, tmp_path: Path):
    """Wrong labels of gate and test films change nothing."""
    data = LabelledFilms.open(lane.films, lane.split)
    before, _ = train.train_network(data, lane.train_params, Observer.quiet(tmp_path / "s"))
    data.landmarks_raw[data.rows("gate", "test")] += 50
    after, _ = train.train_network(data, lane.train_params, Observer.quiet(tmp_path / "s"))
    for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_network_of_this_design_learns_where_a_bright_spot_is():
    """The average over the film drops position, so that this takes more than one layer to learn."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    wider = {"channels": (8, 12, 16, 24), "hidden": (32,)}
    network = LandmarkRegressor(train_params().architecture.model_copy(update=wider), 1)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)

    def batch(n: int) -> tuple[np.ndarray, np.ndarray]:
        spots = rng.uniform(8, 40, (n, 1, 2))
        x, y = np.meshgrid(np.arange(48), np.arange(48))
        films = np.exp(-((x - spots[..., :1]) ** 2 + (y - spots[..., 1:]) ** 2) / 60) * 255
        return films.astype(np.uint8), spots

    for _ in range(140):
        films, spots = batch(16)
        predicted = network(torch.from_numpy(films).float() / 255)
        loss = (predicted - torch.from_numpy(spots).float()).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    films, spots = batch(64)
    found = predict_input(network.eval(), films, torch.device("cpu"))
    error = np.linalg.norm(found - spots, axis=-1).mean()
    assert error < 5  # 12.5 for the centre of the film


def test_resizing_to_the_network_keeps_points_in_place():
    films = np.zeros((1, 224, 224), np.uint8)
    films[0, 60:64, 120:124] = 255
    small = to_input(films, (56, 56))[0]
    assert np.unravel_index(small.argmax(), small.shape) == (15, 30)
    np.testing.assert_allclose(
        geometry.apply(geometry.resize_matrix((224, 224), (56, 56)), np.array([121.5, 61.5])), [30, 15]
    )


def test_card_says_what_the_model_is(lane: Lane):
    card = json.loads((lane.model / "card.json").read_text())
    assert (card["lane"], card["dataset"], card["research_use_only"]) == ("chest", "phantom", True)
    assert card["schema"] == list(CHEST.names)
    assert card["input"] == {"height": 48, "width": 48}
    assert TrainedRegressor.open(lane.model).stored_size == (224, 224)


def test_weights_of_another_architecture_are_refused(lane: Lane, tmp_path: Path):
    for file, content in contents(lane.model).items():
        (tmp_path / file).write_bytes(content)
    card = json.loads((tmp_path / "card.json").read_text())
    card["params"]["architecture"]["hidden"] = [14]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(StageError, match="the weights do not fit card.json"):
        TrainedRegressor.open(tmp_path)


@pytest.mark.parametrize("profile", ["demo", "cpu", "full"])
def test_every_profile_has_whole_parameters(profile: str):
    params = load_params(train.Params, profile=profile)
    LandmarkRegressor(params.architecture, CHEST.n_points)


def test_a_phase_needs_the_weight_of_the_loss():
    values = load_params(train.Params, profile="demo").model_dump()
    values["fit"]["phases"][0]["weights"] = {"mse": 1.0}
    with pytest.raises(ValueError, match="the weight of 'wing' expected"):
        train.Params.model_validate(values)

"""Phases: the mirror that exchanges sides, losses in px at 224, a parent's weights, and the same bytes twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages.chest import phase, start
from stages.chest.raw.structure import structure_from_shape
from stages.chest.regressor.inference import load_network, predict_input, predict_raw
from stages.chest.regressor.network import LandmarkRegressor
from stages.chest.regressor.training import Judge, train
from stages.chest.schema import CHEST
from stages.core.data import geometry, tables
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights
from stages.core.model.inputs import to_input
from stages.core.params import load_params, project_root
from stages.core.stage import Observer
from stages.core.train.augment import mirror_warps, warp_films, warp_points

from .conftest import Lane, contents, phase_params, start_params


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


def run(
    lane: Lane, phases: Path, name: str, folder: Path, params: phase.Params | None = None
) -> dict[str, float]:
    params = params or phase_params(name)
    observe = Observer.quiet(folder / "s")
    return phase.run(params, lane.films, lane.split, phases / params.parent, folder / name, observe)


def trained(phases: Path, params: phase.Params, data: LabelledFilms, observe: Observer) -> LandmarkRegressor:
    network = load_network(phases / "start", load_card(phases / "start"), params.attention)
    train(network, data, params, torch.device("cpu"), observe, "net")
    return network


def with_weights(params: phase.Params, **weights: float) -> phase.Params:
    stretch = params.fit.phases[0].model_copy(update={"weights": weights})
    return params.model_copy(update={"fit": params.fit.model_copy(update={"phases": (stretch,)})})


def test_losses_do_not_depend_on_the_input_size_of_the_same_error(lane: Lane, phases: Path, tmp_path: Path):
    """The start answers about the mean shape: its losses in px at 224 are those of the mean shape."""
    data = LabelledFilms.open(lane.films, lane.split)
    seen = []
    for side in (48, 96):
        params = with_weights(phase_params("full_mse"), mse=1.0, wing=1.0, symmetry=1.0, distance=1.0)
        still = dict.fromkeys(("mirror", "rotation", "log_scale", "shift"), 0.0)
        stretch = params.fit.phases[0].model_copy(
            update={"epochs": 1, "rates": {"backbone": 1e-9, "head": 1e-9}}
        )
        fit = params.fit.model_copy(update={"phases": (stretch,), "batch_size": len(data.trainable())})
        augment = params.augment.model_copy(update=still)
        quiet = Observer.quiet(tmp_path / "s")
        trained(
            phases, params.model_copy(update={"input": side, "augment": augment, "fit": fit}), data, quiet
        )
        seen.append(quiet.history[1])
    for part in ("mse", "wing", "symmetry", "distance"):
        assert seen[0][f"train_{part}"] == pytest.approx(seen[1][f"train_{part}"], rel=0.05), part
    assert seen[0]["train_wing"] > 10  # px at 224; the same in shares of the film would be under 1


def test_the_loss_is_the_weighted_sum_of_its_parts(lane: Lane, phases: Path, tmp_path: Path):
    params, quiet = phase_params("complete"), Observer.quiet(tmp_path / "s")
    trained(phases, params, LabelledFilms.open(lane.films, lane.split), quiet)
    for row in quiet.history.values():
        parts = [weight * row[f"train_{part}"] for part, weight in params.fit.phases[0].weights.items()]
        assert len(parts) == 3
        assert row["train_loss"] == pytest.approx(sum(parts), rel=1e-4)


def test_same_bytes_twice(lane: Lane, phases: Path, tmp_path: Path):
    metrics = run(lane, phases, "full_wing", tmp_path)
    assert contents(tmp_path / "full_wing") == contents(phases / "full_wing")
    assert metrics["epochs"] == 2


def test_goes_on_from_its_parent(lane: Lane, phases: Path, tmp_path: Path):
    """A phase that hardly moves is as good as its parent, which the metrics tell."""
    params = phase_params("symmetry")
    stretch = params.fit.phases[0].model_copy(update={"epochs": 1, "rates": {"backbone": 1e-9, "head": 1e-9}})
    # A frozen body does not do: running statistics of the training batches move with every step.
    fit = params.fit.model_copy(update={"phases": (stretch,), "ema_decay": 0.0})
    metrics = run(lane, phases, "symmetry", tmp_path, params.model_copy(update={"fit": fit}))
    before, after = load_weights(phases / "full_wing"), load_weights(tmp_path / "symmetry")
    for name, value in after.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, before[name], atol=1e-6, rtol=1e-5)
    data = LabelledFilms.open(lane.films, lane.split)
    parent = load_network(phases / "full_wing", load_card(phases / "full_wing"))
    expected = Judge(data, (48, 48)).error(parent, torch.device("cpu"))
    assert metrics["parent_val_error_px224"] == pytest.approx(expected)
    assert metrics["change_px224"] == metrics["val_error_px224"] - metrics["parent_val_error_px224"]


def test_a_frozen_backbone_stands_still(phases: Path):
    """Its running statistics too, so that the phase after it finds the body of the one before."""
    before, after = (load_weights(phases / name) for name in ("start", "head_wing"))
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name


def test_attention_is_added_to_the_parent_s_network_and_learns(lane: Lane, phases: Path, tmp_path: Path):
    plain, wide = (run(lane, phases, name, tmp_path)["n_parameters"] for name in ("symmetry", "attention"))
    channels, squeezed = start_params().architecture.channels[-1], 8
    assert wide - plain == (channels + 1) * squeezed + 2 * squeezed + 2 * (squeezed + 1) * channels
    card = json.loads((tmp_path / "attention" / "card.json").read_text())
    assert card["params"]["architecture"]["attention"] is True
    assert (card["params"]["parent"], card["params"]["attention"]) == ("full_wing", True)
    run(lane, phases, "attention", tmp_path / "again")
    assert contents(tmp_path / "attention") == contents(tmp_path / "again" / "attention")
    fresh = phase_params("symmetry").model_copy(update={"parent": "attention"})
    with pytest.raises(StageError, match="attention has attention"):
        phase.run(
            fresh, lane.films, lane.split, tmp_path / "attention", tmp_path / "x", Observer.quiet(tmp_path)
        )


def test_another_parent_and_another_split_are_refused(lane: Lane, phases: Path, tmp_path: Path):
    observe = Observer.quiet(tmp_path / "s")
    with pytest.raises(StageError, match="goes on from 'full_wing', but --parent is .*head_wing"):
        phase.run(phase_params("symmetry"), lane.films, lane.split, phases / "head_wing", tmp_path, observe)
    (tmp_path / "full_wing").mkdir()
    for file, content in contents(phases / "full_wing").items():
        (tmp_path / "full_wing" / file).write_bytes(content)
    card = json.loads((tmp_path / "full_wing" / "card.json").read_text())
    (tmp_path / "full_wing" / "card.json").write_text(json.dumps(card | {"split_sha256": "0" * 64}))
    with pytest.raises(StageError, match="another split"):
        phase.run(
            phase_params("symmetry"), lane.films, lane.split, tmp_path / "full_wing", tmp_path / "x", observe
        )


def test_monitored_error_and_predictions_are_those_of_the_kept_weights(
    lane: Lane, phases: Path, tmp_path: Path
):
    """In px at 224 of the raw films."""
    observe = Observer.quiet(tmp_path / "s")
    metrics = phase.run(
        phase_params("full_wing"), lane.films, lane.split, phases / "head_wing", tmp_path / "p", observe
    )
    data = LabelledFilms.open(lane.films, lane.split)
    rows = data.rows("val", "gate", "test")
    network = load_network(tmp_path / "p", load_card(tmp_path / "p"))
    predicted = predict_raw(network, data, rows, (48, 48), torch.device("cpu"))
    errors = np.linalg.norm(predicted - data.landmarks_raw[rows], axis=-1).mean(1) * 224 / 299
    val = errors[data.roles[rows] == "val"].mean()
    assert metrics["val_error_px224"] == pytest.approx(val, rel=1e-5)
    assert metrics["val_error_px224"] == min(row["val_error_px224"] for row in observe.history.values())
    table = tables.read_table(tmp_path / "p" / "predictions.parquet").set_index("id")
    assert set(table["method"]) == {"p"}
    assert sorted(table.index) == sorted(data.films.ids[rows])
    own = table.loc[data.films.ids[rows]]
    assert (own["role"].to_numpy() == data.roles[rows]).all()
    np.testing.assert_allclose(tables.stack_points(own["landmarks"]), predicted, atol=1e-3)


def test_only_train_films_are_trained_on(lane: Lane, phases: Path, tmp_path: Path):
    """Wrong labels of gate and test films change nothing; those of train films do."""
    data = LabelledFilms.open(lane.films, lane.split)
    params = phase_params("complete")

    def weights() -> list[torch.Tensor]:
        torch.manual_seed(0)
        return list(trained(phases, params, data, Observer.quiet(tmp_path / "s")).state_dict().values())

    before = weights()
    data.landmarks_raw[data.rows("gate", "test")] += 50
    assert all(torch.equal(a, b) for a, b in zip(before, weights(), strict=True))
    data.landmarks_raw[data.rows("train")] += 5
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(), strict=True))


def test_a_network_of_this_design_learns_where_a_bright_spot_is():
    """The average over the film drops position, so that this takes more than one layer to learn."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    wider = {"channels": (8, 12, 16, 24), "hidden": (32,)}
    network = LandmarkRegressor(start_params().architecture.model_copy(update=wider), 1)
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


def test_card_says_what_the_model_is(phases: Path):
    card = json.loads((phases / "full_wing" / "card.json").read_text())
    assert (card["lane"], card["dataset"], card["research_use_only"]) == ("chest", "phantom", True)
    assert card["schema"] == list(CHEST.names)
    assert card["input"] == {"height": 48, "width": 48}


def test_weights_of_another_architecture_are_refused(phases: Path, tmp_path: Path):
    for file, content in contents(phases / "full_wing").items():
        (tmp_path / file).write_bytes(content)
    card = json.loads((tmp_path / "card.json").read_text())
    card["params"]["architecture"]["hidden"] = [14]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(StageError, match="the weights do not fit card.json"):
        load_network(tmp_path, load_card(tmp_path))


def phases_of_params() -> list[str]:
    tree = yaml.safe_load((project_root(Path(__file__).parent) / "params.yaml").read_text(encoding="utf-8"))
    return list(tree["chest"]["phases"])


@pytest.mark.parametrize("profile", ["demo", "cpu", "full"])
def test_rates_of_every_phase_fit_the_network_and_parents_come_first(profile: str):
    architecture = load_params(start.Params, profile=profile).architecture
    known = {"start"}
    for name in phases_of_params():
        params = load_params(phase.Params, profile=profile, item=name)
        network = LandmarkRegressor(
            architecture.model_copy(update={"attention": params.attention}), CHEST.n_points
        )
        for stretch in params.fit.phases:
            assert stretch.rates.keys() == network.groups.keys(), name
        assert params.parent in known
        known.add(name)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "none above 0"),
        ({"wing": 0.0}, "none above 0"),
        ({"wing": 1.0, "wings": 1.0}, "wings unknown"),
    ],
)
def test_a_phase_needs_known_losses(weights: dict[str, float], said: str):
    values = load_params(phase.Params, profile="demo", item="full_wing").model_dump()
    values["fit"]["phases"][0]["weights"] = weights
    with pytest.raises(ValueError, match=f"mse, wing, symmetry, distance expected, {said}"):
        phase.Params.model_validate(values)


@pytest.mark.parametrize("weights", [{"mse": 1.0}, {"wing": 1.0, "distance": 0.2}])
def test_a_phase_may_have_any_of_the_losses(
    lane: Lane, phases: Path, tmp_path: Path, weights: dict[str, float]
):
    quiet = Observer.quiet(tmp_path / "s")
    params = with_weights(phase_params("full_wing"), **weights)
    trained(phases, params, LabelledFilms.open(lane.films, lane.split), quiet)
    parts = {f"train_{part}" for part in weights}
    assert set(quiet.history[1]) == {"train_loss", "val_error_px224"} | parts


@pytest.mark.parametrize("module", ["stages.chest.start", "stages.chest.phase"])
def test_training_brings_nothing_of_the_pipeline_around_it(module: str):
    """So that it runs where DVC, Prefect, MLflow and albumentations are not installed."""
    loaded = "stages.chest.regressor.training, stages.chest.regressor.pretrained, stages.chest.regressor.predictions"
    absent = ("dvc", "prefect", "mlflow", "albumentations", "matplotlib")
    code = f"import sys, {module}, {loaded}; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

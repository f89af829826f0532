"""Training: any vertebral schema, the same bytes twice and after a kill, only films that may be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import StageError
from stages.core.model.card import load_card
from stages.core.model.codecs import SoftmaxHeatmap
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.core.train import trainer
from stages.spine import train
from stages.spine.heatmap.inference import TrainedHeatmaps, predict_input
from stages.spine.heatmap.network import HeatmapNetwork
from stages.spine.schema import SCHEMA, vertebral_schema
from tests.spine.drawn import small, write_store

FOUR = vertebral_schema(("T1", "T2", "T3", "T4"))


def test_a_four_vertebra_schema_trains_and_beats_the_mean_shape(tmp_path: Path) -> None:
    data = write_store(tmp_path / "store", FOUR, n=64).open()
    network, fitted = train.train_network(data, FOUR, small(epochs=14), Observer.quiet(Path("unused")))
    assert network.head.convolutions[-1].out_channels == 16
    mean = data.landmarks_model[data.trainable()].mean(0)
    val = data.rows("val")
    floor = np.linalg.norm(
        data.films.to_raw(np.repeat(mean[None], len(val), 0), val) - data.landmarks_raw[val], axis=-1
    ).mean()
    assert fitted.best_value < 0.6 * floor


def test_run_twice_writes_the_same_bytes_and_a_card(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    outputs = []
    for name in ("a", "b"):
        observe = Observer.quiet(tmp_path / f"scratch-{name}", key="c" * 64)
        metrics = train.run(small(), store.films, store.audit, store.split, tmp_path / name, observe)
        files = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        outputs.append((metrics, files, observe.history))
    assert outputs[0] == outputs[1]
    assert outputs[0][0]["n_train"] == 7, "8 films have the role train, and the audit drops one"
    card = load_card(tmp_path / "a")
    assert (card.registry_name, card.n_train, card.landmarks) == ("spine-phantom", 7, SCHEMA.names)
    assert outputs[0][2][1].keys() == {
        "train_loss",
        "train_cross_entropy",
        "train_l1_cells",
        "val_error_raw_px",
    }


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "store", SCHEMA)

    def run(name: str) -> tuple[dict[str, float], bytes]:
        observe = Observer.quiet(tmp_path / f"scratch-{name}", key="c" * 64)
        metrics = train.run(small(epochs=3), store.films, store.audit, store.split, tmp_path / name, observe)
        return metrics, (tmp_path / name / "weights.pt").read_bytes()

    whole = run("whole")
    step, steps = trainer._Loop._step, iter(range(100))

    def dying(*arguments: Any) -> Any:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Loop, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run("torn")
    assert not (tmp_path / "torn").exists()
    assert run("torn") == whole


def test_films_that_may_not_be_used_change_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", FOUR)
    states = []
    for spoil in (False, True):
        data = store.open()
        if spoil:
            seen = np.concatenate([data.trainable(), data.trainable("val")])
            images = np.array(data.films.images)
            hidden = np.setdiff1d(np.arange(len(images)), seen)
            images[hidden] = 255 - images[hidden]
            data = replace(data, films=replace(data.films, images=images))
        network, _ = train.train_network(data, FOUR, small(), Observer.quiet(Path("unused")))
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_every_loss_needs_a_weight() -> None:
    params = load_params(train.Params, profile="demo").model_dump()
    params["fit"]["phases"][0]["weights"] = {"cross_entropy": 1.0}
    with pytest.raises(ValueError, match="weights of cross_entropy, l1_cells expected"):
        train.Params.model_validate(params)


def test_a_mirrored_film_gives_the_mirrored_answer() -> None:
    """Averaging over the mirror makes the network symmetric, whatever its weights."""
    torch.manual_seed(0)
    network = HeatmapNetwork(small().network, FOUR.n_points, (64, 32)).eval()
    codec = SoftmaxHeatmap(sigma=2.0, stride=2)
    film = np.random.default_rng(0).integers(0, 256, (1, 64, 32), dtype=np.uint8)
    cpu = torch.device("cpu")
    plain = predict_input(network, codec, FOUR, True, film, cpu)[0]
    mirrored = predict_input(network, codec, FOUR, True, film[:, :, ::-1], cpu)[0]
    np.testing.assert_allclose(mirrored[FOUR.swap, 0], 31 - plain[:, 0], atol=1e-4)
    np.testing.assert_allclose(mirrored[FOUR.swap, 1], plain[:, 1], atol=1e-4)
    one_sided = predict_input(network, codec, FOUR, False, film, cpu)[0]
    assert np.abs(one_sided - plain).max() > 1e-3


def test_a_model_folder_opens_only_for_its_own_landmarks(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    train.run(
        small(), store.films, store.audit, store.split, tmp_path / "m", Observer.quiet(tmp_path / "scratch")
    )
    trained = TrainedHeatmaps.open(tmp_path / "m", SCHEMA)
    films = store.open().films.images
    whole, twice = trained.predict(films), trained.predict(films.repeat(2, 1).repeat(2, 2))
    np.testing.assert_allclose(twice, whole * 2 + 0.5, atol=1e-3)
    with pytest.raises(
        StageError, match=r"holds a spine model of 68 points, expected .* 16 points T1 TL to T4 BR"
    ):
        TrainedHeatmaps.open(tmp_path / "m", FOUR)

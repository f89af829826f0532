"""The Corrector: published size, shifted points brought back, the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights
from stages.core.stage import Observer
from stages.spine import corrector
from stages.spine.correcting.architecture import LOSSES, Architecture
from stages.spine.correcting.inference import TrainedCorrector, build
from stages.spine.correcting.network import build_network
from stages.spine.schema import LEVELS, SCHEMA, vertebral_schema
from tests.spine.drawn import write_store
from tests.spine.erring import write_errors

FOUR = vertebral_schema(("T1", "T2", "T3", "T4"))


def built(form: str, **changes: Any) -> Architecture:
    heatmaps = {"form": "softmax", "backbone": "resnet10t", "weights": "random", "channels": 32}
    heatmaps |= {"decoder": "flat", "mixer_layers": 1, "stride": 4, "sigma": 2.5, "hint_sigma": 2.5}
    heatmaps |= {"hint_channels": 8, "average_mirror": False}
    values = {"form": form, "input": {"height": 64, "width": 32}, "sigma": 2.5, "film_channels": 1}
    values |= {"heatmaps": heatmaps}
    return Architecture.model_validate(values | changes)


def params(form: str, epochs: int = 1, samples: int = 16, **changes: Any) -> corrector.Params:
    weights = dict.fromkeys(LOSSES[form], 1.0)
    phase = {"name": "all", "epochs": epochs, "rates": {"network": 0.002}, "weights": weights}
    fit = {"batch_size": 8, "weight_decay": 0.01, "schedule": "one-cycle", "warmup": 0.2, "clip_norm": 1.0}
    fit |= {"ema_decay": 0.0, "patience": 0, "monitor": "val_error_raw_px", "precision": "float32"}
    return corrector.Params.model_validate(
        {
            "seed": 1,
            "threads": 1,
            "device": "cpu",
            "network": built(form),
            "samples_per_epoch": samples,
            "augment": {"mirror": 0.5, "rotation": 3.0, "log_scale": 0.03, "shift": 0.02, "photometric": []},
            "fit": fit | {"checkpoint_every": 1, "phases": [phase]},
        }
        | changes
    )


def test_the_published_network_has_its_size() -> None:
    architecture = built("deeplab", film_channels=3, input={"height": 256, "width": 128}, sigma=5.0)
    network = build_network(architecture, SCHEMA)
    assert sum(p.numel() for p in network.parameters()) == 39_864_196
    assert dict(network.named_parameters())["network.backbone.conv1.weight"].shape == (64, 71, 7, 7)


@pytest.mark.parametrize("n", [1, 17])
def test_any_spine_gets_maps_that_its_codec_reads(n: int) -> None:
    schema = vertebral_schema(LEVELS[:n])
    network = build_network(built("heatmap"), schema).eval()
    points = torch.rand(2, 4 * n, 2) * 30
    with torch.inference_mode():
        logits = network(torch.rand(2, 1, 64, 32), points)
    assert logits.shape == network.codec.encode(points, (64, 32)).shape == (2, 4 * n, 16, 8)


def test_the_answer_depends_on_film_and_points() -> None:
    torch.manual_seed(0)
    network = build_network(built("heatmap"), FOUR).eval()
    film, points = torch.rand(1, 1, 64, 32), torch.rand(1, 16, 2) * 30
    with torch.inference_mode():
        answers = [network(f, p) for f, p in ((film, points), (-film, points), (film, points.flip(1)))]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_shifted_points_are_brought_back(tmp_path: Path) -> None:
    data = write_store(tmp_path / "store", FOUR, n=64).open()
    examples = write_errors(tmp_path / "errors.parquet", data, FOUR)
    asked = params("heatmap", epochs=10, samples=64)
    observe = Observer.quiet(tmp_path / "scratch")
    network, fitted = corrector.train_corrector(data, FOUR, examples, asked, observe)
    best = observe.history[fitted.best_epoch]
    assert best["val_error_raw_px"] < 0.75 * best["val_input_error_raw_px"]
    trained = build(asked.model_dump(mode="json"), FOUR, network.state_dict())
    test = data.rows("test")
    truth = data.landmarks_model[test]
    shifted = truth + np.array([0, 12])  # by one vertebra
    proposed = trained.propose(data.films.images[test], shifted)
    errors, before = (np.linalg.norm(p - truth, axis=-1).mean(1) for p in (proposed, shifted))
    assert errors.mean() < 0.5 * before.mean()
    assert (errors < before).all()


@pytest.mark.parametrize("form", LOSSES)
def test_run_twice_writes_the_same_bytes_and_the_folder_opens(tmp_path: Path, form: str) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    write_errors(tmp_path / "errors.parquet", store.open(), SCHEMA)
    few = params(form, samples=4)
    few = few.model_copy(update={"fit": few.fit.model_copy(update={"batch_size": 2})})
    outputs = []
    for name in ("a", "b") if form == "heatmap" else ("a",):  # one run of the large network is slow enough
        observe = Observer.quiet(tmp_path / f"scratch-{name}", key="c" * 64)
        metrics = corrector.run(
            few, store.films, store.audit, store.split, tmp_path / "errors.parquet", tmp_path / name, observe
        )  # fmt: skip
        outputs.append((metrics, {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}))
    assert outputs[0] == outputs[-1]
    assert {"val_error_raw_px", "val_input_error_raw_px"} <= outputs[0][0].keys()
    card = load_card(tmp_path / "a")
    assert (card.architecture, card.n_train) == (f"spine-corrector-{form}", 6), "7 films, one held out"
    trained = TrainedCorrector.open(tmp_path / "a", SCHEMA)
    data = store.open()
    films, points = data.films.images[:3], data.landmarks_model[:3]
    proposed = trained.propose(films, points)
    assert proposed.shape == (3, 68, 2)
    assert trained.propose(films[:0], points[:0]).shape == (0, 68, 2)
    again = build(card.params, SCHEMA, load_weights(tmp_path / "a"))
    np.testing.assert_array_equal(again.propose(films, points), proposed)
    larger = trained.propose(films.repeat(2, 1).repeat(2, 2), points * 2 + 0.5)
    np.testing.assert_allclose(larger, proposed * 2 + 0.5, atol=1e-3)
    with pytest.raises(
        StageError, match="for 68 points, expected a Corrector of the spine lane for 16 points"
    ):
        TrainedCorrector.open(tmp_path / "a", FOUR)


def test_a_mirrored_film_gets_the_mirrored_answer() -> None:
    torch.manual_seed(0)
    heatmaps = built("heatmap").heatmaps.model_dump() | {"average_mirror": True}
    architecture = built("heatmap", heatmaps=heatmaps)
    network = build_network(architecture, FOUR).eval()
    trained = TrainedCorrector(architecture, network, FOUR)
    film = np.random.default_rng(0).integers(0, 256, (1, 64, 32), dtype=np.uint8)
    points = np.random.default_rng(1).uniform(2, 30, (1, 16, 2))
    mirrored = np.stack([31 - points[..., 0], points[..., 1]], -1)[:, FOUR.swap]
    plain, other = trained.propose(film, points), trained.propose(film[:, :, ::-1], mirrored)
    np.testing.assert_allclose(other[0, FOUR.swap, 0], 31 - plain[0, :, 0], atol=1e-4)
    np.testing.assert_allclose(other[0, FOUR.swap, 1], plain[0, :, 1], atol=1e-4)


def test_each_form_needs_the_weights_of_its_own_losses() -> None:
    wrong = params("heatmap").model_dump()
    wrong["network"]["form"] = "deeplab"
    with pytest.raises(ValueError, match="weights of bce expected for deeplab"):
        corrector.Params.model_validate(wrong)

"""The Detector: published size, crops, planted mistakes found, the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights
from stages.core.stage import Observer
from stages.core.train.augment import draw_warps, warp_points
from stages.spine import detector
from stages.spine.checking.architecture import Architecture, Threshold
from stages.spine.checking.inference import TrainedDetector, build
from stages.spine.checking.network import WindowDetector, build_network, crop
from stages.spine.checking.threshold import limits_raw
from stages.spine.schema import LEVELS, SCHEMA, vertebral_schema
from tests.spine.drawn import write_store
from tests.spine.erring import write_errors

FOUR = vertebral_schema(("T1", "T2", "T3", "T4"))
FORMS = ("windows", "global")
PARTLY_WRONG = {"out_of_fold": 0.0, "shift": 0.6, "neighbours": 0.2, "sides": 0.0, "clean": 0.2}
"""a mix without examples in which all points are wrong together"""


def built(form: str, **changes: Any) -> Architecture:
    values = {
        "form": form,
        "backbone": "resnet10t",
        "film_channels": 1,
        "sigma": 2.0,
        "input": {"height": 64, "width": 32},
        "vertebrae": 2,
        "margin": 0.2,
        "side": 32,
        "per_film": 2,
    }
    return Architecture.model_validate(values | changes)


def params(form: str, epochs: int = 1, samples: int = 16, **changes: Any) -> detector.Params:
    phase = {"name": "all", "epochs": epochs, "rates": {"network": 0.002}, "weights": {"wrong": 1.0}}
    fit = {"batch_size": 8, "weight_decay": 0.01, "schedule": "one-cycle", "warmup": 0.2, "clip_norm": 1.0}
    fit |= {"ema_decay": 0.0, "patience": 0, "monitor": "val_loss", "precision": "float32"}
    return detector.Params.model_validate(
        {
            "seed": 1,
            "threads": 1,
            "device": "cpu",
            "network": built(form),
            "threshold": {"least_px512": 5.0, "heights": 0.5},
            "samples_per_epoch": samples,
            "augment": {"mirror": 0.5, "rotation": 3.0, "log_scale": 0.03, "shift": 0.02, "photometric": []},
            "fit": fit | {"checkpoint_every": 1, "phases": [phase]},
        }
        | changes
    )


def test_the_reference_configuration_has_the_published_size() -> None:
    windows = built("windows", backbone="resnet18", film_channels=3, margin=0.0, side=128, sigma=5.0)
    network = build_network(windows, SCHEMA)
    assert sum(p.numel() for p in network.parameters()) == 11_205_704
    assert isinstance(network, WindowDetector)
    assert network.members.shape == (16, 8)
    whole = build_network(built("global", backbone="resnet18", film_channels=3), SCHEMA)
    assert dict(whole.named_parameters())["backbone.conv1.weight"].shape == (64, 71, 7, 7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [3, 17])
def test_any_spine_gets_a_logit_a_point(form: str, n: int) -> None:
    schema = vertebral_schema(LEVELS[:n])
    network = build_network(built(form), schema).eval()
    points = torch.rand(2, 4 * n, 2) * 30
    with torch.inference_mode():
        assert network(torch.rand(2, 1, 64, 32), points).shape == (2, 4 * n)
        logits, index = network.asked(torch.rand(2, 1, 64, 32), points, np.random.default_rng(0))
    assert logits.shape == index.shape
    assert set(index.flatten().tolist()) <= set(range(4 * n))


def test_windows_longer_than_the_spine_are_refused() -> None:
    with pytest.raises(StageError, match="windows of 5 vertebrae do not fit into a spine of 4"):
        build_network(built("windows", vertebrae=5), FOUR)


def test_a_point_in_two_windows_is_as_wrong_as_the_worse_one_says() -> None:
    network = WindowDetector(built("windows"), FOUR).eval()
    films, points = torch.rand(1, 1, 64, 32), torch.rand(1, 16, 2) * 30
    with torch.inference_mode():
        windows, index = network._judge(films, points, torch.arange(3)[None])
        logits = network(films, points)[0]
    for point in range(16):
        assert logits[point] == windows[0, index[0] == point].max()


def test_crops_hold_their_points_where_the_film_does() -> None:
    """On a film whose grey is its column, a crop's grey at a point is the point's x; likewise for rows."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(32.0), indexing="ij")
    films = torch.stack([columns, rows])[None]
    points = torch.tensor([[[[6.0, 10.0], [20.5, 12.0], [8.0, 40.0], [24.0, 37.25]]]])
    side = 96
    crops, places = crop(films, points, 0.15, side)
    assert crops.shape == (1, 2, side, side)
    grid = 2 * (places + 0.5) / side - 1
    seen = torch.nn.functional.grid_sample(crops, grid[:, None], align_corners=False)[0, :, 0].T
    torch.testing.assert_close(seen, points[0, 0], atol=0.02, rtol=0)


def test_points_on_one_another_still_get_a_crop() -> None:
    crops, places = crop(torch.rand(1, 1, 64, 32), torch.full((1, 1, 8, 2), 9.0), 0.0, 32)
    assert torch.isfinite(crops).all()
    torch.testing.assert_close(places, torch.full_like(places, 15.5))


def test_thresholds_follow_the_anatomy_but_have_a_least() -> None:
    box = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 8.0], [10.0, 8.0]])
    label = np.concatenate([box, 10 * box + [0, 100]])[None]
    limits = limits_raw(Threshold(least_px512=5.0, heights=0.5), label, np.array([1024]))
    np.testing.assert_allclose(limits, [[10.0] * 4 + [40.0] * 4])


def test_a_mirror_takes_the_verdict_with_the_point() -> None:
    rng = np.random.default_rng(0)
    labels, points = (rng.uniform(0, 30, (6, 16, 2)) for _ in range(2))
    settings = params("global").augment.model_copy(update={"log_scale": 0.0, "rotation": 0.0})
    warps = draw_warps(rng, settings, np.full((6, 2), (32, 64)), (64, 32))
    assert 0 < warps.mirrored.sum() < 6

    def wrong(given: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.linalg.norm(given - right, axis=-1) > 15

    after = wrong(warp_points(points, warps, FOUR), warp_points(labels, warps, FOUR))
    np.testing.assert_array_equal(detector.warp_flags(wrong(points, labels), warps, FOUR), after)


@pytest.mark.parametrize("form", FORMS)
def test_planted_mistakes_are_found(tmp_path: Path, form: str) -> None:
    data = write_store(tmp_path / "store", FOUR, n=64).open()
    examples = write_errors(tmp_path / "errors.parquet", data, FOUR, PARTLY_WRONG)
    asked = params(form, epochs=10, samples=64)
    network, _ = detector.train_detector(data, FOUR, examples, asked, Observer.quiet(tmp_path / "scratch"))
    trained = build(asked.model_dump(mode="json"), FOUR, network.state_dict())
    test = data.rows("test")
    points = data.landmarks_model[test]
    vertebra = np.arange(16) // 4 == 2
    points[:, vertebra] += [0, 12]  # one vertebra, by one vertebra
    found = trained.probabilities(data.films.images[test], points)
    assert found[:, vertebra].mean() > found[:, ~vertebra].mean() + 0.1
    assert (found[:, vertebra].mean(1) > found[:, ~vertebra].mean(1)).mean() > 0.9


@pytest.mark.parametrize("form", FORMS)
def test_run_twice_writes_the_same_bytes_and_the_folder_opens(tmp_path: Path, form: str) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    write_errors(tmp_path / "errors.parquet", store.open(), SCHEMA)
    outputs = []
    for name in ("a", "b"):
        observe = Observer.quiet(tmp_path / f"scratch-{name}", key="c" * 64)
        metrics = detector.run(
            params(form), store.films, store.audit, store.split, tmp_path / "errors.parquet", tmp_path / name, observe
        )  # fmt: skip
        outputs.append((metrics, {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}))
    assert outputs[0] == outputs[1]
    assert {"val_loss", "val_average_precision", "val_prevalence"} <= outputs[0][0].keys()
    card = load_card(tmp_path / "a")
    assert (card.architecture, card.n_train) == (f"spine-detector-{form}", 6), "7 films, one held out"
    trained = TrainedDetector.open(tmp_path / "a", SCHEMA)
    data = store.open()
    found = trained.probabilities(data.films.images[:3], data.landmarks_model[:3])
    assert found.shape == (3, 68)
    assert ((found >= 0) & (found <= 1)).all()
    assert trained.probabilities(data.films.images[:0], data.landmarks_model[:0]).shape == (0, 68)
    again = build(card.params, SCHEMA, load_weights(tmp_path / "a"))
    np.testing.assert_array_equal(again.probabilities(data.films.images[:3], data.landmarks_model[:3]), found)
    with pytest.raises(
        StageError, match="for 68 points, expected a Detector of the spine lane for 16 points"
    ):
        TrainedDetector.open(tmp_path / "a", FOUR)


def test_validation_counts_as_it_says() -> None:
    wrong = np.array([[True, False, False, True]])
    perfect = detector.judged(np.where(wrong, 9.0, -9.0), wrong)
    assert perfect["val_average_precision"] == 1
    assert perfect["val_loss"] == pytest.approx(np.log1p(np.exp(-9.0)))
    blind = detector.judged(np.zeros((1, 4)), wrong)
    assert blind["val_average_precision"] == blind["val_prevalence"] == 0.5
    assert blind["val_loss"] == pytest.approx(np.log(2))
    assert np.isnan(detector.judged(np.zeros((1, 4)), np.zeros((1, 4), bool))["val_average_precision"])


def test_every_loss_needs_a_weight() -> None:
    wrong = params("global").model_dump()
    wrong["fit"]["phases"][0]["weights"] = {"bce": 1.0}
    with pytest.raises(ValueError, match="weights of wrong expected"):
        detector.Params.model_validate(wrong)

"""The smoothing network: its size, what it learns of noisy motion, and how it is used on views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import smooth
from stages.pose.body import measures
from stages.pose.body.frames import root_relative
from stages.pose.simulation.packed import COLUMNS, VIEW_SCHEMA, Packed
from stages.pose.smoothing.architecture import Sizes
from stages.pose.smoothing.inference import Smoother
from stages.pose.smoothing.network import SmoothingNetwork, losses
from tests.pose.conftest import contents

FRAMES = 90
SHORT = 20


def params(**changes: Any) -> smooth.Params:
    """A network that learns in a second."""
    phase = {"name": "smooth", "epochs": 12, "rates": {"network": 0.004}}
    phase["weights"] = {"position": 1.0, "acceleration": 0.1}
    fit = {"batch_size": 8, "weight_decay": 0.0, "schedule": "one-cycle", "warmup": 0.2, "clip_norm": 1.0}
    fit |= {"ema_decay": 0.9, "patience": 0, "monitor": "val_sim_mpjpe_mm", "precision": "float32"}
    small = {
        "seed": 1,
        "threads": 1,
        "device": "cpu",
        "sizes": {"frames": 32, "width": 48, "hidden": 24, "blocks": 1, "dropout": 0.0},
        "stride": 8,
        "windows_per_epoch": 160,
        "val_windows": 20,
        "fit": fit | {"checkpoint_every": 5, "phases": [phase]},
    }
    return smooth.Params.model_validate(small | changes)


def write_swinging(folder: Path) -> Path:
    """A packed set of people whose joints swing, estimated with white noise of 3 cm.

    Each role has four views; the last is shorter than a window, and one lacks frames 40 to 44.
    """
    rng = np.random.default_rng(0)
    views = []
    for r, role in enumerate(("train", "val", "test")):
        numbers = [np.arange(n) for n in (FRAMES, FRAMES, FRAMES, SHORT)]
        numbers[1] = np.delete(numbers[1], np.arange(40, 45))
        truth = np.concatenate([swinging(rng, frames) for frames in numbers])
        columns: dict[str, np.ndarray] = {
            name: np.zeros((len(truth), *shape), kind) for name, (shape, kind) in COLUMNS.items()
        }
        columns["gt_pose"] = truth.astype(np.float32)
        columns["sim_pose"] = root_relative(truth + rng.normal(0, 0.03, truth.shape)).astype(np.float32)
        columns["frame"] = np.concatenate(numbers).astype(np.int32)
        (folder / role).mkdir(parents=True)
        for name, column in columns.items():
            np.save(folder / role / f"{name}.npy", column)
        first = 0
        for k, frames in enumerate(numbers):
            name = f"{role}-{k}"
            place = {"dancer": r, "draw": 0, "first_row": first, "n_rows": len(frames), "cam": "c01"}
            views.append({"id": name, "clip": name, "sequence": name, "genre": "BR", "group": name} | place)
            views[-1]["role"] = role
            first += len(frames)
    tables.write_table(folder / "views.parquet", pd.DataFrame(views), VIEW_SCHEMA)
    facts = {"name": "phantom", "fps": 60, "frame_step": 1, "split_sha256": "5" * 64}
    (folder / "manifest.json").write_text(json.dumps(facts))
    return folder


def swinging(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """(n, 17, 3) root-relative poses whose coordinates are sinusoids of 0.5 to 1.5 Hz."""
    phase, middle = rng.uniform(0, 2 * np.pi, (17, 3)), rng.normal(0, 0.3, (17, 3))
    rate = rng.uniform(0.5, 1.5, (17, 3)) * 2 * np.pi / 60
    return root_relative(middle + 0.15 * np.sin(rate * frames[:, None, None] + phase))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_swinging(tmp_path_factory.mktemp("swinging") / "packed")


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("smooth")
    metrics = smooth.run(params(), packed, folder / "model", Observer.quiet(folder / "s"))
    return folder / "model", metrics


def test_the_published_size_has_some_690_000_parameters() -> None:
    published = Sizes(frames=32, width=512, hidden=128, blocks=5, dropout=0.25)
    counted = sum(p.numel() for p in SmoothingNetwork(published).parameters())
    assert counted == pytest.approx(0.69e6, rel=0.01)


def test_every_series_is_smoothed_alone() -> None:
    network = SmoothingNetwork(Sizes(frames=8, width=16, hidden=8, blocks=2, dropout=0.0)).eval()
    series = torch.randn(2, 5, 8)
    moved = series.clone()
    moved[0, 3] += 1
    changed = (network(moved) != network(series)).any(-1)
    assert changed.nonzero().tolist() == [[0, 3]]


def test_losses_are_in_metres_and_forgive_no_jitter() -> None:
    truth = torch.linspace(0, 1, 8).expand(3, 8)
    shifted = losses(truth + 0.02, truth)
    assert float(shifted["position"]) == pytest.approx(0.02, rel=1e-4)
    assert float(shifted["acceleration"]) == pytest.approx(0, abs=1e-6)
    jitter = losses(truth + 0.02 * torch.tensor([1.0, -1.0] * 4), truth)
    assert float(jitter["acceleration"]) == pytest.approx(0.08, rel=1e-4)


def test_noise_on_held_out_swings_is_smoothed_away(
    packed: Path, trained: tuple[Path, dict[str, float]]
) -> None:
    role, smoother = Packed.open(packed).role("test"), Smoother.load(trained[0], 1)
    rows = np.arange(FRAMES)
    truth, given = (np.asarray(role[name][rows], np.float64) for name in ("gt_pose", "sim_pose"))
    smoothed = smoother.predict(role, rows, 1)
    jitter = [measures.acceleration_error_mm(pose, truth, rows).mean() for pose in (given, smoothed)]
    error = [measures.joint_errors_mm(pose, truth).mean() for pose in (given, smoothed)]
    assert jitter[1] < 0.2 * jitter[0]
    assert error[1] < 0.8 * error[0]
    metrics = trained[1]
    assert metrics["val_sim_acceleration_error_mm"] < 0.3 * metrics["before_val_sim_acceleration_error_mm"]


def test_rows_of_many_views_get_what_each_view_gets(
    packed: Path, trained: tuple[Path, dict[str, float]]
) -> None:
    """Views with missing frames and views shorter than a window included."""
    role, smoother = Packed.open(packed).role("test"), Smoother.load(trained[0], 1)
    rows = np.arange(len(role))
    whole = smoother.predict(role, rows, 1)
    assert np.isfinite(whole).all()
    some = np.array([3, FRAMES + 41, FRAMES + 60, len(role) - 1])
    np.testing.assert_array_equal(smoother.predict(role, some, 1), whole[some])
    # beside the hole, frame 45 is row 40 of its view: taken for frame 40 it would be a tenth of a second late
    error = np.linalg.norm(whole - role["gt_pose"], axis=-1).mean(1)
    assert error[FRAMES + 40 : FRAMES + 80].mean() < 0.035


def test_windows_stay_in_their_view(packed: Path) -> None:
    role = Packed.open(packed).role("train")
    rows = smooth.window_rows(role, np.array([0, FRAMES - 1, len(role) - 1]), 32, 1)
    np.testing.assert_array_equal(rows[0], np.arange(32))
    np.testing.assert_array_equal(rows[1], np.arange(FRAMES - 32, FRAMES))
    assert rows[2].min() == len(role) - SHORT
    assert rows[2].max() == len(role) - 1


def test_training_twice_gives_equal_bytes(
    packed: Path, trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    metrics = smooth.run(params(), packed, tmp_path / "model", Observer.quiet(tmp_path / "s"))
    assert metrics == trained[1]
    assert contents(tmp_path / "model") == contents(trained[0])


def test_another_kind_of_model_is_refused(trained: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    card = json.loads((trained[0] / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"architecture": "depth-refiner"}))
    with pytest.raises(StageError, match="expected a smoothing-network"):
        Smoother.load(tmp_path, 1)


def test_a_phase_that_weighs_unknown_losses_is_an_error() -> None:
    fit = params().fit.model_dump()
    fit["phases"][0]["weights"] = {"position": 1.0}
    with pytest.raises(ValidationError, match="position, acceleration"):
        params(fit=fit)

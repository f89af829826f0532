"""Floors, refiner, training, evaluation, prediction and candidate, on a lane of a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights
from stages.core.promotion.candidate import read_candidate
from stages.core.stage import Observer
from stages.pose import candidate, evaluate, floors, train
from stages.pose.body.skeleton import HIPS, JOINTS, SWAP, mid, mirror_pose
from stages.pose.evaluate import evaluate_folder
from stages.pose.model import linear
from stages.pose.model.architecture import Architecture
from stages.pose.model.floors import FLOORS, Floors
from stages.pose.model.inference import Refiner
from stages.pose.model.losses import confidence_loss, direction_loss, position_loss
from stages.pose.model.refiner import DepthRefiner
from stages.pose.model.windows import Window, mirror_window
from stages.pose.simulation.packed import COLUMNS, Packed, PackedRole
from tests.pose.conftest import Lane, contents, small_params, train_params
from tests.pose.test_packed import some_window


def role_of(poses: np.ndarray, truth: np.ndarray) -> PackedRole:
    """A role of one view without 2D detections to speak of."""
    n = len(poses)
    columns = {name: np.zeros((n, *shape), kind) for name, (shape, kind) in COLUMNS.items()}
    columns |= {"sim_pose": poses.astype(np.float32), "gt_pose": truth.astype(np.float32)}
    columns |= {"sim_visibility": np.ones((n, 17), np.float32), "frame": np.arange(n, dtype=np.int32)}
    columns["sim_uv_px"] = 300 * columns["sim_pose"][..., :2]
    views = pd.DataFrame({"id": ["a"], "first_row": [0], "n_rows": [n]})
    return PackedRole("train", columns, views)


def tensors(window: Window) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for a in (window.pose, window.visibility, window.seen)]


# ---------------------------------------------------------------- floors


def test_a_linear_error_is_learned_exactly() -> None:
    """Depth errors that a linear map makes of the pose (and that a mirror leaves alone) vanish."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.3, (3000, 17, 3))
    truth -= mid(truth, HIPS)[:, None]
    estimate = truth.copy()
    estimate[..., 2] -= 0.2 * truth[..., 1] + 0.05
    estimate -= mid(estimate, HIPS)[:, None]
    role = role_of(estimate, truth)
    found = linear.fit(role, role, np.array([0]), (1e-9,), 3000)
    assert found.val_abs_dz_cm < 0.05


def test_the_linear_correction_is_the_same_for_people_and_their_mirrors(lane: Lane) -> None:
    packed = Packed.open(lane.packed)
    found = linear.fit(packed.role("train"), packed.role("val"), np.array([-3, 0, 3]), (0.01,), 2000)
    window = some_window(k=3)
    ahead = linear.correct(mirror_window(window), 1, found.weights, found.constant)
    np.testing.assert_allclose(
        ahead, mirror_pose(linear.correct(window, 1, found.weights, found.constant)), atol=1e-3
    )


def test_floors_are_what_they_are_called(lane: Lane) -> None:
    role, fitted = Packed.open(lane.packed).role("val"), Floors.load(lane.floors)
    rows = np.array([0, 7, 100])
    np.testing.assert_array_equal(fitted.predict("identity", role, rows), role["sim_pose"][rows])
    flat = fitted.predict("flat", role, rows)
    assert not flat[..., 2].any()
    np.testing.assert_array_equal(flat[..., :2], role["sim_pose"][rows][..., :2])
    shift = fitted.predict("bias", role, rows) - role["sim_pose"][rows]
    np.testing.assert_allclose(shift, shift[:1].repeat(3, 0), atol=1e-6)
    assert -0.2 < shift[0, 0, 2] < -0.05  # heads are estimated too far away


def test_better_informed_floors_are_better(lane: Lane) -> None:
    role, fitted = Packed.open(lane.packed).role("test"), Floors.load(lane.floors)
    rows = np.arange(0, len(role), 3)
    error = {
        name: np.abs(fitted.predict(name, role, rows) - role["gt_pose"][rows])[..., 2].mean()
        for name in FLOORS
    }
    assert max(error["ridge_time"], error["ridge"]) < error["bias"] < error["identity"] < error["flat"]


def test_floors_twice_are_equal_bytes(lane: Lane, tmp_path: Path) -> None:
    params = small_params(floors.Params, max_rows=2000)
    floors.run(params, lane.packed, tmp_path / "floors", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "floors") == contents(lane.floors)


# ---------------------------------------------------------------- network and losses


def test_the_refiner_starts_as_the_linear_correction() -> None:
    network = DepthRefiner(Architecture(width=16, layers=1, heads=2, dropout=0.0), 5, 2).eval()
    rng = np.random.default_rng(0)
    weights, constant = rng.normal(0, 0.01, (5 * 17 * 6, 51)), rng.normal(0, 0.01, 51)
    network.start_from(weights, constant)
    window = some_window()
    refined, _ = network(*tensors(window))
    expected = linear.correct(window, 2, weights, constant)
    expected -= mid(expected, HIPS)[:, None]
    np.testing.assert_allclose(refined.detach().numpy(), expected, atol=1e-5)


def test_refined_poses_are_root_relative_and_joints_hear_of_each_other() -> None:
    torch.manual_seed(0)
    network = DepthRefiner(Architecture(width=16, layers=1, heads=2, dropout=0.0), 5, 2).eval()
    torch.nn.init.normal_(network.tokens.head.weight)
    pose, visibility, seen = tensors(some_window())
    refined, _ = network(pose, visibility, seen)
    assert (refined[:, HIPS[0]] + refined[:, HIPS[1]]).abs().max() < 1e-6
    moved = pose.clone()
    moved[:, :, JOINTS.index("left_wrist"), 2] += 0.2
    change = (network(moved, visibility, seen)[0] - refined).abs().amax((0, 2))
    assert (change > 1e-5).all()


def test_losses_are_zero_on_the_truth_and_have_their_units() -> None:
    truth = torch.from_numpy(some_window().pose[:, 0])
    assert position_loss(truth, truth) == 0
    assert direction_loss(truth, truth) == pytest.approx(0, abs=1e-6)
    shifted = truth + torch.tensor([0.0, 0.0, 0.03])
    assert position_loss(shifted, truth) == pytest.approx(2 * 0.03 / 3, rel=1e-5)  # depth counts twice
    assert direction_loss(shifted, truth) == pytest.approx(0, abs=1e-6)


def test_confidence_is_right_where_the_scale_is_the_mean_error_and_leaves_the_pose_alone() -> None:
    torch.manual_seed(0)
    truth = torch.zeros(4000, 17, 3)
    refined = truth.clone()
    refined[..., 2] = 0.05 * torch.distributions.Laplace(0, 1).sample((4000, 17))
    refined.requires_grad_()
    log_scale = torch.full((4000, 17), float(np.log(0.05)), requires_grad=True)
    loss = confidence_loss(refined, log_scale, truth)
    loss.backward()
    assert refined.grad is None or not refined.grad.any()
    assert log_scale.grad is not None
    assert log_scale.grad.sum() == pytest.approx(0, abs=0.02)
    for other in (0.03, 0.08):
        assert confidence_loss(refined, torch.full_like(log_scale, float(np.log(other))), truth) > loss


# ---------------------------------------------------------------- training


def test_training_twice_gives_equal_bytes(lane: Lane, tmp_path: Path) -> None:
    metrics = train.run(train_params(), lane.packed, tmp_path / "model", Observer.quiet(tmp_path / "s"))
    assert metrics == lane.metrics["train"]
    assert contents(tmp_path / "model") == contents(lane.model)


def test_training_improves_on_its_start_and_on_the_estimate(lane: Lane) -> None:
    metrics = lane.metrics["train"]
    assert metrics["best_val_sim_mean_abs_dz_cm"] < metrics["first_val_sim_mean_abs_dz_cm"] < 8


def test_a_killed_training_ends_with_the_same_bytes(
    lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Observer):
        def __call__(self, step: int, **metrics: float) -> None:
            super().__call__(step, **metrics)
            if step == 2:
                raise KeyboardInterrupt

    for name, kind in (("whole", Observer), ("cut", Killed)):
        observe = kind(tmp_path / f"scratch-{name}", "k" * 64, echo=False)
        if kind is Killed:
            with pytest.raises(KeyboardInterrupt):
                train.run(train_params(), lane.packed, tmp_path / name, observe)
            assert list((tmp_path / "scratch-cut").glob("*.pt"))
            observe = Observer(tmp_path / "scratch-cut", "k" * 64, echo=False)
        train.run(train_params(), lane.packed, tmp_path / name, observe)
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")


def test_the_card_says_what_the_model_is(lane: Lane) -> None:
    card = load_card(lane.model)
    assert (card.lane, card.dataset, card.landmarks) == ("pose", "phantom", JOINTS)
    assert card.split_sha256 == Packed.open(lane.packed).manifest["split_sha256"]
    assert card.params["estimator"]["seed"] == 20
    assert all(torch.isfinite(value).all() for value in load_weights(lane.model).values())


def test_a_phase_that_weighs_unknown_losses_is_an_error() -> None:
    fit = train_params().fit.model_dump()
    fit["phases"][0]["weights"] = {"position": 1.0, "smoothness": 1.0}
    with pytest.raises(ValidationError, match="position, direction, confidence"):
        train_params(fit=fit)


def test_refining_a_mirrored_person_gives_the_mirrored_answer(lane: Lane) -> None:
    refiner, window = Refiner.load(lane.model, 1), some_window(k=9)
    pose, scale = refiner.refine(window)
    mirrored_pose, mirrored_scale = refiner.refine(mirror_window(window))
    np.testing.assert_allclose(mirrored_pose, mirror_pose(pose), atol=1e-5)
    np.testing.assert_allclose(mirrored_scale, scale[:, SWAP], rtol=1e-4)


# ---------------------------------------------------------------- evaluation and candidate


@pytest.fixture(scope="module")
def evaluation(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("evaluation")
    metrics = run_evaluation(lane, folder / "evaluation")
    return folder / "evaluation", metrics


def run_evaluation(lane: Lane, folder: Path) -> dict[str, float]:
    params = small_params(evaluate.Params, threads=1)
    observe = Observer.quiet(folder.parent / "s")
    return evaluate.run(params, lane.packed, lane.floors, lane.model, folder, observe)


def test_evaluating_twice_gives_equal_bytes(
    lane: Lane, evaluation: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    assert run_evaluation(lane, tmp_path / "evaluation") == evaluation[1]
    assert contents(tmp_path / "evaluation") == contents(evaluation[0])


def test_every_view_is_judged_by_every_method(lane: Lane, evaluation: tuple[Path, dict[str, float]]) -> None:
    table = pd.read_parquet(evaluation[0] / "per_sequence.parquet")
    views = Packed.open(lane.packed).views
    expected = set(views.loc[views["role"] != "train", "id"])
    for _, part in table.groupby("method"):
        assert set(part["id"]) == expected
    assert set(table["method"]) == {evaluate.METHOD, *FLOORS}


def test_figures_agree_with_the_arrays(lane: Lane, evaluation: tuple[Path, dict[str, float]]) -> None:
    role = Packed.open(lane.packed).role("test")
    view = role.views.iloc[3]
    rows = slice(view["first_row"], view["first_row"] + view["n_rows"])
    error = role["sim_pose"][rows] - role["gt_pose"][rows]
    table = pd.read_parquet(evaluation[0] / "per_sequence.parquet")
    row = table[(table["id"] == view["id"]) & (table["method"] == "identity")].iloc[0]
    assert row["sim_mean_abs_dz_cm"] == pytest.approx(100 * np.abs(error[..., 2]).mean(), rel=1e-5)
    assert row["sim_mpjpe_mm"] == pytest.approx(1000 * np.linalg.norm(error, axis=-1).mean(), rel=1e-5)
    refined = table[(table["role"] == "test") & (table["method"] == evaluate.METHOD)]
    ratio = refined["sim_expected_abs_dz_cm"].mean() / refined["sim_mean_abs_dz_cm"].mean()
    assert 0.5 < ratio < 2  # in the same unit, and not far off
    joints = pd.read_parquet(evaluation[0] / "per_joint.parquet")
    cameras = joints[(joints["role"] == "test") & (joints["method"] == "identity")]
    mean = np.average(cameras["sim_mean_abs_dz_cm"], weights=cameras["n_frames"])
    whole = np.abs(role["sim_pose"] - role["gt_pose"])[..., 2].mean()
    assert mean == pytest.approx(100 * whole, rel=1e-4)


def test_the_refiner_beats_the_estimate_on_dancers_it_never_saw(
    evaluation: tuple[Path, dict[str, float]],
) -> None:
    metrics = evaluation[1]
    assert metrics["sim_mean_abs_dz_cm"] < 0.7 * metrics["identity_sim_mean_abs_dz_cm"]
    assert metrics["sim_mpjpe_mm"] < metrics["identity_sim_mpjpe_mm"]


def test_every_figure_is_called_simulated(evaluation: tuple[Path, dict[str, float]]) -> None:
    table = pd.read_parquet(evaluation[0] / "per_sequence.parquet")
    facts = {"id", "clip", "sequence", "cam", "genre", "group", "role", "method", "n_frames"}
    assert all(name.startswith("sim_") for name in set(table.columns) - facts)
    assert all("sim_" in name or name.startswith("n_") for name in evaluation[1])


def test_comparisons_draw_dancers_and_few_of_them_get_no_interval(
    evaluation: tuple[Path, dict[str, float]],
) -> None:
    table = pd.read_csv(evaluation[0] / "comparison.csv")
    assert set(table["error"]) == {"sim_mean_abs_dz_cm", "sim_mpjpe_mm"}
    few = table["n_groups"] < 6
    assert few.any()
    assert table.loc[few, "low"].isna().all()
    assert (table.loc[few, "verdict"] == "too few groups").all()


def test_a_model_of_other_roles_is_refused(lane: Lane, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(lane.packed, tmp_path / "packed")
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    (tmp_path / "packed" / "manifest.json").write_text(json.dumps(manifest | {"split_sha256": "0" * 64}))
    params, observe = small_params(evaluate.Params, threads=1), Observer.quiet(tmp_path / "s")
    with pytest.raises(StageError, match="other roles"):
        evaluate.run(params, tmp_path / "packed", lane.floors, lane.model, tmp_path / "out", observe)


def test_the_candidate_carries_the_gates_errors_by_dancer(
    lane: Lane, evaluation: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    params = small_params(candidate.Params)
    for name in "ab":
        metrics = candidate.run(
            params, lane.model, evaluation[0], lane.packed, tmp_path / name, Observer.quiet(tmp_path / "s")
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    made = read_candidate(tmp_path / "a")
    gate = Packed.open(lane.packed).role("gate").views
    assert made.registry_name == "pose-phantom"
    assert made.groups == dict(zip(gate["id"], gate["group"], strict=True))
    assert metrics["gate_sim_mean_abs_dz_cm"] == pytest.approx(np.mean(list(made.errors.values())), abs=1e-4)
    assert set(made.floors) == set(FLOORS)


def test_a_folder_is_judged_with_what_could_not_be_used_listed(lane: Lane, tmp_path: Path) -> None:
    found: dict[str, Any] = evaluate_folder(lane.model, lane.raw, tmp_path / "a", 1)
    assert found["n_quarantined"] == len(found["quarantined"]) == lane.metrics["convert"]["n_quarantined"]
    assert found["n_samples"] == 9 * found["n_frames"]
    assert found["sim_mean_abs_dz_cm"] < found["sim_mean_abs_dz_cm_input"]
    assert found["sim_mpjpe_mm"] < found["sim_mpjpe_mm_input"]
    assert "simulated" in found["estimate"]
    again = evaluate_folder(lane.model, lane.raw, tmp_path / "b", 1)
    assert again["sim_mean_abs_dz_cm"] == found["sim_mean_abs_dz_cm"]
    json.dumps(found)


def test_a_model_that_does_not_say_how_it_was_made_is_refused_in_words(lane: Lane, tmp_path: Path) -> None:
    shutil.copytree(lane.model, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    del card["params"]["acclaim_rate"], card["params"]["estimator"]
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    with pytest.raises(StageError, match=r"\(acclaim_rate, estimator\): .*train the model again"):
        evaluate_folder(tmp_path / "model", lane.raw, tmp_path / "scratch", 1)


@pytest.mark.realdata
def test_a_phantoms_model_improves_real_motion(lane: Lane, realdata: Path, tmp_path: Path) -> None:
    """Real dancing, simulated estimates: even the small test model takes a good part of the error away."""
    found = evaluate_folder(lane.model, realdata / "pose_aistpp", tmp_path, 1)
    assert found["n_frames"] == 1440
    assert 10 < found["sim_mean_abs_dz_cm_input"] < 12.5
    assert found["sim_mean_abs_dz_cm"] < 0.75 * found["sim_mean_abs_dz_cm_input"]

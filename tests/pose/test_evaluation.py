"""Measures of views: zero for the truth, blind to what they are not about, whole in their parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import evaluate, floors, smooth, train
from stages.pose.body.frames import azimuth_elevation
from stages.pose.body.skeleton import ARMS, SWAP
from stages.pose.evaluation.constants import CONSTANTS, constant_errors, mean_view
from stages.pose.evaluation.judge import Predict, angle_errors, azimuth_bin, judge, visibility_thirds
from stages.pose.evaluation.schemas import MEASURES, PARTS, VIEW_ANGLES
from stages.pose.model.floors import FLOORS
from stages.pose.simulation.packed import Packed, PackedRole
from tests.pose.conftest import contents, small_params, train_params
from tests.pose.test_report import write_packed
from tests.pose.test_smooth import params as smooth_params

ABOUT_ONE_POSE = ("sim_bone_variation_percent", "sim_expected_abs_dz_cm", "sim_inverted_abs_dz_cm")
ZERO_FOR_TRUTH = [name for name in MEASURES if name not in ABOUT_ONE_POSE]


def quiet(done: int, total: int, what: str) -> None:
    pass


def truth(role: PackedRole, rows: np.ndarray) -> tuple[np.ndarray, None]:
    return np.asarray(role["gt_pose"][rows]), None


def given(role: PackedRole, rows: np.ndarray) -> tuple[np.ndarray, None]:
    return np.asarray(role["sim_pose"][rows]), None


def turned_round(role: PackedRole, rows: np.ndarray) -> tuple[np.ndarray, None]:
    """Left taken for right in the truth: the trunk faces the other way."""
    return np.asarray(role["gt_pose"][rows])[:, SWAP], None


METHODS: dict[str, Predict] = {"truth": truth, "given": given, "turned": turned_round}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed(tmp_path_factory.mktemp("few") / "packed", dancers=2)


# ---------------------------------------------------------------- measures of a view


def test_the_truth_has_no_error_of_any_kind(packed: Path) -> None:
    judged = judge(Packed.open(packed).role("test"), METHODS, quiet)
    perfect, estimated = (judged.views.query(f"method == '{name}'") for name in ("truth", "given"))
    for name in ZERO_FOR_TRUTH:
        np.testing.assert_allclose(perfect[name], 0, atol=1e-3, err_msg=name)
        assert (estimated[name] > 0).all(), name
    assert (judged.angles.query("method == 'truth'")["sim_joint_angle_deg"].dropna() < 1e-3).all()


def test_left_taken_for_right_is_front_taken_for_back(packed: Path) -> None:
    """Sides that are swapped turn the trunk about its long axis by 180 degrees."""
    role = Packed.open(packed).role("test")
    views = judge(role, METHODS, quiet).views.query("method == 'turned'")
    assert (views["sim_front_back_flips_percent"] == 100).all()


def test_angle_errors_are_about_the_joint_that_moved() -> None:
    pose = np.random.default_rng(0).normal(0, 0.3, (5, 17, 3))
    other = pose.copy()
    other[:, ARMS[0][2]] += [0.1, 0.2, -0.1]  # the left wrist
    error = angle_errors({"moved": other}, pose)["moved"]
    moved = set(error.index[error > 1e-6])
    assert "left_elbow_flexion" in moved
    assert moved <= {name for name in error.index if name.startswith(("left_elbow", "left_shoulder"))}


def test_all_but_the_pelvis_is_blind_to_where_the_camera_stands() -> None:
    pose = np.random.default_rng(1).normal(0, 0.3, (5, 17, 3))
    turned = pose @ Rotation.random(random_state=3).as_matrix().T
    error = angle_errors({"turned": turned}, pose)["turned"]
    pelvis = error.index.str.startswith("pelvis")
    np.testing.assert_allclose(error[~pelvis], 0, atol=1e-6)
    assert (error[pelvis] > 1).all()


# ---------------------------------------------------------------- parts and constants


def test_bins_of_azimuth_lie_around_their_names() -> None:
    names = np.array(PARTS["azimuth"])
    found = names[azimuth_bin(np.array([0, 22.4, 22.6, 90, 180, 337.4, 337.6, 359.9]))]
    assert found.tolist() == ["0", "0", "45", "90", "180", "315", "0", "0"]


def test_each_part_holds_every_sample_once(packed: Path) -> None:
    role = Packed.open(packed).role("test")
    judged = judge(role, METHODS, quiet)
    for (name, method), part in judged.parts.groupby(["part", "method"]):
        assert part["n_samples"].sum() == 17 * len(role), name
        whole = np.average(part["sim_mean_abs_dz_cm"], weights=part["n_samples"])
        views = judged.views[judged.views["method"] == method]
        expected = np.average(views["sim_mean_abs_dz_cm"], weights=views["n_frames"])
        assert whole == pytest.approx(expected, abs=1e-5), (name, method)
    thirds = (
        judged.parts.query("part == 'visibility' and method == 'truth'").groupby("bin")["n_samples"].sum()
    )
    np.testing.assert_allclose(thirds / thirds.sum(), 1 / 3, atol=0.01)
    assert (np.diff(visibility_thirds(role)) > 0).all()


def test_azimuths_are_averaged_on_the_circle() -> None:
    angles = np.radians([350.0, 30.0])
    view = np.stack([np.cos(angles), [0, 0], np.sin(angles)], axis=1)
    assert mean_view(view) == pytest.approx((10, 0))


def test_constants_are_of_training_and_of_the_camera(packed: Path) -> None:
    data = Packed.open(packed)
    train_role, test_role = data.role("train"), data.role("test")
    found = constant_errors(train_role, test_role)
    assert set(found["constant"]) == set(CONSTANTS)
    _, elevation = azimuth_elevation(np.asarray(train_role["view_dir"], np.float64))
    view = test_role.views.iloc[1]
    rows = slice(view["first_row"], view["first_row"] + view["n_rows"])
    own = np.asarray(train_role["cam"]) == test_role["cam"][view["first_row"]]
    _, judged = azimuth_elevation(np.asarray(test_role["view_dir"][rows], np.float64))
    for constant, chosen in zip(CONSTANTS, (np.ones_like(own), own), strict=True):
        row = found[(found["id"] == view["id"]) & (found["constant"] == constant)].iloc[0]
        expected = elevation[chosen].mean() if chosen.any() else elevation.mean()
        assert row["sim_elevation_mae_deg"] == pytest.approx(np.abs(judged - expected).mean(), rel=1e-6)


# ---------------------------------------------------------------- the stage


@pytest.fixture(scope="module")
def lane(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Floors, smoothing network and refiner of a set of two dancers, and its evaluation."""
    folder = tmp_path_factory.mktemp("lane")
    observe = Observer.quiet(folder / "s")
    manifest = {"estimator": {}, "max_gap": 1, "acclaim_rate": 120, "role_policy": ""}
    data = Packed.open(packed)
    (packed / "manifest.json").write_text(pd.Series(data.manifest | manifest).to_json())
    floors.run(small_params(floors.Params, max_rows=2000), packed, folder / "floors", observe)
    train.run(train_params(), packed, folder / "model", observe)
    smooth.run(smooth_params(), packed, folder / "smooth", observe)
    evaluation(packed, folder, folder / "evaluation")
    return folder


def evaluation(packed: Path, lane: Path, output: Path) -> dict[str, float]:
    params = small_params(evaluate.Params, threads=1)
    observe = Observer.quiet(lane / "s")
    return evaluate.run(
        params, packed, lane / "floors", lane / "model", output, observe, smooth=lane / "smooth"
    )


def test_two_dancers_get_figures_and_no_interval(packed: Path, lane: Path, tmp_path: Path) -> None:
    metrics = evaluation(packed, lane, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(lane / "evaluation")
    assert not any(name.endswith(("_low", "_high")) for name in metrics)
    assert metrics["n_groups"] == 2
    compared = pd.read_csv(lane / "evaluation" / "comparison.csv")
    assert compared["low"].isna().all()
    assert (compared["verdict"] == "too few groups").all()
    assert set(compared["method_b"]) == {*FLOORS, evaluate.SMOOTHED}


def test_every_method_is_in_every_table(lane: Path) -> None:
    methods = {evaluate.METHOD, evaluate.SMOOTHED, *FLOORS}
    for name in ("per_sequence", "per_joint", "per_angle", "per_part"):
        table = pd.read_parquet(lane / "evaluation" / f"{name}.parquet")
        assert set(table["method"]) == methods, name
        assert set(table["role"]) == {"val", "gate", "test"}, name


def test_constants_stand_beside_the_methods(packed: Path, lane: Path, tmp_path: Path) -> None:
    metrics = evaluation(packed, lane, tmp_path / "again")
    for constant in CONSTANTS:
        assert all(np.isfinite(metrics[f"constant_{constant}_{angle}"]) for angle in VIEW_ANGLES)


def test_a_smoothing_network_of_other_roles_is_refused(packed: Path, lane: Path, tmp_path: Path) -> None:
    other = tmp_path / "smooth"
    shutil.copytree(lane / "smooth", other)
    card = (other / "card.json").read_text()
    (other / "card.json").write_text(card.replace("5" * 64, "0" * 64))
    params = small_params(evaluate.Params, threads=1)
    with pytest.raises(StageError, match="smooth was trained on other roles"):
        evaluate.run(
            params,
            packed,
            lane / "floors",
            lane / "model",
            tmp_path / "out",
            Observer.quiet(tmp_path / "s"),
            smooth=other,
        )

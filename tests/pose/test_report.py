"""The pose page says what the evaluation says, and that all of it is simulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.data import tables
from stages.core.evaluate.statistics import compare_methods, write_comparison
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.pose import report
from stages.pose.body.skeleton import JOINTS, N_JOINTS
from stages.pose.estimation import records
from stages.pose.estimation import views as transfer_views
from stages.pose.evaluation import schemas
from stages.pose.evaluation.constants import CONSTANTS
from stages.pose.reporting.evidence import DEPTH, MODEL, TITLES
from stages.pose.reporting.where import mean_pose
from stages.pose.simulation.packed import COLUMNS, VIEW_SCHEMA, Packed
from tests.report_pages import BOOTSTRAP, read_page

CAMERAS = ("c01", "c05")
FRAMES = 8
ANGLES = ("left_knee_flexion", "right_elbow_flexion")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return write_packed(tmp_path / "packed")


def write_packed(folder: Path, dataset: str = "phantom", dancers: int = 5, tag: str = "") -> Path:
    """A packed set with the same views in every role; dancers differ from role to role."""
    rng = np.random.default_rng(0)
    rows = []
    for r, role in enumerate(("train", "val", "gate", "test")):
        for k in range(dancers * len(CAMERAS)):
            dancer, cam = 10 * r + k // len(CAMERAS), CAMERAS[k % len(CAMERAS)]
            sequence = f"gBR{tag}_d{dancer:02}"
            facts = {"clip": f"{sequence}/0", "sequence": sequence, "cam": cam, "genre": "BR", "role": role}
            place = {
                "dancer": dancer,
                "first_row": k * FRAMES,
                "n_rows": FRAMES,
                "group": f"dancer-{dancer}",
                "draw": 0,
            }
            rows.append({"id": f"{sequence}/0/{cam}", **facts, **place})
        (folder / role).mkdir(parents=True)
        n = dancers * len(CAMERAS) * FRAMES
        columns = {name: rng.normal(0, 0.4, (n, *shape)) for name, (shape, _) in COLUMNS.items()}
        columns["view_dir"] /= np.linalg.norm(columns["view_dir"], axis=1, keepdims=True)
        columns["flags"] = np.zeros(n)
        columns["frame"] = np.tile(np.arange(FRAMES), n // FRAMES)
        columns["cam"] = np.tile(np.repeat([int(cam[1:]) for cam in CAMERAS], FRAMES), dancers)
        for name, (_, kind) in COLUMNS.items():
            np.save(folder / role / f"{name}.npy", columns[name].astype(kind))
    tables.write_table(folder / "views.parquet", pd.DataFrame(rows), VIEW_SCHEMA)
    (folder / "manifest.json").write_text(
        json.dumps({"name": dataset, "fps": 60, "frame_step": 1, "split_sha256": "5" * 64})
    )
    return folder


def write_evaluation(folder: Path, packed: Path, refined_cm: float = 4.0) -> Path:
    """Judge every view by every method: the refiner is `refined_cm` off, floors 10 cm, constants 20 degrees."""
    rng = np.random.default_rng(1)
    views = pd.read_parquet(packed / "views.parquet").query("role != 'train'")
    size = {method: refined_cm if method == MODEL else 10.0 for method in TITLES}
    judged = schemas.Judged.join(_judged(views, method, size[method], rng) for method in TITLES)
    judged.write(folder)
    constants = [
        {**view, "constant": name, **dict.fromkeys(schemas.VIEW_ANGLES, 20.0)}
        for view in views[["id", "cam", "group", "role"]].to_dict("records")
        for name in CONSTANTS
    ]
    tables.write_table(folder / "constants.parquet", pd.DataFrame(constants), schemas.CONSTANT_SCHEMA)
    pairs = [(MODEL, floor) for floor in TITLES if floor != MODEL]
    by_patient = judged.views.rename(columns={"group": "patient"})
    compared = compare_methods(by_patient, pairs, DEPTH, ["val", "gate", "test"], BOOTSTRAP, 1)
    write_comparison(folder / "comparison.csv", compared)
    example = {"sequence": "s", "cam": "c01", "frame": 3}
    poses = {name: rng.normal(0, 0.4, 3 * N_JOINTS) for name in ("label", "estimate", "refined")}
    test = views[views["role"] == "test"]["id"].tolist()
    shown = zip(("best", "best", "median", "worst"), test, strict=False)
    examples = pd.DataFrame([{"case": case, "id": name, **example, **poses} for case, name in shown])
    tables.write_table(folder / "examples.parquet", examples, schemas.EXAMPLE_SCHEMA)
    return folder


def _judged(views: pd.DataFrame, method: str, size: float, rng: np.random.Generator) -> schemas.Judged:
    measures = {name: size + rng.normal(0, 0.1, len(views)) for name in schemas.MEASURES}
    measures["sim_inverted_abs_dz_cm"] = np.full(len(views), np.nan)
    if method != MODEL:
        measures["sim_expected_abs_dz_cm"] = np.full(len(views), np.nan)
    joints = [
        (role, method, cam, joint, 40, size + (3.0 if joint == "left_wrist" else 0.01 * k), 10 * size)
        for role in ("val", "gate", "test")
        for cam in CAMERAS
        for k, joint in enumerate(JOINTS)
    ]
    facts = [{**view, "method": method} for view in views[["id", "group", "role"]].to_dict("records")]
    parts = {("azimuth", "90"): 1.0, ("azimuth", "180"): 2.0, ("visibility", "low"): 3.0}
    parts["posture", "upright"] = 0.0
    return schemas.Judged(
        views[list(schemas.FACTS)].assign(method=method, n_frames=FRAMES, **measures),
        pd.DataFrame(joints, columns=schemas.JOINT_SCHEMA.names),
        pd.DataFrame(
            [
                {**f, "angle": name, "sim_joint_angle_deg": 2 * size + k}
                for f in facts
                for k, name in enumerate(ANGLES)
            ]
        ),
        pd.DataFrame(
            [
                {
                    **f,
                    "part": part,
                    "bin": bin_,
                    "n_samples": 40,
                    DEPTH: size + more,
                    "sim_mpjpe_mm": 10 * size,
                }
                for f in facts
                for (part, bin_), more in parts.items()
            ]
        ),
    )


def write(packed: Path, evaluation: Path, output: Path) -> dict[str, float]:
    history = output.with_suffix(".csv")
    history.write_text(
        f"step,train_loss,val_{DEPTH},val_sim_mpjpe_mm\n1,0.5,6.0,80\n2,0.4,5.0,70\n3,0.3,5.5,75\n"
    )
    params = report.Params(seed=1, figure_height=150, bootstrap=BOOTSTRAP)
    return report.run(params, packed, evaluation, history, output, Observer.quiet(output.parent / "scratch"))


def test_page_shows_methods_joints_cameras_and_cases(packed: Path, tmp_path: Path) -> None:
    metrics = write(packed, write_evaluation(tmp_path / "evaluation", packed), tmp_path / "pose.html")
    page = read_page(tmp_path / "pose.html")
    assert metrics["n_views_test"] == 10
    for text in ("Generated phantom, not real data", "Simulated estimates", "5.00 at epoch 2", "5" * 64):
        assert text in page.text
    assert all(title in page.text for title in TITLES.values())
    assert page.text.count("beats") >= 5
    assert all(joint.replace("_", " ") in page.text for joint in JOINTS)
    assert "Worst joint: left wrist (7.00 cm)" in page.text
    labels = [a["aria-label"] for name, a in page.elements if name == "svg"]
    assert sum("depth error" in label and "frame 3" in label for label in labels) == 4
    assert not any(name == "image" for name, _ in page.elements)


def test_page_shows_angles_views_and_circumstances(packed: Path, tmp_path: Path) -> None:
    write(packed, write_evaluation(tmp_path / "evaluation", packed), tmp_path / "pose.html")
    text = read_page(tmp_path / "pose.html").text
    # angle, before, after, paired change
    assert "left knee flexion 20.0 8.00 −12.0" in text
    assert "right elbow flexion 21.0 9.00 −12.0" in text
    assert "not judged: pelvis rotation" in text  # not in this evaluation's table
    assert "seen from: 90 (right) 400 11.0 5.00" in text
    assert "visibility: low 400 13.0 7.00" in text
    assert "genre: BR" in text
    assert text.count("constant: mean of training") == 2
    assert "Joint angle error after 22.4 degrees system description 4." in text
    assert "20.0 degrees" in text  # of the constant, beside the claim


def test_no_claim_is_confirmed_by_a_simulation(tmp_path: Path) -> None:
    packed = write_packed(tmp_path / "packed", dataset="aistpp")
    write(packed, write_evaluation(tmp_path / "evaluation", packed), tmp_path / "pose.html")
    text = read_page(tmp_path / "pose.html").text
    assert "aistpp" in text
    assert "Generated phantom" not in text
    assert "no verdict: simulated" in text
    assert "better here" not in text


def test_a_refiner_that_makes_it_worse_is_said_to(packed: Path, tmp_path: Path) -> None:
    write(packed, write_evaluation(tmp_path / "evaluation", packed, refined_cm=12.0), tmp_path / "pose.html")
    text = read_page(tmp_path / "pose.html").text
    assert "It is worse than" in text
    assert "It beats" not in text
    assert "+20 %" in text


def test_same_inputs_give_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path / "evaluation", packed)
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        write(packed, evaluation, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_two_dancers_and_hostile_names_still_give_a_page(tmp_path: Path) -> None:
    hostile = "<img src=x onerror='y'>\""
    packed = write_packed(tmp_path / "packed", dancers=2, tag=hostile)
    write(packed, write_evaluation(tmp_path / "evaluation", packed), tmp_path / "pose.html")
    text = read_page(tmp_path / "pose.html").text
    assert f"gBR{hostile}_d30" in text
    assert "too few cases" in text


def test_mean_pose_is_the_label_of_the_first_camera(packed: Path) -> None:
    role = Packed.open(packed).role("test")
    rows = [k for k in range(len(role)) if (k // FRAMES) % len(CAMERAS) == 0]
    expected = 100 * np.asarray(role["gt_pose"])[rows][..., :2].mean(0)
    np.testing.assert_allclose(mean_pose(Packed.open(packed)), expected, rtol=1e-5)


def test_params_are_complete() -> None:
    assert load_params(report.Params).figure_height >= 100


# ---------------------------------------------------------------- a real estimator


def write_transfer(folder: Path, cameras: tuple[str, ...] = ("cam_01", "cam_02")) -> Path:
    """The estimator 10 cm off in every joint, 4 more in the wrists; the refiner 8 cm."""
    place = [{"trial": "walk", "cam": cam} for cam in cameras]
    size = {"identity": 10.0, "refiner": 8.0, "flat": 20.0}
    views = [
        {**p, "method": method, "model_dataset": "phantom", "n_frames": 70, "n_joints": 17}
        | dict.fromkeys(transfer_views.MEASURES, cm)
        for p in place
        for method, cm in size.items()
    ]
    joints = [
        {**p, "method": method, "joint": joint}
        | {"real_mean_abs_dz_cm": cm + 4 * ("wrist" in joint), "real_mean_dz_cm": -cm, "real_mpjpe_mm": 9.0}
        for p in place
        for method, cm in size.items()
        for joint in JOINTS
        if joint != "left_ear"
    ]
    truth = [
        {
            **p,
            **dict.fromkeys(records.TRUTH_SCHEMA.names[2:], 1),
            "source": "detections",
            "reprojection_px": 6.5,
        }
        for p in place
    ]
    for name, rows, schema in (
        ("transfer", views, records.TRANSFER_SCHEMA),
        ("joints", joints, records.JOINT_SCHEMA),
        ("truth", truth, records.TRUTH_SCHEMA),
    ):
        tables.write_table(folder / f"{name}.parquet", pd.DataFrame(rows, columns=schema.names), schema)
    return folder


def write_with(transfer: Path, packed: Path, folder: Path) -> tuple[dict[str, float], str]:
    evaluation, history = write_evaluation(folder / "evaluation", packed), folder / "history.csv"
    history.write_text(f"step,train_loss,val_{DEPTH}\n1,0.5,6.0\n", encoding="utf-8")
    params = report.Params(seed=1, figure_height=150, bootstrap=BOOTSTRAP)
    observe = Observer.quiet(folder / "scratch")
    found = report.run(params, packed, evaluation, history, folder / "pose.html", observe, transfer)
    return found, read_page(folder / "pose.html").text


def test_page_shows_a_real_estimator_before_and_after_by_camera_and_joint(
    packed: Path, tmp_path: Path
) -> None:
    metrics, text = write_with(write_transfer(tmp_path / "transfer"), packed, tmp_path)
    assert metrics["n_videos"] == 2
    assert "2 videos of 1 trial, 140 frames compared" in text
    assert "10.0 cm before, 8.00 cm after (−20 %)" in text
    assert "walk cam_02 70 10.0 8.00" in text
    assert "left wrist 14.0 12.0 −10.0 −8.00" in text
    assert "right ear 10.0 8.00" in text
    assert "left ear 10.0 8.00" not in text  # was not compared
    assert "trained on phantom" in text


def test_page_says_so_where_there_are_no_videos(packed: Path, tmp_path: Path) -> None:
    metrics, text = write_with(write_transfer(tmp_path / "transfer", cameras=()), packed, tmp_path)
    assert metrics["n_videos"] == 0
    assert "n_videos 0" in text
    assert "--pose-videos" in text

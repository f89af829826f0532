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
from stages.pose import evaluate, report
from stages.pose.body.skeleton import JOINTS, N_JOINTS
from stages.pose.report_evidence import DEPTH, MODEL, TITLES
from stages.pose.report_where import mean_pose
from stages.pose.simulation.packed import COLUMNS, VIEW_SCHEMA, Packed
from tests.report_pages import BOOTSTRAP, read_page

CAMERAS = ("c01", "c05")
FRAMES = 8
FACTS = ("id", "clip", "sequence", "cam", "genre", "group", "role")


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
        for name, (shape, kind) in COLUMNS.items():
            values = rng.normal(0, 0.4, (dancers * len(CAMERAS) * FRAMES, *shape))
            np.save(folder / role / f"{name}.npy", values.astype(kind))
    tables.write_table(folder / "views.parquet", pd.DataFrame(rows), VIEW_SCHEMA)
    (folder / "manifest.json").write_text(
        json.dumps({"name": dataset, "fps": 60, "frame_step": 1, "split_sha256": "5" * 64})
    )
    return folder


def write_evaluation(folder: Path, packed: Path, refined_cm: float = 4.0) -> Path:
    """Judge every view by every method: the refiner is `refined_cm` off, floors 10 cm."""
    rng = np.random.default_rng(1)
    views = pd.read_parquet(packed / "views.parquet").query("role != 'train'")
    cases, joints = [], []
    for method in TITLES:
        size = refined_cm if method == MODEL else 10.0
        facts = views[list(FACTS)].assign(method=method, n_frames=FRAMES)
        measures = {name: size + rng.normal(0, 0.1, len(views)) for name in evaluate.MEASURES}
        measures["sim_inverted_abs_dz_cm"] = np.full(len(views), np.nan)
        if method != MODEL:
            measures["sim_expected_abs_dz_cm"] = np.full(len(views), np.nan)
        cases.append(facts.assign(**measures))
        joints += [
            (role, method, cam, joint, 40, size + (3.0 if joint == "left_wrist" else 0.01 * k), 10 * size)
            for role in ("val", "gate", "test")
            for cam in CAMERAS
            for k, joint in enumerate(JOINTS)
        ]
    per_view = pd.concat(cases)
    evaluate.write_tables(folder, per_view, pd.DataFrame(joints, columns=evaluate.JOINT_SCHEMA.names))
    pairs = [(MODEL, floor) for floor in TITLES if floor != MODEL]
    by_patient = per_view.rename(columns={"group": "patient"})
    compared = compare_methods(by_patient, pairs, DEPTH, ["val", "gate", "test"], BOOTSTRAP, 1)
    write_comparison(folder / "comparison.csv", compared)
    example = {"sequence": "s", "cam": "c01", "frame": 3}
    poses = {name: rng.normal(0, 0.4, 3 * N_JOINTS) for name in ("label", "estimate", "refined")}
    test = views[views["role"] == "test"]["id"].tolist()
    shown = zip(("best", "best", "median", "worst"), test, strict=False)
    examples = pd.DataFrame([{"case": case, "id": name, **example, **poses} for case, name in shown])
    tables.write_table(folder / "examples.parquet", examples, evaluate.EXAMPLE_SCHEMA)
    return folder


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

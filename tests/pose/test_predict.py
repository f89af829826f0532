from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.core.data.tables import read_table
from stages.core.errors import StageError
from stages.pose.body.frames import root_relative
from stages.pose.body.skeleton import HIPS, JOINT, mid, torso_length
from stages.pose.kinematics.angles import ANGLE_NAMES, camera_to_vertical, joint_angles
from stages.pose.kinematics.trc import read_trc
from stages.pose.predict import predict_files
from stages.pose.refine import refine
from stages.pose.simulation.packed import Packed
from tests.pose.conftest import Lane, contents


@pytest.fixture
def arrays(lane: Lane) -> dict[str, Any]:
    """A view of the test dancers as a file would hold it."""
    role = Packed.open(lane.packed).role("test")
    rows = slice(0, int(role.views.iloc[0]["n_rows"]))
    names = {"pose": "sim_pose", "visibility": "sim_visibility", "uv_px": "sim_uv_px"}
    return {name: np.array(role[column][rows]) for name, column in names.items()} | {"phantom": True}


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_files_are_refined_drawn_and_described(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    files = [write(tmp_path / "one.npz", arrays)]
    (tmp_path / "more").mkdir()
    files.append(write(tmp_path / "more" / "one.npz", {"pose": arrays["pose"] + 3.0, "phantom": True}))
    answers = predict_files(lane.model, files, tmp_path / "out")
    json.dumps(answers)
    assert [answer["file"] for answer in answers] == [str(file) for file in files]
    assert answers[0]["model"]["trained_on"] == "phantom"
    assert answers[0]["model"]["notice"] == "research use only"
    for answer in answers:
        with np.load(tmp_path / "out" / answer["poses"]) as refined:
            assert refined["pose"].shape == arrays["pose"].shape
            assert (refined["expected_abs_dz_m"] > 0).all()
        with Image.open(tmp_path / "out" / answer["overlay"]) as picture:
            assert picture.size[0] > 600
            assert not picture.info.get("Software")
    assert len({answer["overlay"] for answer in answers}) == 2


def test_a_file_gets_what_evaluation_gets(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    from stages.pose.model.inference import Refiner

    packed = Packed.open(lane.packed)
    role = packed.role("test")
    expected, _ = Refiner.load(lane.model, 1).refine_rows(
        role, np.arange(len(arrays["pose"])), packed.fps, packed.frame_step
    )
    answer = predict_files(lane.model, [write(tmp_path / "a.npz", arrays)], tmp_path)[0]
    with np.load(tmp_path / answer["poses"]) as refined:
        np.testing.assert_allclose(refined["pose"], expected, atol=1e-4)


def test_a_phantoms_model_refuses_people_and_names_them(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path
) -> None:
    person = write(tmp_path / "person.npz", {"pose": arrays["pose"]})
    phantom = write(tmp_path / "phantom.npz", arrays)
    with pytest.raises(StageError, match=r"person\.npz") as refusal:
        predict_files(lane.model, [phantom, person], tmp_path / "out")
    assert "phantom.npz" not in str(refusal.value)
    assert not (tmp_path / "out").exists()
    assert predict_files(lane.model, [person], tmp_path / "out", allow_phantom=True)[0]["phantom"] is False


def test_unusable_files_are_named_with_all_that_is_wrong(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path
) -> None:
    pose = arrays["pose"]
    holed = pose.copy()
    holed[3, 4] = np.nan
    wrong = {
        "shape": ({"pose": pose[:, :15], "visibility": arrays["visibility"][:, :3]}, "visibility must be"),
        "holes": ({"pose": holed}, "not finite"),
        "centimetres": ({"pose": 100 * pose}, "metres"),
        "nameless": ({"poses": pose}, "no array `pose`"),
        "objects": ({"pose": np.array([None])}, "cannot be read"),
        "slow": ({"pose": pose, "fps": 0}, "fps is 0"),
        "empty": ({"pose": pose[:0]}, "no frames"),
    }
    files = [write(tmp_path / f"{name}.npz", content) for name, (content, _) in wrong.items()]
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    answers = predict_files(
        lane.model, [*files, text, write(tmp_path / "good.npz", arrays)], tmp_path / "out"
    )
    for answer, (_, expected) in zip(answers, wrong.values(), strict=False):
        assert expected in answer["error"]["detail"], answer
    assert "cannot be read" in answers[-2]["error"]["detail"]
    assert "error" not in answers[-1]
    with pytest.raises(StageError, match=r"centimetres\.npz(.|\n)*text\.npz"):
        predict_files(lane.model, [*files, text], tmp_path / "out")


def test_angles_markers_and_pages_go_with_the_poses(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path
) -> None:
    file = write(tmp_path / "dance.npz", arrays)
    (answer,) = predict_files(lane.model, [file], tmp_path / "out")
    with np.load(tmp_path / "out" / answer["poses"]) as refined:
        pose = refined["pose"]
    expected = joint_angles(camera_to_vertical(pose), arrays["visibility"])
    table = read_table(tmp_path / "out" / answer["angles"])
    n = len(pose)
    assert table["angle"].tolist() == list(ANGLE_NAMES) * n
    found = table["after_deg"].to_numpy().reshape(n, -1)
    np.testing.assert_allclose(found, expected.values, atol=1e-3)
    assert table["observable"].to_numpy().reshape(n, -1)[0].tolist() == expected.observable.tolist()
    before = table["before_deg"].to_numpy().reshape(n, -1)[:, expected.observable]
    assert np.abs(before - found[:, expected.observable]).max() > 1
    trc = read_trc(tmp_path / "out" / answer["markers"])
    assert answer["n_markers"] == len(trc.markers) == 22
    wrist = camera_to_vertical(pose[:, JOINT["left_wrist"]])
    np.testing.assert_allclose(trc.markers["LWrist"], wrist, atol=1e-5)
    for page in (answer["angles_page"], answer["motion_page"]):
        text = (tmp_path / "out" / page).read_text()
        assert not re.search(r"https?://|src=|<link|@import|url\(", text)
        assert "Generated phantom" in text
        assert str(tmp_path) not in text
    shown = re.search(r'id="poses">(.*?)</script>', text, re.DOTALL)
    assert shown is not None
    motion = json.loads(shown[1])
    np.testing.assert_allclose(np.array(motion["after"]).reshape(n, 17, 3), 1000 * pose, atol=0.51)
    predict_files(lane.model, [file], tmp_path / "again")
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def test_a_cameras_elevation_levels_the_pelvis_and_nothing_else(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path
) -> None:
    up = np.array([0, -np.cos(np.radians(20)), -np.sin(np.radians(20))])
    level = write(tmp_path / "level.npz", arrays)
    known = write(tmp_path / "known.npz", arrays | {"up": up})
    tables = []
    for file, elevation in ((level, None), (level, 20.0), (known, None)):
        (answer,) = predict_files(lane.model, [file], tmp_path / "out", elevation=elevation)
        table = read_table(tmp_path / "out" / answer["angles"])
        tables.append(table[table["observable"]])
    first, told, own = (table["after_deg"].to_numpy() for table in tables)
    np.testing.assert_array_equal(told, own)
    pelvis = tables[0]["angle"].str.startswith("pelvis").to_numpy()
    np.testing.assert_allclose(first[~pelvis], told[~pelvis], atol=1e-2)
    assert np.abs(first[pelvis] - told[pelvis]).max() > 1


def test_poses_can_be_left_as_they_came_without_a_model(arrays: dict[str, Any], tmp_path: Path) -> None:
    person = write(tmp_path / "person.npz", {"pose": arrays["pose"] + 1})
    (answer,) = predict_files(tmp_path / "no-model", [person], tmp_path / "out", refiner="none")
    with np.load(tmp_path / "out" / answer["poses"]) as kept:
        np.testing.assert_allclose(kept["pose"], root_relative(arrays["pose"]), atol=1e-5)
    assert (answer["model"], answer["expected_abs_dz_cm"], answer["mean_abs_depth_change_cm"]) == (
        None,
        None,
        0,
    )


def test_a_model_of_another_form_is_refused(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", arrays)
    assert predict_files(lane.model, [file], tmp_path / "out", refiner="window")
    with pytest.raises(StageError, match="refiner of form window, not main"):
        predict_files(lane.model, [file], tmp_path / "out", refiner="main")


def test_the_augmenter_asks_for_what_it_needs(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", arrays)
    with pytest.raises(StageError, match="needs the person's --mass"):
        predict_files(lane.model, [file], tmp_path, augmenter=tmp_path, height=1.7)
    with pytest.raises(StageError, match=r"lacks lower/model\.onnx"):
        predict_files(lane.model, [file], tmp_path, augmenter=tmp_path, height=1.7, mass=70.0)


@pytest.mark.realdata
def test_with_the_augmenter_markers_and_angles_are_of_all_sixty_five(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path, realdata: Path
) -> None:
    pytest.importorskip("onnxruntime")
    file = write(tmp_path / "a.npz", arrays)
    folder = realdata / "pose_multiview" / "marker_augmenter_lstm_v0.3"
    (answer,) = predict_files(lane.model, [file], tmp_path, augmenter=folder, height=1.7, mass=70.0)
    assert len(read_trc(tmp_path / answer["markers"]).markers) == 65
    assert np.isfinite(read_table(tmp_path / answer["angles"])["after_deg"]).all()


def as_described(arrays: dict[str, Any], frame: int, size: float = 1.0) -> dict[str, Any]:
    """One frame as the system description keeps it: y up, z to the camera, picture shares, `size` m a unit."""
    sample = {
        "corrupted": arrays["pose"][frame] * [1, -1, -1] / size,
        "ground_truth": np.full((17, 3), np.nan),
        "visibility": arrays["visibility"][frame],
        "pose_2d": arrays["uv_px"][frame] / [1920, 1080],
        "azimuth": 12.0,
        "phantom": True,
    }
    return sample | ({"mp_scale": size} if size != 1 else {})


def test_the_descriptions_frames_are_taken_too(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    one = {name: value[3:4] for name, value in arrays.items() if name != "phantom"} | {"phantom": True}
    torso = float(torso_length(arrays["pose"][3]))
    files = [
        write(tmp_path / "sequence.npz", one),
        write(tmp_path / "metres.npz", as_described(arrays, 3)),
        write(tmp_path / "torsos.npz", as_described(arrays, 3, torso)),
        write(tmp_path / "unscaled.npz", {"corrupted": as_described(arrays, 3, torso)["corrupted"]}),
    ]
    answers = predict_files(lane.model, files, tmp_path / "out")
    poses = []
    for answer in answers[:3]:
        with np.load(tmp_path / "out" / answer["poses"]) as refined:
            poses.append(refined["pose"])
    np.testing.assert_allclose(poses[1], poses[0], atol=1e-5)
    np.testing.assert_allclose(poses[2], poses[0], atol=1e-5)
    assert "mp_scale" in answers[3]["error"]["detail"]


def test_feet_that_were_seen_give_ankles_and_follow_the_correction(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path
) -> None:
    ankles = arrays["pose"][:, [JOINT["left_ankle"], JOINT["right_ankle"]]]
    feet = ankles[:, :, None] + np.array([[0.0, 0.06, 0.05], [0.02, 0.07, -0.15]])
    file = write(tmp_path / "a.npz", arrays | {"feet": feet})
    (answer,) = predict_files(lane.model, [file], tmp_path / "out")
    table = read_table(tmp_path / "out" / answer["angles"])
    assert table.loc[table["angle"] == "left_ankle_dorsiflexion", "observable"].all()
    markers = read_trc(tmp_path / "out" / answer["markers"]).markers
    heel = camera_to_vertical(np.array([0.0, 0.06, 0.05]))
    np.testing.assert_allclose(
        markers["LHeel"] - markers["LAnkle"], np.broadcast_to(heel, markers["LHeel"].shape), atol=1e-5
    )


def test_an_estimators_table_is_taken_and_its_gaps_are_filled(
    lane: Lane, arrays: dict[str, Any], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    from stages.pose.estimation import worker

    n = len(arrays["pose"])
    rows = []
    for k in range(n):
        gap = k in (0, 7)
        rows.append(
            {
                "frame": k,
                "source_frame": k,
                "t_s": k / 30,
                "detected": not gap,
                "mp_xyz": np.where(gap, np.nan, arrays["pose"][k]),
                "visibility": np.where(gap, np.nan, arrays["visibility"][k]),
                "uv_px": np.where(gap, np.nan, arrays["uv_px"][k]),
                "feet_xyz": np.where(gap, np.nan, np.arange(12.0).reshape(4, 3) / 100),
                "feet_visibility": np.ones(4),
                "feet_uv_px": np.zeros((4, 2)),
            }
        )
    facts = {"fps": "30"}
    pq.write_table(worker.to_table(rows, facts), tmp_path / "video.parquet")
    (answer,) = predict_files(lane.model, [tmp_path / "video.parquet"], tmp_path / "out", allow_phantom=True)
    assert (answer["n_frames"], answer["n_filled_frames"]) == (n, 2)
    table = read_table(tmp_path / "out" / answer["angles"])
    assert (table.loc[table["frame"] == 7, "confidence"] == 0).all()
    assert table["t_s"].max() == pytest.approx((n - 1) / 30)
    ankle = table[table["angle"] == "right_ankle_dorsiflexion"]
    assert np.isfinite(ankle["after_deg"]).all()


def test_a_video_without_an_estimator_says_how_to_get_one(
    lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dance.mp4").touch()
    with pytest.raises(StageError, match=r"dance\.mp4: .*python -m stages\.pose\.estimation\.environment"):
        predict_files(lane.model, [tmp_path], tmp_path / "out")


def test_folders_stand_for_the_files_in_them(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "poses"
    folder.mkdir()
    for name in ("b", "a"):
        write(folder / f"{name}.npz", arrays)
    (folder / "notes.txt").touch()
    answers = predict_files(lane.model, [folder], tmp_path / "out")
    assert [Path(answer["file"]).name for answer in answers] == ["a.npz", "b.npz"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageError, match="holds no files of poses"):
        predict_files(lane.model, [tmp_path / "empty"], tmp_path / "out")


def test_arrays_are_refined_as_files_are(lane: Lane, arrays: dict[str, Any], tmp_path: Path) -> None:
    from stages.pose.model.inference import Refiner

    (answer,) = predict_files(lane.model, [write(tmp_path / "a.npz", arrays)], tmp_path / "out")
    with np.load(tmp_path / "out" / answer["poses"]) as written:
        expected = written["pose"], written["expected_abs_dz_m"]
    pose, visibility, uv = arrays["pose"], arrays["visibility"], arrays["uv_px"]
    found = refine(pose, visibility, uv, lane.model)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(mid(found[0], HIPS), 0, atol=1e-6)
    # poses that have nothing to do with each other: each as if it stood alone
    refiner = Refiner.load(lane.model, 1)
    alone = refine(pose[5], visibility[5], uv[5], refiner)
    assert (alone[0].shape, alone[1].shape) == ((17, 3), (17,))
    apart = refine(pose, visibility, uv, refiner, fps=None)
    np.testing.assert_allclose(apart[0][5], alone[0], atol=1e-5)
    assert np.abs(apart[0] - found[0]).max() > 1e-3
    with pytest.raises(StageError, match=r"visibility must be .*; detections must be"):
        refine(pose, visibility[:3], uv[:, :5], refiner)
    with pytest.raises(StageError, match="points must be"):
        refine(np.full((17, 3), np.nan), model=refiner)
    with pytest.raises(StageError, match="no poses"):
        refine(np.zeros((0, 17, 3)), model=refiner)

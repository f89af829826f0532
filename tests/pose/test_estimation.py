"""The real estimator's lane: pure parts of the worker, triangulation, readers, and the whole with a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import transfer
from stages.pose.body.frames import (
    Camera,
    project,
    rodrigues,
    root_relative,
    rotation_vector,
    world_to_camera,
)
from stages.pose.body.skeleton import HIPS, JOINT, JOINTS, N_JOINTS, mid
from stages.pose.estimation import environment, multiview, worker
from stages.pose.estimation.extraction import Settings, VideoError, extract, read_estimates
from stages.pose.estimation.triangulation import find_lags, reprojection_px, shift, triangulate
from stages.pose.estimation.truth import Triangulation, smooth, triangulated_truth, without_spikes
from stages.pose.estimation.views import as_role, levelling
from tests.pose.conftest import Lane, contents

SIZE = (1088, 1920)
SETTINGS = Settings(fps=60.0, max_frames=150, tracking=False)
TOGETHER = Triangulation(
    least_confidence=0.3, outlier_px=25, greatest_lag=4, spike_m=0.1, cut_off_hz=6, least_share=0.6
)
LAG = 2  # frames by which the third camera is late


def standing_person() -> np.ndarray:
    """(17, 3) metres, z up, facing x, the left towards +y."""
    heights = {"eye": 1.65, "ear": 1.62, "shoulder": 1.42, "elbow": 1.15, "wrist": 0.95, "hip": 0.95}
    heights |= {"knee": 0.5, "ankle": 0.1}
    widths = {"eye": 0.03, "ear": 0.07, "shoulder": 0.2, "elbow": 0.3, "wrist": 0.35, "hip": 0.12}
    widths |= {"knee": 0.14, "ankle": 0.15}
    points = np.zeros((N_JOINTS, 3))
    for number, name in enumerate(JOINTS):
        side, _, part = name.rpartition("_")
        across = {"left": 1, "right": -1}.get(side, 0)
        points[number] = [0.1 if part in ("nose", "eye") else 0.0, across * widths.get(part, 0), 0]
        points[number, 2] = heights.get(part, 1.62)
    return points


def motion(n_frames: int) -> np.ndarray:
    """(T, 17, 3) a person who turns, and swings about; slow enough for the low-pass to leave it alone."""
    t = np.arange(n_frames) / 60
    turned = np.einsum("tij,kj->tki", rodrigues(np.outer(0.8 * t, [0, 0, 1])), standing_person())
    sway = np.stack([0.3 * np.sin(4 * t), 0.2 * np.cos(3 * t), 0.05 * np.sin(5 * t)], axis=-1)
    return turned + sway[:, None]


def look_at(name: str, azimuth: float, height: float = 1.9, distance: float = 4.0) -> Camera:
    centre = np.array([distance * np.cos(azimuth), distance * np.sin(azimuth), height])
    forward = np.array([0, 0, 0.9]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, multiview.UP)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.array([[1680.0, 0, 530], [0, 1675.0, 950], [0, 0, 1]])
    lens = np.array([-0.05, 0.02, 1e-3, -5e-4, 0.0])
    return Camera(name, SIZE, matrix, lens, rotation, -rotation @ centre)


CAMERAS = tuple(look_at(f"cam_0{n + 1}", azimuth) for n, azimuth in enumerate((0.2, 1.9, 3.3, 4.8)))


def pixels(points: np.ndarray, cameras: tuple[Camera, ...] = CAMERAS) -> np.ndarray:
    return np.stack([project(world_to_camera(points, camera), camera) for camera in cameras])


# ------------ the worker


def test_the_mapping_takes_each_joint_from_the_landmark_of_its_name() -> None:
    names = ["nose", *(f"{s}_eye_{p}" for s in ("left", "right") for p in ("inner", "middle", "outer"))]
    names += [f"{s}_{p}" for p in ("ear", "mouth", "shoulder", "elbow", "wrist", "pinky", "index", "thumb")
              for s in ("left", "right")]  # fmt: skip
    names += [f"{s}_{p}" for p in ("hip", "knee", "ankle", "heel", "foot_index") for s in ("left", "right")]
    assert len(names) == worker.N_LANDMARKS
    taken = [names[number].replace("_middle", "") for number in worker.LANDMARKS]
    assert taken == list(JOINTS)
    assert [names[n] for n in worker.FEET_LANDMARKS] == [
        "left_heel",
        "right_heel",
        "left_foot_index",
        "right_foot_index",
    ]
    with pytest.raises(ValueError, match="33 landmarks"):
        worker.joints_of(np.zeros((17, 3)))


@given(st.integers(2, 200), st.floats(10, 240), st.floats(0, 5))
def test_frames_at_takes_the_nearest_frame_to_each_time(n: int, rate: float, start: float) -> None:
    times = start + np.arange(n) / rate
    frames = worker.frames_at(times, 60)
    wanted = np.arange(len(frames)) / 60
    off = np.abs((times - times[0])[frames] - wanted)
    least = np.abs((times - times[0])[None] - wanted[:, None]).min(1)
    assert (off <= least + 2e-6).all()
    assert (np.diff(frames) >= 0).all()
    # the last row lies within the video, and the next one would not
    assert wanted[-1] <= times[-1] - times[0] + 1e-5 < wanted[-1] + 1 / 60 + 2e-5


def test_frames_at_keeps_sixty_a_second_and_drops_or_repeats_others() -> None:
    rounded = np.round(np.arange(100) / 60, 3)  # a container that keeps milliseconds
    assert worker.frames_at(rounded, 60).tolist() == list(range(100))
    assert worker.frames_at(np.arange(4) / 30, 60).tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert worker.frames_at(np.arange(9) / 120, 60).tolist() == [0, 2, 4, 6, 8]
    ntsc = worker.frames_at(np.arange(1200) / (60000 / 1001), 60)
    assert np.abs(ntsc - np.arange(len(ntsc))).max() == 1  # a count of frames would drift without end
    assert len(ntsc) == 1201


def test_a_frame_without_a_person_is_a_row_of_nan() -> None:
    rng = np.random.default_rng(1)
    world, image = rng.uniform(-1, 1, (33, 4)), rng.uniform(0, 1, (33, 2))
    rows = [
        {"frame": 0, "source_frame": 0, "t_s": 0.0, **worker.row(world, image, SIZE)},
        {"frame": 1, "source_frame": 1, "t_s": 1 / 60, **worker.row(None, None, SIZE)},
    ]
    table = worker.to_table(rows, {"fps": "60"})
    assert table.schema.equals(worker.SCHEMA)
    assert table["detected"].to_pylist() == [True, False]
    seen, unseen = np.array(table["uv_px"].to_pylist()).reshape(2, 17, 2)
    np.testing.assert_allclose(seen[JOINT["left_eye"]], image[2] * SIZE, rtol=1e-6)
    assert np.isnan(unseen).all()
    assert np.isnan(table["feet_xyz"].to_pylist()[1]).all()


# ------------ triangulation


@given(st.integers(0, 2**32 - 1))
def test_exact_pixels_give_the_exact_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-1, -1, 0], [1, 1, 2], (5, 7, 3))
    weights = rng.uniform(0.3, 1, (4, 5, 7))
    weights[rng.integers(4), :2] = 0
    uv = pixels(points)
    uv[rng.integers(4), 0, 3] = np.nan
    found = triangulate(uv, weights, CAMERAS, 25)
    np.testing.assert_allclose(found, points, atol=1e-8)
    assert np.nanmax(reprojection_px(found, uv, CAMERAS)) < 1e-4


def test_one_wrong_view_of_four_hardly_moves_a_point() -> None:
    points = motion(3)
    uv = pixels(points)
    uv[2] += [150, -80]
    off = np.linalg.norm(triangulate(uv, np.ones(uv.shape[:-1]), CAMERAS, 10) - points, axis=-1)
    assert off.max() < 0.01
    least_squares = triangulate(uv, np.ones(uv.shape[:-1]), CAMERAS, 1e9)
    assert np.linalg.norm(least_squares - points, axis=-1).min() > 0.05


def test_fewer_than_two_views_give_nan() -> None:
    uv = pixels(motion(1))
    weights = np.zeros(uv.shape[:-1])
    weights[1] = 1
    assert np.isnan(triangulate(uv, weights, CAMERAS, 25)).all()
    weights[3, :, 5] = 1
    assert np.isfinite(triangulate(uv, weights, CAMERAS, 25)).all(-1).sum() == 1


def test_lags_are_found_and_undone() -> None:
    points = motion(90)
    uv = np.stack(
        [np.roll(view, lag, axis=0) for view, lag in zip(pixels(points), (0, 0, 3, -2), strict=True)]
    )
    uv += np.random.default_rng(2).normal(0, 2, uv.shape)
    weights = np.ones(uv.shape[:-1])
    for order, lags in (([0, 1, 2, 3], [0, 0, 3, -2]), ([2, 0, 3, 1], [0, -3, -5, -3])):
        ordered = [CAMERAS[view] for view in order]
        found = find_lags(uv[order, 5:-5], weights[order, 5:-5], ordered, 6)
        assert found.tolist() == lags
    still = np.tile(pixels(points[:1]), (1, 90, 1, 1)) + np.random.default_rng(3).normal(0, 2, uv.shape)
    assert find_lags(still, weights, CAMERAS, 5).tolist() == [0, 0, 0, 0]


@given(st.integers(-5, 5))
def test_shift_moves_a_camera_onto_the_first_ones_frames(lag: int) -> None:
    frames = np.arange(20.0)[None, :, None]
    moved = shift(frames, np.array([lag]))[0, :, 0]
    known = np.isfinite(moved)
    assert known.sum() == 20 - abs(lag)
    assert (moved[known] == np.flatnonzero(known) + lag).all()


def test_spikes_go_and_the_rest_stays() -> None:
    points = motion(60)
    spiked = points.copy()
    spiked[20, 4] += [0.5, 0, 0]
    spiked[30, 6] = np.nan
    cleaned = without_spikes(spiked, 0.1)
    gone = np.isnan(cleaned).any(-1)
    assert np.argwhere(gone).tolist() == [[20, 4], [30, 6]]
    np.testing.assert_array_equal(cleaned[~gone], points[~gone])


def test_smoothing_takes_jitter_and_leaves_motion() -> None:
    points = motion(120)
    noise = np.random.default_rng(4).normal(0, 0.01, points.shape)
    np.testing.assert_allclose(smooth(points, 60, TOGETHER)[10:-10], points[10:-10], atol=0.002)
    left = smooth(points + noise, 60, TOGETHER) - smooth(points, 60, TOGETHER)
    jitter = np.diff(left, 2, axis=0).std() / np.diff(noise, 2, axis=0).std()
    assert jitter < 0.1
    holed = points.copy()
    holed[50:52, 3] = np.nan
    holed[55, 3] = np.nan
    known = np.isfinite(smooth(holed, 60, TOGETHER)[:, 3]).all(-1)
    assert not known[50:56].any()  # three frames between two gaps are too few to filter
    assert known[:50].all()
    assert known[56:].all()


# ------------ the folder of videos


def write_detections(folder: Path, uv: np.ndarray) -> None:
    """BODY_25B files of pixels (T, 17, 2), with a less confident stranger in each."""
    folder.mkdir(parents=True)
    for frame, points in enumerate(uv):
        own = np.concatenate([points, np.full((17, 1), 0.9)], axis=1)
        person = np.vstack([own, np.zeros((8, 3))])
        stranger = person * [0.5, 0.5, 0.2]
        people = [{"pose_keypoints_2d": p.ravel().tolist()} for p in (stranger, person)]
        (folder / f"x.{frame:04d}.json").write_text(json.dumps({"people": people}))


def write_markers(path: Path, points: np.ndarray) -> None:
    names = ["Neck", *multiview.MARKER_JOINTS]
    columns = [mid(points, HIPS), *(points[:, JOINT[joint]] for joint in multiview.MARKER_JOINTS.values())]
    rows = np.stack(columns, axis=1)[..., [1, 2, 0]]  # written as (y, z, x)
    lines = [
        "PathFileType\t4\t(X/Y/Z)\tx.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits",
        f"60\t60\t{len(rows)}\t{len(names)}\tm",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\tX1\tY1\tZ1",
        *(f"{k + 1}\t{k / 60}\t" + "\t".join(map(str, row.ravel())) for k, row in enumerate(rows)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_calibration(path: Path, cameras: tuple[Camera, ...] = CAMERAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "[metadata]\nerror = 0.0\n"
    for camera in cameras:
        text += f'[{camera.name}]\nname = "{camera.name}"\nsize = {list(map(float, camera.size))}\n'
        text += f"matrix = {camera.matrix.tolist()}\ndistortions = {camera.distortion[:4].tolist()}\n"
        text += f"rotation = {rotation_vector(camera.rotation).tolist()}\n"
        text += f"translation = {camera.translation.tolist()}\nfisheye = false\n"
    path.write_text(text)


def write_answer(path: Path, pose: np.ndarray, uv: np.ndarray, missing: tuple[int, ...] = ()) -> None:
    """What the worker would say of a video: poses (T, 17, 3) and pixels (T, 17, 2)."""
    rows = []
    for k in range(len(pose)):
        world, image = np.zeros((33, 4)), np.zeros((33, 2))
        world[list(worker.LANDMARKS)] = np.concatenate([pose[k], np.full((17, 1), 0.9)], axis=1)
        image[list(worker.LANDMARKS)] = uv[k] / SIZE
        measured = worker.row(None, None, SIZE) if k in missing else worker.row(world, image, SIZE)
        rows.append({"frame": k, "source_frame": k, "t_s": k / 60, **measured})
    facts = {"fps": "60", "video_fps": "60", "video_sha256": worker.digest(path)}
    asked = worker.request(SETTINGS.fps, SETTINGS.max_frames, SETTINGS.tracking)
    pq.write_table(worker.to_table(rows, facts | asked), path.with_suffix(".answer"))


DEPTH_ERROR = 0.08  # m, planted at the left wrist


def write_session(folder: Path, n_frames: int = 50, detections: bool = True) -> np.ndarray:
    """Four cameras around a person, the third late by LAG frames; returns the world's points (T, 17, 3)."""
    points = motion(n_frames + LAG)
    write_calibration(folder / "Calibration" / "rig.toml")
    trial = folder / "P0" / "Walk"
    write_markers(trial / "pose-3d" / f"Walk_0-{n_frames}.trc", points[LAG:])
    (trial / "pose-3d" / f"Walk_0-{n_frames}_filt_butterworth.trc").write_text("filtered: not to be read")
    (trial / "videos").mkdir(parents=True)
    for number, camera in enumerate(CAMERAS):
        seen = points[:n_frames] if number == 2 else points[LAG:]
        video = trial / "videos" / f"cam0{number + 1}.mp4"
        video.write_bytes(f"video {number}".encode())
        uv = pixels(seen, (camera,))[0]
        if detections:
            write_detections(trial / "pose" / f"cam0{number + 1}_json", uv)
        pose = root_relative(seen @ camera.rotation.T)
        pose[:, JOINT["left_wrist"], 2] += DEPTH_ERROR
        write_answer(video, pose, uv, missing=(7,))
    return points[LAG:]


def test_a_session_is_read_as_it_was_written(tmp_path: Path) -> None:
    points = write_session(tmp_path)
    cameras, (trial,) = multiview.find_trials(tmp_path)
    for read, made in zip(cameras, CAMERAS, strict=True):
        for part in ("matrix", "distortion", "rotation", "translation"):
            np.testing.assert_allclose(getattr(read, part), getattr(made, part), atol=1e-9)
    assert list(trial.videos) == [camera.name for camera in CAMERAS]
    assert trial.markers is not None
    markers, times = multiview.read_markers(trial.markers)
    without = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("eye", "ear")]
    assert np.isnan(markers[:, without]).all()
    rest = np.setdiff1d(np.arange(N_JOINTS), without)
    np.testing.assert_allclose(markers[:, rest], points[:, rest], atol=1e-12)
    np.testing.assert_allclose(times, np.arange(50) / 60)
    uv, confidence = multiview.read_detections(trial.detections["cam_01"], 52)
    np.testing.assert_allclose(uv[:50], pixels(points)[0], atol=1e-9)
    assert np.isnan(uv[50:]).all()
    assert (confidence[50:] == 0).all()


@pytest.mark.parametrize("detections", [True, False])
def test_triangulated_poses_are_the_true_ones_in_every_camera(tmp_path: Path, detections: bool) -> None:
    points = write_session(tmp_path, detections=detections)
    cameras, (trial,) = multiview.find_trials(tmp_path)
    answers = [read_estimates(path.with_suffix(".answer")) for path in trial.videos.values()]
    uv, confidence = (np.stack([getattr(a, name) for a in answers]) for name in ("uv_px", "visibility"))
    truth = triangulated_truth(trial, cameras, uv, confidence, 60, TOGETHER)
    assert truth.source == ("detections" if detections else "estimates")
    assert truth.lags == {"cam_01": 0, "cam_02": 0, "cam_03": LAG, "cam_04": 0}
    assert truth.markers_lag == 0
    assert np.nanmax(truth.markers_mm) < 2
    assert truth.compared.all()
    late = truth.seen_by(cameras[2], 50)
    wanted = root_relative(points @ cameras[2].rotation.T)
    assert np.isnan(late[:LAG]).all()
    known = np.isfinite(late).all((1, 2))
    assert known.sum() >= 30
    off = np.abs(late - np.concatenate([np.full_like(wanted[:LAG], np.nan), wanted[:-LAG]]))
    assert np.nanmax(off[10:-10]) < 0.004


def test_a_folder_that_contradicts_itself_is_refused_with_every_offender(tmp_path: Path) -> None:
    write_session(tmp_path)
    videos = tmp_path / "P0" / "Walk" / "videos"
    for name in ("cam07.mp4", "cam08.mp4"):
        (videos / name).write_bytes(b"")
    with pytest.raises(StageError, match=r"cam07\.mp4(.|\n)*cam08\.mp4"):
        multiview.find_trials(tmp_path)
    (tmp_path / "Calibration" / "other.toml").write_text("")
    with pytest.raises(StageError, match="found 2"):
        multiview.find_trials(tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_text("[a]\nmatrix = [1]\nsize = [1, 1]\n[b]\nmatrix = [2]\n")
    with pytest.raises(StageError, match=r"a: ValueError: matrix(.|\n)*b: KeyError"):
        multiview.read_calibration(bad)
    (tmp_path / "x.trc").write_text("no markers")
    with pytest.raises(StageError, match="no marker file"):
        multiview.read_markers(tmp_path / "x.trc")
    folder = next((tmp_path / "P0" / "Walk" / "pose").iterdir())
    (folder / "y.0003.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}')
    with pytest.raises(StageError, match=r"y\.0003\.json"):
        multiview.read_detections(folder, 10)


# ------------ the environment and the worker's answers

STAND_IN = """#!{python}
import pathlib, shutil, sys
isolated, script, video, output = sys.argv[1:5]
assert isolated == "-I" and script.endswith("worker.py")
video = pathlib.Path(video)
with open(video.parent / "calls.txt", "a") as log:
    print(video.name, file=log)
content = video.read_bytes()
if content == b"broken":
    sys.exit(print("noise\\nno frame can be decoded", file=sys.stderr) or {unusable})
if content == b"crash":
    sys.exit("out of luck")
shutil.copy(video.with_suffix(".answer"), output)
"""


@pytest.fixture
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose interpreter hands out `<video>.answer` in place of estimating anything."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(STAND_IN.format(python=sys.executable, unusable=worker.UNUSABLE))
    python.chmod(0o755)
    (folder / ".complete").write_text(environment._requirements_digest())
    return folder


def test_a_missing_or_outdated_environment_says_what_to_run(stand_in: Path, tmp_path: Path) -> None:
    assert environment.interpreter(stand_in) == stand_in / "bin" / "python"
    (stand_in / ".complete").write_text("other requirements")
    for folder in (stand_in, tmp_path / "none"):
        with pytest.raises(StageError, match=r"stages\.pose\.estimation\.environment"):
            environment.interpreter(folder)


def test_an_environment_is_made_of_a_fitting_python_and_replaces_nothing_else(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    with pytest.raises(StageError, match=r"3\.9.*3\.11 and 3\.12"):
        environment.create(tmp_path / "new", str(old))
    assert not (tmp_path / "new").exists()
    fitting = tmp_path / "python3.12"
    fitting.write_text("#!/bin/sh\necho 3.12\n")
    fitting.chmod(0o755)
    kept = tmp_path / "work" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years")
    with pytest.raises(StageError, match="no environment: move it away"):
        environment.create(kept.parent, str(fitting))
    assert kept.read_text() == "years"
    with pytest.raises(StageError, match="cannot be run"):
        environment.create(tmp_path / "new", str(tmp_path / "nowhere"))


def test_every_requirement_is_pinned() -> None:
    lines = environment.REQUIREMENTS.read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "cam01.mp4"
    path.write_bytes(b"video")
    points = motion(6)
    write_answer(path, root_relative(points @ CAMERAS[0].rotation.T), pixels(points)[0], missing=(1, 2))
    return path


def test_extract_counts_and_does_not_ask_twice(video: Path, stand_in: Path, tmp_path: Path) -> None:
    python, output = stand_in / "bin" / "python", tmp_path / "out" / "cam01.parquet"
    counts = extract(video, output, python, SETTINGS)
    assert counts == {"n_frames": 6, "n_without_person": 2, "n_repeated": 0, "video_fps": 60.0}
    assert extract(video, output, python, SETTINGS) == counts
    calls = video.parent / "calls.txt"
    assert calls.read_text().splitlines() == ["cam01.mp4"]
    estimates = read_estimates(output)
    assert np.isnan(estimates.pose[1:3]).all()
    assert np.isfinite(estimates.pose[[0, 3, 4, 5]]).all()
    # another video of the same name, other settings, a torn file: each is asked for anew
    for settings, content in ((Settings(60, 100, False), b"video"), (SETTINGS, b"other video")):
        video.write_bytes(content)
        extract(video, output, python, settings)
    output.write_bytes(output.read_bytes()[:100])
    extract(video, output, python, SETTINGS)
    assert len(calls.read_text().splitlines()) == 4


def test_videos_that_cannot_be_used_say_why(video: Path, stand_in: Path, tmp_path: Path) -> None:
    python, output = stand_in / "bin" / "python", tmp_path / "out.parquet"

    def refusal(error: type[Exception], **changes: Any) -> str:
        with pytest.raises(error) as caught:
            extract(changes.get("video", video), output, changes.get("interpreter", python), SETTINGS)
        return str(caught.value)

    assert refusal(VideoError, video=tmp_path / "none.mp4").startswith("unreadable: ")
    video.write_bytes(b"broken")
    assert refusal(VideoError) == "unreadable: no frame can be decoded"
    video.write_bytes(b"crash")
    assert "out of luck" in refusal(StageError)
    assert "cannot be run" in refusal(StageError, interpreter=tmp_path / "no" / "python")
    assert not output.exists()
    video.write_bytes(b"empty room")
    write_answer(video, np.zeros((2, 17, 3)), np.zeros((2, 17, 2)), missing=(0, 1))
    assert refusal(VideoError) == "no_person: no person was found in any of 2 frames"
    table = pq.read_table(output).drop_columns(["visibility"])
    pq.write_table(table, video.with_suffix(".answer"))
    output.unlink()
    assert "another type visibility (fixed_size_list" in refusal(StageError)


# ------------ the whole


def params(environment_folder: Path) -> transfer.Params:
    return transfer.Params(
        threads=1,
        environment=environment_folder,
        fps=60,
        max_frames=150,
        tracking=False,
        least_frames=30,
        triangulation=TOGETHER,
    )


Measure = Callable[..., dict[str, float]]


@pytest.fixture
def measure(lane: Lane, stand_in: Path, tmp_path: Path) -> Measure:
    """`run` with the small lane's model; `data` may be another folder than the session's."""

    def run(output: str = "out", data: Path = tmp_path / "data", floors: bool = True) -> dict[str, float]:
        observe = Observer.quiet(tmp_path / f"scratch-{output}")
        return transfer.run(
            params(stand_in), data, lane.model, tmp_path / output, observe, lane.floors if floors else None
        )

    return run


def test_planted_errors_are_measured_and_the_outputs_are_the_same_twice(
    measure: Measure, tmp_path: Path
) -> None:
    write_session(tmp_path / "data")
    metrics = measure()
    assert metrics["n_videos"] == 4
    assert metrics["n_videos_refused"] == 0
    # one joint of 17 is off; the rest is what the low-pass does at the ends
    assert metrics["identity_real_mean_abs_dz_cm"] == pytest.approx(100 * DEPTH_ERROR / 17, abs=0.15)
    assert metrics["real_mean_abs_dz_cm"] > 0
    joints = pd.read_parquet(tmp_path / "out" / "joints.parquet")
    wrist = joints[(joints["method"] == "identity") & (joints["joint"] == "left_wrist")]
    assert wrist["real_mean_dz_cm"].tolist() == pytest.approx([100 * DEPTH_ERROR] * 4, abs=0.2)
    table = pd.read_parquet(tmp_path / "out" / "transfer.parquet")
    assert len(table) == 4 * 7
    assert set(table["model_dataset"]) == {"phantom"}
    truth = pd.read_parquet(tmp_path / "out" / "truth.parquet")
    assert truth["lag_frames"].tolist() == [0, 0, LAG, 0]
    assert truth["n_without_person"].tolist() == [1] * 4
    assert measure("again") == metrics
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    assert str(tmp_path).encode() not in b"".join(contents(tmp_path / "out").values())


def test_levelling_turns_people_upright_and_poses_back(tmp_path: Path) -> None:
    for camera in CAMERAS:
        rotation = levelling(camera)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        np.testing.assert_allclose(rotation @ camera.rotation @ multiview.UP, [0, -1, 0], atol=1e-12)
        assert (rotation @ [0, 0, 1])[0] == pytest.approx(0)  # the heading stays
    write_session(tmp_path)
    cameras, (trial,) = multiview.find_trials(tmp_path)
    answer = read_estimates(trial.videos["cam_01"].with_suffix(".answer"))
    view: Any = type("View", (), {"estimates": answer})
    rotation = levelling(cameras[0])
    level, plain = as_role(view, rotation), as_role(view)
    np.testing.assert_allclose(level["sim_pose"] @ rotation, plain["sim_pose"], atol=1e-5)
    assert plain["frame"].tolist() == [k for k in range(50) if k != 7]


def test_without_videos_there_are_empty_tables_and_nothing_is_needed(lane: Lane, tmp_path: Path) -> None:
    metrics = transfer.run(
        params(tmp_path / "no environment"),
        lane.raw,
        tmp_path / "no model",
        tmp_path / "out",
        Observer.quiet(tmp_path / "scratch"),
    )
    assert metrics == {"n_videos": 0, "n_videos_refused": 0, "n_frames": 0, "n_frames_compared": 0}
    for name in ("transfer", "joints", "truth", "estimates"):
        assert len(pd.read_parquet(tmp_path / "out" / f"{name}.parquet")) == 0


def test_unusable_videos_are_left_out_and_named(measure: Measure, tmp_path: Path) -> None:
    write_session(tmp_path / "data")
    videos = tmp_path / "data" / "P0" / "Walk" / "videos"
    (videos / "cam02.mp4").write_bytes(b"broken")
    assert measure("one", floors=False)["n_videos"] == 3
    table = pd.read_csv(tmp_path / "one" / "quarantine.csv")
    assert table[["cam", "reason"]].values.tolist() == [["cam_02", "unreadable"]]
    assert set(pd.read_parquet(tmp_path / "one" / "transfer.parquet")["method"]) == {
        "refiner",
        "refiner_level",
        "identity",
        "flat",
    }
    for name in ("cam01", "cam04"):
        (videos / f"{name}.mp4").write_bytes(b"broken")
    with pytest.raises(StageError, match=r"cam_01(.|\n)*cam_02(.|\n)*cam_04(.|\n)*cam_03: one_view"):
        measure("none")


def test_videos_without_the_environment_stop_with_what_to_do(lane: Lane, tmp_path: Path) -> None:
    write_session(tmp_path / "data")
    with pytest.raises(StageError, match="there is no environment for MediaPipe"):
        transfer.run(
            params(tmp_path / "none"),
            tmp_path / "data",
            lane.model,
            tmp_path / "out",
            Observer.quiet(tmp_path / "scratch"),
        )


@pytest.mark.realdata
@pytest.mark.slow
def test_mediapipe_on_the_calibrated_videos(realdata: Path, root: Path, tmp_path: Path) -> None:
    """Needs PLUMBLINE_REALDATA and a finished .venv-mediapipe; ten frames of one camera."""
    try:
        python = environment.interpreter(root / environment.DEFAULT)
    except StageError as missing:
        pytest.skip(str(missing))
    cameras, trials = multiview.find_trials(realdata / "pose_multiview")
    trial = next(trial for trial in trials if "Balancing" in trial.name)
    settings = Settings(fps=60, max_frames=10, tracking=False)
    outputs = [tmp_path / name for name in ("one.parquet", "two.parquet")]
    for output in outputs:
        assert extract(trial.videos["cam_01"], output, python, settings)["n_without_person"] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    found = read_estimates(outputs[0])
    assert trial.markers is not None
    markers, _ = multiview.read_markers(trial.markers)
    own = root_relative(markers[:10] @ cameras[0].rotation.T)
    known = np.isfinite(own).all((0, 2))
    # axes as documented: x right, y down, z away, no flips
    for axis in range(3):
        seen, true = root_relative(found.pose)[:, known, axis], own[:, known, axis]
        assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > 0.7

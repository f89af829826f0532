"""From annotations to labels: right frames, planted defects found, killed runs resumed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import convert
from stages.pose.body.frames import project, root_relative, world_to_camera
from stages.pose.body.measures import abs_dz_cm
from stages.pose.capture import conversion
from stages.pose.capture.annotations import read_annotations, read_poses, read_rig
from stages.pose.capture.checks import Flag
from stages.pose.capture.conversion import camera_labels
from stages.pose.capture.store import SequenceStore
from tests.pose.conftest import Lane, contents, small_params

REASONS = {  # planted defect of a whole file -> reason in the quarantine table
    "ignored": "ignored",
    "unmapped": "unmapped",
    "broken": "broken",
    "unsafe": "unsafe",
    "wrong_shape": "wrong_shape",
    "metres": "wrong_unit",
}
FLAGS = {"short_gap": Flag.INTERPOLATED, "long_gap": Flag.MISSING, "swapped": Flag.SWAPPED}
NAMES = [f"c{k:02d}" for k in range(1, 10)]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(raw: Path, folder: Path, **settings: Any) -> dict[str, float]:
    params = small_params(convert.Params, workers=1)
    params = params.model_copy(update={"settings": params.settings.model_copy(update=settings)})
    return convert.run(params, raw, folder / "sequences", Observer.quiet(folder / "scratch"))


def test_every_planted_file_is_quarantined_with_its_reason_and_no_other(lane: Lane) -> None:
    planted = {
        Path(row["file"]).stem: REASONS[row["defect"]]
        for row in read_csv(lane.raw / "planted.csv")
        if row["defect"] in REASONS
    }
    found = {row["sequence"]: row["reason"] for row in read_csv(lane.sequences / "quarantine.csv")}
    assert found == planted


def test_every_planted_piece_is_flagged_to_the_frame_and_no_other(lane: Lane) -> None:
    store = SequenceStore.open(lane.sequences)
    names = store.sequences.set_index("seq")["name"]
    planted = {
        (Path(row["file"]).stem, FLAGS[row["defect"]]): row["detail"].removeprefix("frames ")
        for row in read_csv(lane.raw / "planted.csv")
        if row["defect"] in FLAGS
    }
    found = {}
    for seq, columns in store.views("c01"):
        for flag in FLAGS.values():
            frames = columns["frame"][(columns["flags"] & flag) > 0]
            if len(frames):
                found[names[seq], flag] = f"{frames[0]}-{frames[-1]}"
                assert len(frames) == frames[-1] - frames[0] + 1
    assert found == planted


@pytest.mark.parametrize("cam", NAMES)
def test_a_perfect_estimator_of_any_camera_has_no_depth_error(lane: Lane, cam: str) -> None:
    """The store's labels are in the frame that an estimator of this camera works in."""
    annotations = read_annotations(lane.raw)
    store = SequenceStore.open(lane.sequences)
    seq, columns = next(iter(store.views(cam)))
    name = store.sequences.set_index("seq").loc[seq, "name"]
    camera = {c.name: c for c in read_rig(lane.raw, annotations.settings[name])}[cam]
    poses, _ = read_poses(annotations.files[name])
    whole = (columns["flags"] & (Flag.MISSING | Flag.INTERPOLATED)) == 0
    perfect = root_relative(world_to_camera(poses, camera))[whole]
    assert abs_dz_cm(perfect, columns["gt_cam_xyz"][whole]).max() < 1e-4
    np.testing.assert_allclose(
        project(world_to_camera(poses, camera), camera)[whole], columns["gt_uv_px"][whole], atol=1e-3
    )


def world_axes_error(poses: np.ndarray, rig: Any) -> dict[str, float]:
    """Mean |dz| in cm by camera of perfect estimates against labels that were left in the world's axes."""
    error = {}
    for camera in rig:
        seen = camera_labels(poses, camera)["gt_cam_xyz"]
        estimate = seen * [1, -1, -1]  # y up and z towards the camera: the world's axes, seen from the front
        error[camera.name] = abs_dz_cm(estimate, root_relative(poses)).mean()
    return error


def test_labels_left_in_world_axes_would_be_found(lane: Lane) -> None:
    """The mistake that looks harmless in front (c01) costs more than 8 cm in every camera aside."""
    annotations = read_annotations(lane.raw)
    name = sorted(annotations.splits)[-1]
    rig = read_rig(lane.raw, annotations.settings[name])
    error = world_axes_error(read_poses(annotations.files[name])[0], rig)
    assert error["c01"] < 5
    assert min(error[cam] for cam in NAMES[1:8]) > 8


@pytest.mark.realdata
def test_the_real_rig_shows_the_same(realdata: Path, tmp_path: Path) -> None:
    """Real motion, real cameras: 0 with the labels of the store, 12 to 29 cm with the world's axes."""
    raw = realdata / "pose_aistpp"
    metrics = run(raw, tmp_path)
    assert metrics["n_sequences"] == 2
    assert metrics["n_quarantined"] == 0
    assert metrics["n_rows"] == 2 * 720 * 9
    annotations = read_annotations(raw)
    store = SequenceStore.open(tmp_path / "sequences")
    names = store.sequences.set_index("seq")["name"]
    for cam in store.camera_names():
        for seq, columns in store.views(cam):
            poses, _ = read_poses(annotations.files[names[seq]])
            camera = {c.name: c for c in read_rig(raw, annotations.settings[names[seq]])}[cam]
            perfect = root_relative(world_to_camera(poses, camera))
            assert abs_dz_cm(perfect, columns["gt_cam_xyz"]).max() < 1e-4
    name = "gBR_sBM_cAll_d04_mBR0_ch03"
    error = world_axes_error(
        read_poses(annotations.files[name])[0], read_rig(raw, annotations.settings[name])
    )
    assert error["c01"] == pytest.approx(1.0, abs=0.3)
    for cam in NAMES[1:8]:
        assert 11 < error[cam] < 30, cam


def test_equal_input_gives_equal_bytes(lane: Lane, tmp_path: Path) -> None:
    assert run(lane.raw, tmp_path) == lane.metrics["convert"]
    assert contents(tmp_path / "sequences") == contents(lane.sequences)


def test_a_killed_run_goes_on_where_it_stopped(
    lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = conversion._sequence_columns
    calls: list[str] = []

    def dying(*arguments: Any) -> Any:
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(conversion, "_sequence_columns", dying)
    with pytest.raises(KeyboardInterrupt):
        run(lane.raw, tmp_path)
    assert not (tmp_path / "sequences").exists()
    first, calls = list(calls), []
    monkeypatch.setattr(conversion, "_sequence_columns", lambda *a: calls.append(a[-1]) or real(*a))
    run(lane.raw, tmp_path)
    assert len(first) + len(calls) == len(read_annotations(lane.raw).files)
    assert not set(first) & set(calls)
    assert contents(tmp_path / "sequences") == contents(lane.sequences)


def test_work_left_by_other_settings_is_not_taken(lane: Lane, tmp_path: Path) -> None:
    run(lane.raw, tmp_path, frame_step=3)
    metrics = run(lane.raw, tmp_path, frame_step=1)
    assert metrics == lane.metrics["convert"]


def test_the_number_of_processes_changes_nothing(lane: Lane, tmp_path: Path) -> None:
    params = small_params(convert.Params, workers=3)
    convert.run(params, lane.raw, tmp_path / "sequences", Observer.quiet(tmp_path / "scratch"))
    assert contents(tmp_path / "sequences") == contents(lane.sequences)


def test_small_row_groups_and_parts_hold_the_same_rows(lane: Lane, tmp_path: Path) -> None:
    run(lane.raw, tmp_path, rows_per_group=50, rows_per_part=120)
    assert len(list((tmp_path / "sequences" / "split=train" / "cam=c01").iterdir())) > 2
    cut, whole = (SequenceStore.open(folder) for folder in (tmp_path / "sequences", lane.sequences))
    for (seq, columns), (expected_seq, expected) in zip(cut.views("c03"), whole.views("c03"), strict=True):
        assert seq == expected_seq
        for name in expected:
            np.testing.assert_array_equal(columns[name], expected[name])


def test_every_third_frame(lane: Lane, tmp_path: Path) -> None:
    run(lane.raw, tmp_path, frame_step=3)
    store = SequenceStore.open(tmp_path / "sequences")
    _, columns = next(iter(store.views("c01")))
    assert columns["frame"].tolist() == list(range(0, 60, 3))
    np.testing.assert_allclose(columns["t_s"], columns["frame"] / 60, rtol=1e-6)
    assert store.manifest["fps"] == 20


def test_shards_say_their_units_and_the_manifest_their_content(lane: Lane) -> None:
    manifest = json.loads((lane.sequences / "manifest.json").read_text())
    assert manifest["name"] == "phantom"
    assert manifest["counts"]["n_rows"] == sum(shard["rows"] for shard in manifest["shards"].values())
    shard = pq.ParquetFile(lane.sequences / sorted(manifest["shards"])[0])
    units = {field.name: (field.metadata or {}).get(b"unit", b"") for field in shard.schema_arrow}
    assert units["gt_cam_xyz"].startswith(b"m, camera frame")
    assert b"never an input" in units["gt_uv_px"]
    assert "BYTE_STREAM_SPLIT" in shard.metadata.row_group(0).column(5).encodings


def test_split_is_the_data_sets_own_where_it_has_one(lane: Lane, tmp_path: Path) -> None:
    table = SequenceStore.open(lane.sequences).sequences
    assert ((table["split"] == "test") == (table["dancer"] % 3 == 0)).all()
    shutil.copytree(lane.raw, tmp_path / "raw", ignore=shutil.ignore_patterns("splits"))
    metrics = run(tmp_path / "raw", tmp_path)
    assert metrics["official_split"] == 0
    store = SequenceStore.open(tmp_path / "sequences")
    assert set(store.sequences["split"]) == {"none"}
    assert "no split files" in store.manifest["split_policy"]


def test_a_folder_without_a_usable_sequence_names_them_all(lane: Lane, tmp_path: Path) -> None:
    shutil.copytree(lane.raw, tmp_path / "raw")
    names = sorted(read_annotations(tmp_path / "raw").files)
    (tmp_path / "raw" / "ignore_list.txt").write_text("\n".join(names))
    with pytest.raises(StageError, match=names[0]):
        run(tmp_path / "raw", tmp_path)

"""Several kinds of motion capture in one raw folder, 2D detections, videos, and runs that are killed."""

from __future__ import annotations

import csv
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import convert, pack, phantom
from stages.pose.body.frames import project, root_relative, world_to_camera
from stages.pose.body.skeleton import HIPS, mid
from stages.pose.capture.annotations import UNSYNCED_VIEWS, SequenceError, read_poses
from stages.pose.capture.checks import UNUSABLE, Flag
from stages.pose.capture.conversion import Settings
from stages.pose.capture.detections import list_videos, read_detections
from stages.pose.capture.sources import AcclaimSource, find_sources
from stages.pose.capture.store import SequenceStore
from stages.pose.simulation.packed import Packed
from stages.pose.simulation.roles import EXTRA, OFFICIAL, PIECES, give_roles
from tests.pose.conftest import contents, phantom_params, small_params
from tests.pose.test_roles import sequences

SETTINGS = small_params(convert.Params).settings
MOCAP = phantom.Mocap(trials=2, frames=120)
DETECTED = 4


def mixed_params() -> phantom.Params:
    """Dancers, some of them detected, beside a motion capture subject."""
    params = phantom_params(dancers=30, sequences=30, frames=50)
    defects = params.defects.model_copy(update={"broken_detections": 1, "broken_motion": 1})
    return params.model_copy(update={"detected": DETECTED, "mocap": MOCAP, "defects": defects})


def run(raw: Path, folder: Path, **settings: Any) -> dict[str, float]:
    chosen = Settings.model_validate(SETTINGS.model_dump() | settings)
    params = small_params(convert.Params, workers=1).model_copy(update={"settings": chosen})
    return convert.run(params, raw, folder / "sequences", Observer.quiet(folder / "scratch"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw, and the sequences made of it."""
    folder = tmp_path_factory.mktemp("mixed")
    phantom.run(mixed_params(), folder / "raw", Observer.quiet(folder / "s"))
    run(folder / "raw", folder)
    return folder


@pytest.fixture
def store(mixed: Path) -> SequenceStore:
    return SequenceStore.open(mixed / "sequences")


# ---------------------------------------------------------------- two kinds in one folder


def test_both_kinds_are_found_and_told_apart(store: SequenceStore) -> None:
    table = store.sequences
    counts = store.manifest["counts"]
    assert (table["source"] == "acclaim").sum() == counts["n_sequences_acclaim"] == MOCAP.trials
    assert (table["source"] == "aistpp").sum() == counts["n_sequences_aistpp"] == 30
    mocap = table[table["source"] == "acclaim"]
    assert set(mocap["split"]) == {"extra"}
    assert set(mocap["dancer"]) == {1090}  # one subject: its trials are no two people
    assert (mocap["n_frames"] == MOCAP.frames // 2).all()  # 120 a second become 60
    assert len(store.manifest["source"]) == 2


def test_dancers_are_numbered_and_labelled_as_if_the_other_kind_were_not_there(
    mixed: Path, store: SequenceStore, tmp_path: Path
) -> None:
    metrics = run(mixed / "raw", tmp_path, sources=["aistpp"])
    assert "n_sequences_acclaim" not in metrics
    alone = contents(tmp_path / "sequences")
    both = contents(mixed / "sequences")
    shards = [name for name in alone if name.startswith("split=")]
    assert shards
    assert all(alone[name] == both[name] for name in shards)
    only = SequenceStore.open(tmp_path / "sequences").sequences
    pd.testing.assert_frame_equal(only, store.sequences[: len(only)])


def test_motion_capture_alone_is_split_by_subject(mixed: Path, tmp_path: Path) -> None:
    run(mixed / "raw" / "mocap", tmp_path)
    table = SequenceStore.open(tmp_path / "sequences").sequences
    assert set(table["split"]) == {"none"}
    with pytest.raises(StageError, match="d1090"):  # all of it is one person
        give_roles(table, small_params(pack.Params).roles, 5)


def test_a_virtual_camera_sees_what_it_would_at_any_place_of_the_room(mixed: Path) -> None:
    source = find_sources(mixed / "raw", ["acclaim"], 120, True).by_kind["acclaim"]
    take = source.read("90_01")
    assert [camera.name for camera in take.rig] == [f"c{k:02d}" for k in range(1, 10)]
    hips = mid(take.poses, HIPS)
    assert np.abs(hips[:, [0, 2]]).max() < 0.5
    for camera in take.rig:
        uv = project(world_to_camera(take.poses, camera), camera)
        assert (uv > 0).all()
        assert (uv < camera.size).all()
    assert source.read("90_02").rig[0].translation == pytest.approx(take.rig[0].translation)


def test_who_judges_is_never_of_another_source(mixed: Path, tmp_path: Path) -> None:
    params = small_params(pack.Params, train_draws=1)
    pack.run(params, mixed / "sequences", tmp_path / "packed", Observer.quiet(tmp_path / "s"))
    packed = Packed.open(tmp_path / "packed")
    roles = packed.views.groupby("dancer")["role"].agg(set)
    assert roles[1090] == {"train"}
    assert packed.manifest["role_policy"] == OFFICIAL + EXTRA
    for role in packed.roles():
        assert np.isfinite(packed.role(role)["sim_uv_px"]).all()


def test_further_people_move_no_dancer_and_are_not_cut_into_pieces() -> None:
    settings = small_params(pack.Params).roles
    for dancers in (list(range(1, 31)), [3, 4]):
        table = sequences(dancers)
        further = sequences([1090, 1090]).assign(split="extra", name=["90_01", "90_02"])
        before = give_roles(table, settings, 5)
        after = give_roles(pd.concat([table, further], ignore_index=True), settings, 5)
        assert after.policy == before.policy + EXTRA
        own = after.clips[after.clips["dancer"] != 1090].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, before.clips)
        others = after.clips[after.clips["dancer"] == 1090]
        assert others["clip"].tolist() == ["90_01", "90_02"]
        assert set(others["role"]) == {"train"}
    assert before.policy == PIECES


def test_a_broken_motion_is_quarantined_and_counted(mixed: Path, store: SequenceStore) -> None:
    with (mixed / "raw" / "planted.csv").open(encoding="utf-8") as file:
        planted = [Path(row["file"]).stem for row in csv.DictReader(file) if row["defect"] == "broken_motion"]
    found = pd.read_csv(mixed / "sequences" / "quarantine.csv").set_index("sequence")
    assert len(planted) == 1
    assert found.loc[planted[0], "reason"] == "broken"
    assert "does not fit the skeleton" in found.loc[planted[0], "detail"]


def test_trials_that_nothing_is_known_of_have_a_reason(mixed: Path, tmp_path: Path) -> None:
    shutil.copytree(mixed / "raw" / "mocap", tmp_path / "mocap")
    (tmp_path / "mocap" / "walk_01.amc").write_bytes(b"")
    (tmp_path / "mocap" / "07_01.amc").write_bytes(b"")
    run(tmp_path / "mocap", tmp_path)
    found = pd.read_csv(tmp_path / "sequences" / "quarantine.csv").set_index("sequence")["reason"]
    assert found["walk_01"] == "unnamed_subject"
    assert found["07_01"] == "no_skeleton"


def test_two_files_of_one_name_and_an_empty_folder_are_errors(mixed: Path, tmp_path: Path) -> None:
    for part in "ab":
        shutil.copytree(mixed / "raw" / "mocap", tmp_path / "raw" / part)
    with pytest.raises(StageError, match="90_01, 90_02"):
        find_sources(tmp_path / "raw", ["acclaim"], 120, True)
    shutil.copytree(mixed / "raw", tmp_path / "named")
    dancer = sorted((tmp_path / "named" / "keypoints3d").glob("*.pkl"))[0]
    shutil.copy(dancer, dancer.with_name("90_01.pkl"))
    with pytest.raises(StageError, match="more than one sequence is called 90_01$"):
        find_sources(tmp_path / "named", ["acclaim", "aistpp"], 120, True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageError, match="sources: acclaim"):
        find_sources(tmp_path / "empty", ["acclaim"], 120, True)


@pytest.mark.parametrize("rate", [30, 100])
def test_rates_that_do_not_thin_to_sixty_are_errors(rate: int) -> None:
    with pytest.raises(ValueError, match="multiple of 60"):
        Settings.model_validate(SETTINGS.model_dump() | {"acclaim_rate": rate})


@pytest.mark.realdata
def test_a_real_subject_becomes_views(realdata: Path, tmp_path: Path) -> None:
    metrics = run(realdata / "pose_cmu_mocap", tmp_path)
    assert metrics["n_sequences"] == metrics["n_sequences_acclaim"] == 6
    assert metrics["n_quarantined"] == metrics["n_swapped_frames"] == metrics["n_missing_frames"] == 0
    _, columns = next(iter(SequenceStore.open(tmp_path / "sequences").views("c01")))
    height = 100 * np.ptp(columns["gt_uv_px"][..., 1], axis=1).mean() / 1080
    assert 30 < height < 50  # percent of the picture, as AIST's dancers


# ---------------------------------------------------------------- 2D detections


def test_detections_stand_in_the_shards_under_a_flag(mixed: Path, store: SequenceStore) -> None:
    used = store.sequences[store.sequences["detections"] == "used"]
    assert len(used) == DETECTED - 1
    for seq, columns in store.views("c03"):
        detected = (columns["flags"] & Flag.DETECTED) > 0
        assert detected.all() if seq in set(used["seq"]) else not detected.any()
        seen = columns["det_confidence"] > 0
        assert np.isnan(columns["det_uv_px"][~seen]).all()
        if detected.any():
            assert 0.95 < seen.mean() < 1
            whole = (columns["flags"] & UNUSABLE) == 0
            off = np.linalg.norm(columns["det_uv_px"] - columns["gt_uv_px"], axis=-1)[whole]
            assert 2 < np.nanmedian(off) < 12
    rows = sum(
        int((c["flags"] & Flag.DETECTED > 0).sum())
        for cam in store.camera_names()
        for _, c in store.views(cam)
    )
    assert store.manifest["counts"]["n_detected_rows"] == rows == 9 * 50 * (DETECTED - 1)


def test_models_see_the_real_detections_where_there_are_some(
    mixed: Path, store: SequenceStore, tmp_path: Path
) -> None:
    params = small_params(pack.Params, train_draws=1)
    pack.run(params, mixed / "sequences", tmp_path / "packed", Observer.quiet(tmp_path / "s"))
    packed = Packed.open(tmp_path / "packed")
    used = set(store.sequences.loc[store.sequences["detections"] == "used", "name"])
    found = 0
    for name in packed.roles():
        role = packed.role(name)
        for view in role.views.to_dict("records"):
            rows = slice(view["first_row"], view["first_row"] + view["n_rows"])
            real = view["sequence"] in used and view["draw"] == 0
            assert ((role["flags"][rows] & Flag.DETECTED) > 0).all() == real
            if real:
                number = int(role["seq"][rows][0])
                seen = dict(store.views(view["cam"]))[number]
                kept = np.isin(seen["frame"], role["frame"][rows])
                there = seen["det_confidence"][kept] > 0
                np.testing.assert_array_equal(role["sim_uv_px"][rows][there], seen["det_uv_px"][kept][there])
                found += int(there.sum())
    assert found > 9 * 40 * 17  # of one sequence at least


def test_refused_detections_cost_no_pose(mixed: Path, store: SequenceStore) -> None:
    with (mixed / "raw" / "planted.csv").open(encoding="utf-8") as file:
        planted = [row["file"] for row in csv.DictReader(file) if row["defect"] == "broken_detections"]
    names = store.sequences.set_index("name")["detections"]
    assert [names[Path(file).stem] for file in planted] == ["broken"]
    assert store.manifest["counts"]["n_refused_detections"] == 1
    assert names.value_counts().to_dict() == {"none": 28, "used": 3, "broken": 1}


def test_each_fault_of_detections_has_a_reason(tmp_path: Path) -> None:
    good = np.ones((9, 5, 17, 3))
    path = tmp_path / "a.pkl"

    def reason(content: object) -> str:
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(SequenceError) as caught:
            read_detections(path, 5)
        return caught.value.reason

    assert reason([good]) == "broken"
    assert reason({"keypoints3d": good}) == "broken"
    assert reason({"keypoints2d": good[..., :2]}) == "wrong_shape"
    assert reason({"keypoints2d": good[:, :4]}) == "wrong_length"
    assert reason({"keypoints2d": good, "more": print}) == "unsafe"
    gaps = good.copy()
    gaps[2, 1, 4, 0], gaps[2, 1, 5, 2], gaps[2, 1, 6, 2] = np.nan, 0.0, 1.7
    path.write_bytes(pickle.dumps({"keypoints2d": gaps}))
    view = read_detections(path, 5)["c03"]
    assert np.isnan(view[1, [4, 5], :2]).all()
    assert view[1, [4, 5, 6], 2].tolist() == [0, 0, 1]
    assert np.isfinite(np.delete(view, 1, axis=0)).all()


# ---------------------------------------------------------------- views left out, videos


def renamed(raw: Path, folder: Path, sequence: str) -> Path:
    """A raw folder with one sequence, under another name."""
    first = sorted(raw.glob("keypoints3d/gPO*.pkl"))[-1]
    read_poses(first)
    for part in ("keypoints3d", "cameras"):
        (folder / part).mkdir(parents=True)
    shutil.copy(first, folder / "keypoints3d" / f"{sequence}.pkl")
    shutil.copy(raw / "cameras" / "setting1.json", folder / "cameras")
    (folder / "cameras" / "mapping.txt").write_text(f"{sequence} setting1\n")
    return folder


@pytest.mark.parametrize(("sequence", "cam"), sorted(UNSYNCED_VIEWS))
def test_views_that_aist_leaves_out_are_left_out_and_counted(
    mixed: Path, tmp_path: Path, sequence: str, cam: str
) -> None:
    raw = renamed(mixed / "raw", tmp_path / "raw", sequence)
    metrics = run(raw, tmp_path)
    assert metrics["n_excluded_views"] == 1
    assert SequenceStore.open(tmp_path / "sequences").camera_names() == sorted(
        {f"c{k:02d}" for k in range(1, 10)} - {cam}
    )


def test_a_rig_without_a_camera_gives_the_other_views(mixed: Path, tmp_path: Path) -> None:
    import json

    raw = renamed(mixed / "raw", tmp_path / "raw", "gPO_sBM_cAll_d10_mPO0_ch01")
    path = raw / "cameras" / "setting1.json"
    path.write_text(json.dumps([entry for entry in json.loads(path.read_text()) if entry["name"] != "c04"]))
    metrics = run(raw, tmp_path)
    assert metrics["n_rows"] == 8 * 50
    assert "c04" not in SequenceStore.open(tmp_path / "sequences").camera_names()


def test_videos_are_listed_and_never_opened(mixed: Path, tmp_path: Path) -> None:
    sequence, excluded = "gBR_sBM_cAll_d04_mBR0_ch01", "c05"
    raw = renamed(mixed / "raw", tmp_path / "raw", sequence)
    (raw / "videos" / "10M").mkdir(parents=True)
    for cam in ("c01", excluded):
        (raw / "videos" / "10M" / f"gBR_sBM_{cam}_d04_mBR0_ch01.mp4").write_bytes(b"no video")
    (raw / "videos" / "gBR_sBM_c02_d04_mBR0_ch09.mp4").write_bytes(b"of a sequence that is not there")
    assert sorted(list_videos(raw)) == [
        (sequence, "c01"),
        (sequence, excluded),
        ("gBR_sBM_cAll_d04_mBR0_ch09", "c02"),
    ]
    metrics = run(raw, tmp_path)
    listed = pd.read_parquet(tmp_path / "sequences" / "videos.parquet")
    assert metrics["n_videos"] == len(listed) == 1
    assert listed.loc[0, ["cam", "file", "size"]].tolist() == [
        "c01",
        "videos/10M/gBR_sBM_c01_d04_mBR0_ch01.mp4",
        8,
    ]


# ---------------------------------------------------------------- killed

DYING = """
import os, signal, sys
from pathlib import Path
from stages.core.stage import Observer
from stages.pose import convert
from stages.pose.capture import conversion

whole, written = conversion._write_whole, []

def dying(path, content):
    written.append(path)
    if len(written) == 12:
        path.with_name(path.name + ".partial").write_bytes(bytes(content)[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, content)

conversion._write_whole = dying
params = convert.Params.model_validate_json(sys.argv[1])
convert.run(params, Path(sys.argv[2]), Path(sys.argv[3]) / "sequences", Observer.quiet(Path(sys.argv[3]) / "scratch"))
"""


def test_a_process_killed_while_it_writes_goes_on_where_it_stopped(mixed: Path, tmp_path: Path) -> None:
    params = small_params(convert.Params, workers=1)
    command = [sys.executable, "-c", DYING, params.model_dump_json(), str(mixed / "raw"), str(tmp_path)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert not (tmp_path / "sequences").exists()
    finished = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "scratch").rglob("*.[nj]*")
        if path.suffix != ".partial"
    }
    assert len(finished) == 11
    run(mixed / "raw", tmp_path)
    assert contents(tmp_path / "sequences") == contents(mixed / "sequences")
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())


def test_equal_parameters_give_equal_bytes(mixed: Path, tmp_path: Path) -> None:
    phantom.run(mixed_params(), tmp_path / "raw", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "raw") == contents(mixed / "raw")


def test_motion_capture_and_detections_change_no_dancer(mixed: Path, tmp_path: Path) -> None:
    plain = mixed_params().model_copy(update={"detected": 0, "mocap": phantom.Mocap(trials=0, frames=0)})
    defects = plain.defects.model_copy(update={"broken_detections": 0})
    phantom.run(
        plain.model_copy(update={"defects": defects}), tmp_path / "raw", Observer.quiet(tmp_path / "s")
    )
    without, both = contents(tmp_path / "raw"), contents(mixed / "raw")
    assert {name for name, content in without.items() if both[name] != content} == {"planted.csv"}
    assert {name.split("/")[0] for name in both.keys() - without.keys()} == {"keypoints2d", "mocap"}


def test_more_broken_detections_than_detections_are_an_error(tmp_path: Path) -> None:
    params = mixed_params().model_copy(update={"detected": 0})
    with pytest.raises(StageError, match="1 broken_detections"):
        phantom.run(params, tmp_path, Observer.quiet(tmp_path / "s"))


def test_root_relative_labels_do_not_know_where_the_subject_went(mixed: Path, tmp_path: Path) -> None:
    """Cameras that keep beside a walker see the poses that cameras at rest would see."""
    source = find_sources(mixed / "raw", ["acclaim"], 120, True).by_kind["acclaim"]
    assert isinstance(source, AcclaimSource)
    take = source.read("90_01")
    walked = take.poses + np.linspace(0, 1, len(take.poses))[:, None, None] * [2.0, 0.0, 1.0]
    for camera in take.rig:
        at_rest, beside = (root_relative(world_to_camera(poses, camera)) for poses in (walked, take.poses))
        np.testing.assert_allclose(at_rest, beside, atol=1e-12)

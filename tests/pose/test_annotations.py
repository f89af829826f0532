from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import StageError
from stages.pose.capture.annotations import (
    SequenceError,
    SequenceName,
    read_annotations,
    read_poses,
    read_rig,
)
from tests.pose.conftest import Lane
from tests.pose.test_frames import standing_person

GOOD = np.stack([100 * standing_person()] * 3)


class Payload:
    """A pickle of it creates a file when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def written(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(SequenceError) as caught:
        read_poses(path)
    return caught.value.reason


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_of_any_protocol_are_read_and_become_metres(tmp_path: Path, protocol: int) -> None:
    path = written(tmp_path / "a.pkl", {"keypoints3d": GOOD, "keypoints3d_optim": GOOD + 1}, protocol)
    optimised, raw = read_poses(path)
    np.testing.assert_allclose(raw, GOOD / 100)
    np.testing.assert_allclose(optimised, (GOOD + 1) / 100)


def test_pickles_of_old_numpy_versions_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pkl", {"keypoints3d_optim": GOOD}, protocol=3)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert b"numpy.core" in path.read_bytes()
    np.testing.assert_allclose(read_poses(path)[0], GOOD / 100)


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = written(tmp_path / "a.pkl", {"keypoints3d_optim": GOOD, "more": Payload(mark)})
    assert reason_of(path) == "unsafe"
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the payload does nothing, so the test proves nothing"


@pytest.mark.parametrize("forbidden", [eval, exec, print, np.load, np.fromfile])
def test_functions_of_python_and_numpy_are_refused(tmp_path: Path, forbidden: object) -> None:
    assert reason_of(written(tmp_path / "a.pkl", {"keypoints3d_optim": forbidden})) == "unsafe"


def test_broken_wrong_and_short_content_has_a_reason_each(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pkl", {"keypoints3d_optim": GOOD})
    path.write_bytes(path.read_bytes()[:-100])
    reasons = {
        "cut off": reason_of(path),
        "no dictionary": reason_of(written(path, [1, 2])),
        "no poses": reason_of(written(path, {"keypoints2d": GOOD})),
        "text": reason_of(written(path, {"keypoints3d_optim": "poses"})),
        "objects": reason_of(written(path, {"keypoints3d_optim": np.array([[None]], object)})),
        "15 joints": reason_of(written(path, {"keypoints3d_optim": GOOD[:, :15]})),
        "other length": reason_of(written(path, {"keypoints3d_optim": GOOD, "keypoints3d": GOOD[:2]})),
        "metres": reason_of(written(path, {"keypoints3d_optim": GOOD / 100})),
        "millimetres": reason_of(written(path, {"keypoints3d_optim": GOOD * 10})),
        "nothing but NaN": reason_of(written(path, {"keypoints3d_optim": GOOD * np.nan})),
        "one frame": reason_of(written(path, {"keypoints3d_optim": GOOD[:1]})),
    }
    assert reasons == {
        "cut off": "broken",
        "no dictionary": "broken",
        "no poses": "broken",
        "text": "broken",
        "objects": "broken",
        "15 joints": "wrong_shape",
        "other length": "wrong_shape",
        "metres": "wrong_unit",
        "millimetres": "wrong_unit",
        "nothing but NaN": "wrong_unit",
        "one frame": "too_short",
    }


@pytest.mark.parametrize("protocol", [3, 5])
def test_a_file_cut_anywhere_is_broken(tmp_path: Path, protocol: int) -> None:
    path = written(tmp_path / "a.pkl", {"keypoints3d": GOOD, "keypoints3d_optim": GOOD}, protocol)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:length])
        assert reason_of(path) == "broken", length


class Bloated:
    """Pickles as a call for an array of zero bytes on disk and any number in memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((1 << 20, 17, 3),)


def test_an_array_that_is_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    assert reason_of(written(tmp_path / "a.pkl", {"keypoints3d_optim": Bloated()})) == "unsafe"


@pytest.mark.parametrize(
    "code",
    [
        b"cposix\nsystem\n(V:\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nVtofile\ntR.",
        b"ccopyreg\n_reconstructor\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    ],
)
def test_roads_around_the_list_of_allowed_names_are_closed(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(code)
    assert reason_of(tmp_path / "a.pkl") == "unsafe"


def test_infinite_values_are_missing(tmp_path: Path) -> None:
    poses = GOOD.copy()
    poses[1, 3] = np.inf
    optimised, _ = read_poses(written(tmp_path / "a.pkl", {"keypoints3d_optim": poses}))
    assert np.isnan(optimised[1, 3]).all()
    assert np.isfinite(optimised[[0, 2]]).all()


@pytest.mark.parametrize(
    ("name", "genre", "dancer"),
    [
        ("gBR_sBM_cAll_d04_mBR0_ch03", "BR", 4),
        ("gJS_sFM_c01_d03_mJS2_ch14", "JS", 3),
        ("unnamed_sample", "", -1),
    ],
)
def test_names_tell_genre_and_dancer(name: str, genre: str, dancer: int) -> None:
    assert SequenceName.parse(name) == SequenceName(name, genre, dancer)


def test_a_camera_file_that_is_wrong_is_a_reason_not_a_crash(tmp_path: Path, lane: Lane) -> None:
    good = json.loads((lane.raw / "cameras" / "setting1.json").read_text())
    (tmp_path / "cameras").mkdir()
    path = tmp_path / "cameras" / "setting1.json"
    wrong = [
        good[0] | {"matrix": [[1, 2], [3, 4]]},
        good[0] | {"translation": [0, float("nan"), 1]},
        good[0] | {"name": "front"},
        {key: value for key, value in good[0].items() if key != "rotation"},
    ]
    for entry in wrong:
        path.write_text(json.dumps([entry]))
        with pytest.raises(SequenceError, match="broken_setting"):
            read_rig(tmp_path, "setting1")
    with pytest.raises(SequenceError, match="no_setting"):
        read_rig(tmp_path, "setting9")


def test_folder_errors_name_what_is_expected_and_every_offender(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="keypoints3d"):
        read_annotations(tmp_path)
    (tmp_path / "keypoints3d").mkdir()
    written(tmp_path / "keypoints3d" / "a.pkl", {})
    with pytest.raises(StageError, match=r"mapping\.txt"):
        read_annotations(tmp_path)
    (tmp_path / "cameras").mkdir()
    (tmp_path / "cameras" / "mapping.txt").write_text("a setting1\nb\nc d e\n")
    with pytest.raises(StageError, match=r"'b', 'c d e'"):
        read_annotations(tmp_path)


def test_a_mapping_that_contradicts_itself_is_an_error_and_one_that_repeats_itself_none(
    tmp_path: Path,
) -> None:
    for folder in ("keypoints3d", "cameras"):
        (tmp_path / folder).mkdir()
    written(tmp_path / "keypoints3d" / "a.pkl", {})
    mapping = tmp_path / "cameras" / "mapping.txt"
    mapping.write_text("a setting1\nb setting1\na setting1\n")
    assert read_annotations(tmp_path).settings == {"a": "setting1", "b": "setting1"}
    mapping.write_text("a setting1\nb setting1\na setting2\nb setting3\n")
    with pytest.raises(StageError, match="more than one setting for a, b"):
        read_annotations(tmp_path)


def test_a_dancer_in_test_and_training_is_an_error(tmp_path: Path, lane: Lane) -> None:
    import shutil

    shutil.copytree(lane.raw, tmp_path / "raw")
    splits = tmp_path / "raw" / "splits"
    (splits / "pose_train.txt").open("a").write("gJS_sFM_cAll_d03_mJS5_ch09\n")
    with pytest.raises(StageError, match=r"dancers \[3\]"):
        read_annotations(tmp_path / "raw")

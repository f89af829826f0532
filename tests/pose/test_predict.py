from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.core.errors import StageError
from stages.pose.predict import predict_files
from stages.pose.simulation.packed import Packed
from tests.pose.conftest import Lane


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

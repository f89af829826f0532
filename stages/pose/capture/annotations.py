"""Reading a folder of AIST++ annotations, trusting nothing in it.

Pickles are opened by an unpickler that can build numpy arrays and nothing else, so that a file which asks
for any other function is refused before that function is looked up. Everything that is wrong with one
sequence raises `SequenceError` with a reason code, for the quarantine table; what is wrong with the folder as
a whole raises StageError.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import Camera
from stages.pose.body.skeleton import N_JOINTS, torso_length
from stages.pose.body.studio import CM, camera_of

ALLOWED = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{package}.multiarray", "_reconstruct"),
        (f"{package}.multiarray", "scalar"),
        (f"{package}.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )
}
"""What a pickle may ask for: numpy's array builders under the module paths of old and new numpy versions."""

UNSYNCED_VIEWS = frozenset(
    {
        ("gBR_sBM_cAll_d04_mBR0_ch01", "c05"),  # its video is not in step with the other eight
        ("gJB_sBM_cAll_d07_mJB3_ch05", "c07"),  # recorded at 640 x 480, unlike its calibration
    }
)
"""Views that AIST++'s own reader leaves out."""

_NAME = re.compile(r"^g([A-Z]{2})_s[A-Z]{2}_c\w+_d(\d+)_m[A-Z]{2}\d+_ch\d+$")


class SequenceError(Exception):
    """A sequence that cannot be used: a reason code for the quarantine table, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class SequenceName:
    """What a name like gBR_sBM_cAll_d04_mBR0_ch03 says; no genre and dancer -1 where it says nothing."""

    name: str
    genre: str
    dancer: int

    @classmethod
    def parse(cls, name: str) -> SequenceName:
        match = _NAME.match(name)
        return cls(name, match[1], int(match[2])) if match else cls(name, "", -1)


@dataclass(frozen=True)
class Annotations:
    """The lists of an annotation folder.

    Attributes:
        files: sequence -> its file in keypoints3d/.
        settings: sequence -> name of its camera setting.
        ignored: sequences that ignore_list.txt calls too poor to use.
        splits: sequence -> train, val or test; empty where the folder has no split files.
    """

    folder: Path
    files: dict[str, Path]
    settings: dict[str, str]
    ignored: frozenset[str]
    splits: dict[str, str]


def read_annotations(folder: Path) -> Annotations:
    """List the sequences of an AIST++ annotation folder.

    Raises:
        StageError: no poses, no mapping, or split files that contradict themselves.
    """
    files = {path.stem: path for path in sorted((folder / "keypoints3d").glob("*.pkl"))}
    if not files:
        raise StageError(
            f"{folder}: found no keypoints3d/*.pkl. Expected the AIST++ annotation layout: keypoints3d/, "
            "cameras/mapping.txt and cameras/setting*.json"
        )
    return Annotations(
        folder=folder,
        files=files,
        settings=_read_mapping(folder / "cameras" / "mapping.txt"),
        ignored=frozenset(_read_list(folder / "ignore_list.txt")),
        splits=_read_splits(folder / "splits"),
    )


def read_poses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Poses of one sequence in metres, world frame: the optimised and the raw ones, (N, 17, 3) float64 each.

    Values that are not finite are NaN. Raises SequenceError: `unsafe`, `broken`, `wrong_shape`, `wrong_unit`
    or `too_short`.
    """
    content = load_restricted(path)
    if not isinstance(content, dict) or "keypoints3d_optim" not in content:
        raise SequenceError("broken", "expected a dictionary with keypoints3d_optim and keypoints3d")
    optimised = _as_poses(content["keypoints3d_optim"], "keypoints3d_optim")
    raw = _as_poses(content.get("keypoints3d", content["keypoints3d_optim"]), "keypoints3d")
    if raw.shape != optimised.shape:
        raise SequenceError("wrong_shape", f"keypoints3d is {raw.shape}, keypoints3d_optim {optimised.shape}")
    torso = np.nanmedian(torso_length(optimised)) if np.isfinite(optimised).any() else np.nan
    if not 20 <= torso <= 100:
        raise SequenceError(
            "wrong_unit", f"the median torso is {torso:.3g} long; expected 20 to 100 centimetres"
        )
    return optimised * CM, raw * CM


def read_rig(folder: Path, setting: str) -> tuple[Camera, ...]:
    """The cameras of one setting, in metres. Raises SequenceError `no_setting` or `broken_setting`."""
    path = folder / "cameras" / f"{setting}.json"
    if not path.is_file():
        raise SequenceError("no_setting", f"cameras/{path.name} does not exist")
    try:
        cameras = tuple(camera_of(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise SequenceError(
            "broken_setting", f"cameras/{path.name}: {type(error).__name__}: {error}"
        ) from None
    if not cameras or len({camera.name for camera in cameras}) != len(cameras):
        raise SequenceError(
            "broken_setting", f"cameras/{path.name}: expected cameras with names of their own"
        )
    return cameras


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise SequenceError("unsafe", f"asks for {module}.{name}, which is not needed to hold arrays")
        # numpy still serves its old module path, but with a warning
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_restricted(path: Path) -> Any:
    """What a pickle of arrays holds. Raises SequenceError `unsafe` or `broken`."""
    data = path.read_bytes()
    try:
        content = _ArrayUnpickler(io.BytesIO(data)).load()
    except SequenceError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise SequenceError("broken", f"{type(error).__name__}: {error}") from None
    for name, value in content.items() if isinstance(content, dict) else ():
        # an array that was called into being, not stored, may fill the memory once it is used
        if isinstance(value, np.ndarray) and value.nbytes > len(data):
            raise SequenceError("unsafe", f"{name} claims {value.nbytes} bytes in a file of {len(data)}")
    return content


def _as_poses(values: Any, name: str) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise SequenceError("broken", f"{name}: expected an array of numbers, found {type(values).__name__}")
    if values.ndim != 3 or values.shape[1:] != (N_JOINTS, 3):
        raise SequenceError("wrong_shape", f"{name}: expected (N, {N_JOINTS}, 3), found {values.shape}")
    if len(values) < 2:
        raise SequenceError("too_short", f"{name}: {len(values)} frames")
    poses = values.astype(np.float64)
    return np.where(np.isfinite(poses), poses, np.nan)


def _read_mapping(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise StageError(
            f"{path} does not exist: it says which cameras saw which sequence ('<sequence> <setting>')"
        )
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if wrong := [" ".join(row) for row in rows if len(row) != 2]:
        raise StageError(f"{path}: expected '<sequence> <setting>' in each line, found {wrong[:5]}")
    settings = Counter(name for name, _ in {(row[0], row[1]) for row in rows})
    if torn := sorted(name for name, count in settings.items() if count > 1):
        raise StageError(f"{path}: more than one setting for {', '.join(torn[:10])}")
    return {row[0]: row[1] for row in rows}


def _read_list(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def _read_splits(folder: Path) -> dict[str, str]:
    """The official split by dancer (pose_*.txt): no sequence twice, no test dancer outside the test."""
    lists = {split: _read_list(folder / f"pose_{split}.txt") for split in ("train", "val", "test")}
    counts = Counter(name for names in lists.values() for name in set(names))
    if doubled := sorted(name for name, count in counts.items() if count > 1):
        raise StageError(f"{folder}: sequences in two split files: {', '.join(doubled[:10])}")
    dancers = {
        split: {SequenceName.parse(name).dancer for name in names} - {-1} for split, names in lists.items()
    }
    if torn := sorted(dancers["test"] & (dancers["train"] | dancers["val"])):
        raise StageError(f"{folder}: dancers {torn[:10]} are in the test and in train or val")
    return {name: split for split, names in lists.items() for name in names}

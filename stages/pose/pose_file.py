"""Files of estimated poses of one person before one camera, of every kind that prediction takes.

.npz of a sequence:

    pose        (T, 17, 3) metres, camera frame (x right, y down, z away), COCO joints; required
    visibility  (T, 17) in [0, 1]; optional, 1 where it is missing
    uv_px       (T, 17, 2) detected pixels; optional
    feet        (T, 2, 2, 3) left and right foot, heel and tip, in the frame of `pose`; optional
    up          (3,) upwards in the camera's frame; optional, a level camera where it is missing
    fps         frames a second; optional, 60 where it is missing
    phantom     true if the pose was made up; optional

.npz of one frame, as the system description keeps its training samples: `corrupted` (17, 3) with x right, y up
and z towards the camera, and `visibility`, `pose_2d` as shares of a 16:9 picture, `mp_scale` metres a unit,
all optional; what such a file holds of the truth is not read.

.parquet of an estimator (stages.pose.estimation), or a video, which is given to that estimator.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import root_relative
from stages.pose.body.skeleton import HIPS, N_JOINTS, mid, torso_length

DEFAULT_FPS = 60.0
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
SUFFIXES = (".npz", ".parquet", *VIDEOS)
_DESCRIPTION_SIZE = (1920, 1080)
_DESCRIPTION_AXES = np.array([1.0, -1.0, -1.0])
_LEVEL = np.array([0.0, -1.0, 0.0])


@dataclass(frozen=True)
class PoseFile:
    """The content of one file.

    Attributes:
        pose: (T, 17, 3) metres, camera frame, root-relative; `visibility`: (T, 17).
        uv_px: (T, 17, 2) detected pixels, or None.
        feet: (T, 2, 2, 3) left and right foot, heel and tip, relative to the pose's root, or None.
        up: (3,) upwards in the camera's frame.
        fps: frames a second.
        phantom: whether the person was made up.
        n_filled: frames without a person, filled in from their neighbours with visibility 0.
    """

    pose: np.ndarray
    visibility: np.ndarray
    uv_px: np.ndarray | None
    fps: float
    phantom: bool
    feet: np.ndarray | None = None
    up: np.ndarray | None = None
    n_filled: int = 0

    @property
    def upwards(self) -> np.ndarray:
        """`up`, or that of a level camera."""
        return _LEVEL if self.up is None else self.up


def pose_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are named, folders as the files of poses and videos in them (by name, not deeper)."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise StageError(f"{path} holds no files of poses or videos ({', '.join(SUFFIXES)})")
        files += found
    return files


def read_pose_file(file: Path) -> PoseFile:
    """Read and check one file.

    Raises:
        StageError: naming everything that is wrong with it.
    """
    suffix = file.suffix.lower()
    if suffix in VIDEOS:
        return _read_video(file)
    if suffix == ".parquet":
        return _read_estimate(file)
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise StageError(f"cannot be read as .npz: {error}") from None
    if "pose" not in arrays and "corrupted" in arrays:
        arrays = _from_description(arrays)
    if "pose" not in arrays:
        raise StageError(f"has no array `pose`; it has {', '.join(arrays) or 'none'}")
    return _checked(arrays)


def _checked(arrays: dict[str, np.ndarray]) -> PoseFile:
    """The content of a sequence's arrays."""
    pose = np.asarray(arrays["pose"])
    n = len(pose) if pose.ndim else 0
    visibility = np.asarray(arrays.get("visibility", np.ones((n, N_JOINTS))))
    wanted = {"pose": (pose, (n, N_JOINTS, 3)), "visibility": (visibility, (n, N_JOINTS))}
    for name, shape in (("uv_px", (n, N_JOINTS, 2)), ("feet", (n, 2, 2, 3)), ("up", (3,))):
        if name in arrays:
            wanted[name] = (arrays[name], shape)
    problems = [_problem(name, *facts) for name, facts in wanted.items()]
    if n == 0:
        problems.append("pose has no frames")
    fps = float(arrays.get("fps", DEFAULT_FPS))
    if not 1 <= fps <= 1000:
        problems.append(f"fps is {fps:g}; expected 1 to 1000")
    up = arrays.get("up")
    if not any(problems) and up is not None and not 0.99 < np.linalg.norm(up) < 1.01:
        problems.append(f"up has length {np.linalg.norm(up):.3g}; expected a unit vector")
    if not any(problems) and not 0.2 <= np.median(torso_length(pose)) <= 1.0:
        problems.append(
            f"the median torso is {np.median(torso_length(pose)):.3g} long; expected 0.2 to 1 metres"
        )
    if found := [problem for problem in problems if problem]:
        raise StageError("; ".join(found))
    feet = arrays.get("feet")
    root = mid(pose, HIPS)
    return PoseFile(
        root_relative(pose.astype(np.float64)),
        visibility,
        arrays.get("uv_px"),
        fps,
        bool(arrays.get("phantom", False)),
        None if feet is None else feet.astype(np.float64) - root[:, None, None],
        None if up is None else up.astype(np.float64),
    )


def _from_description(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A sequence of one frame, of one of the description's samples."""
    corrupted = np.asarray(arrays["corrupted"])
    if corrupted.shape != (N_JOINTS, 3):
        raise StageError(f"corrupted must be {(N_JOINTS, 3)}, not {corrupted.shape}")
    scale = arrays.get("mp_scale")
    if scale is None and abs(torso_length(corrupted) - 1) < 1e-2:
        raise StageError("corrupted is in torso lengths: add `mp_scale`, the torso's length in metres")
    pose = corrupted * _DESCRIPTION_AXES * (1.0 if scale is None else float(scale))
    found = {"pose": pose[None]}
    if "visibility" in arrays:
        found["visibility"] = arrays["visibility"][None]
    if "pose_2d" in arrays:
        found["uv_px"] = (arrays["pose_2d"] * np.array(_DESCRIPTION_SIZE))[None]
    return found | {name: arrays[name] for name in ("fps", "phantom", "up") if name in arrays}


def _read_video(file: Path) -> PoseFile:
    """What the estimator sees in a video."""
    from stages.pose.estimation.environment import DEFAULT, interpreter
    from stages.pose.estimation.extraction import Settings, VideoError, extract

    with TemporaryDirectory(prefix="plumbline-") as scratch:
        table = Path(scratch) / "estimate.parquet"
        try:
            python = interpreter(DEFAULT)
            extract(file, table, python, Settings(fps=None, max_frames=None, tracking=False))
        except VideoError as error:
            raise StageError(str(error)) from None
        return _read_estimate(table)


def _read_estimate(file: Path) -> PoseFile:
    """A table of the estimator; frames without a person are filled in between their neighbours."""
    from stages.pose.estimation.extraction import read_estimates

    found = read_estimates(file)
    seen, n = found.detected, len(found.pose)
    if not seen.any():
        raise StageError("shows no person in any frame")
    # left and right heel, left and right tip -> of each foot, heel and tip
    feet = _filled(found.feet, seen).reshape(n, 2, 2, 3).swapaxes(1, 2)
    content = _checked(
        {
            "pose": _filled(found.pose, seen),
            "visibility": np.where(seen[:, None], found.visibility, 0.0),
            "uv_px": _filled(found.uv_px, seen),
            "feet": feet,
            "fps": np.array(found.fps),
        }
    )
    return replace(content, n_filled=int((~seen).sum()))


def _filled(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Values (T, ...) with those of rows that are not seen interpolated between their neighbours."""
    rows = np.arange(len(values))
    lines = values.reshape(len(values), -1).T
    filled = np.stack([np.interp(rows, rows[seen], line[seen]) for line in lines], axis=1)
    return filled.reshape(values.shape)


def _problem(name: str, array: np.ndarray, shape: tuple[int, ...]) -> str | None:
    if array.shape != shape or array.dtype.kind not in "fiu":
        return f"{name} must be numbers {shape}, not {array.dtype} {array.shape}"
    if not np.isfinite(array).all():
        return f"{name} holds values that are not finite"
    return None

"""Reading a folder of calibrated videos in Pose2Sim's layout: cameras, 2D detections, triangulated markers.

    <session>/*Calibration*/*.toml                  cameras: matrix, distortions, rotation vector, translation
    <session>/**/<trial>/videos/cam01.mp4 ...       one a camera; names end in the camera's number
    <session>/**/<trial>/pose/cam01_json/*.json     2D detections of one frame each (BODY_25B); optional
    <session>/**/<trial>/pose-3d/<trial>_*.trc      markers, triangulated by Pose2Sim; optional

BODY_25B begins with the 17 COCO joints in COCO's order, so that its first rows are the lane's joints. Markers
stand in the axes (y, z, x) of the calibration's world (x, y, z), z up.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import Camera, rodrigues
from stages.pose.body.skeleton import JOINT, N_JOINTS
from stages.pose.kinematics.trc import read_trc, to_calibration_world

BODY_25B = 25
"""Points of a detection; the first 17 are COCO's joints."""


UP = np.array([0.0, 0.0, 1.0])
"""Of the calibration's world."""

MARKER_JOINTS = {
    "Nose": "nose",
    **{
        f"{side[0].upper()}{part.capitalize()}": f"{side}_{part}"
        for side in ("left", "right")
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    },
}
"""Markers that mean the same as one of the 17 joints; eyes and ears have none."""


@dataclass(frozen=True)
class Trial:
    """One recording.

    Attributes:
        videos: camera's name -> its video, in the order of the calibration.
        detections: camera's name -> folder of JSON files; empty where there are none for every camera.
        markers: Pose2Sim's unfiltered triangulation, or None.
    """

    name: str
    videos: dict[str, Path]
    detections: dict[str, Path]
    markers: Path | None


def find_trials(folder: Path) -> tuple[tuple[Camera, ...], list[Trial]]:
    """Cameras and trials below `folder`; nothing where it holds no folder `videos`.

    Raises:
        StageError: videos without a calibration, or without a camera of their number.
    """
    places = sorted({path.parent for path in folder.rglob("videos/*.mp4")})
    if not places:
        return (), []
    calibrations = sorted(folder.rglob("*alibration*/*.toml"))
    if len(calibrations) != 1:
        raise StageError(
            f"{folder}: expected one *Calibration*/*.toml beside the videos, found {len(calibrations)}"
            + "".join(f"\n  {path.relative_to(folder)}" for path in calibrations)
        )
    cameras = read_calibration(calibrations[0])
    names = {_number(camera.name): camera.name for camera in cameras}
    trials, strangers = [], []
    for place in places:
        found = {_number(path.stem): path for path in sorted(place.glob("*.mp4"))}
        strangers += [str(path.relative_to(folder)) for n, path in found.items() if n not in names]
        videos = {name: found[n] for n, name in names.items() if n in found}
        trials.append(_trial(place.parent, videos))
    if strangers:
        raise StageError(
            f"{calibrations[0].relative_to(folder)} has cameras {', '.join(names.values())}, but none for:"
            + "".join(f"\n  {name}" for name in strangers)
        )
    return cameras, trials


def read_calibration(path: Path) -> tuple[Camera, ...]:
    """Cameras of a Pose2Sim calibration, metres, sorted by name.

    Raises:
        StageError: naming everything that is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(f"{path} cannot be read as TOML: {error}") from None
    entries = {
        name: entry for name, entry in content.items() if isinstance(entry, dict) and "matrix" in entry
    }
    problems, cameras = [], []
    for name, entry in sorted(entries.items()):
        try:
            cameras.append(_camera(name, entry))
        except (KeyError, ValueError, TypeError) as error:
            problems.append(f"\n  {name}: {type(error).__name__}: {error}")
    if problems:
        raise StageError(f"{path}: cameras that cannot be used:{''.join(problems)}")
    if len(cameras) < 2:
        raise StageError(f"{path}: triangulation needs two cameras, found {len(cameras)}")
    return tuple(cameras)


def read_detections(folder: Path, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (T, 17, 2) and confidence (T, 17) of the most confident person of each frame.

    The number at the end of a file's name is the frame's. Frames without a file or a person are NaN, with
    confidence 0, as are points at (0, 0), which the detector writes for what it did not find.
    """
    uv, confidence = np.full((n_frames, N_JOINTS, 2), np.nan), np.zeros((n_frames, N_JOINTS))
    broken = []
    for path in sorted(folder.glob("*.json")):
        try:
            frame = int(_number(path.stem))
            people = [
                np.asarray(person["pose_keypoints_2d"], np.float64).reshape(BODY_25B, 3)
                for person in json.loads(path.read_text(encoding="utf-8"))["people"]
                if person and person["pose_keypoints_2d"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            broken.append(f"\n  {path.name}: {error}")
            continue
        if people and frame < n_frames:
            best = max(people, key=lambda points: points[:, 2].mean())[:N_JOINTS]
            found = (best[:, :2] != 0).any(1)
            uv[frame, found], confidence[frame, found] = best[found, :2], best[found, 2]
    if broken:
        raise StageError(
            f"{folder}: {len(broken)} files are no detections of {BODY_25B} points:" + "".join(broken[:10])
        )
    return uv, confidence


def read_markers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 17, 3) of a marker file in metres, world frame, and their times (T,) in seconds.

    Joints without a marker of their meaning are NaN.
    """
    try:
        found = read_trc(path)
    except StageError as error:
        raise StageError(f"{path} is no marker file: {error}") from None
    if missing := sorted(MARKER_JOINTS.keys() - found.markers.keys()):
        raise StageError(f"{path} lacks the markers {', '.join(missing)}")
    joints = np.full((len(found.times), N_JOINTS, 3), np.nan)
    for marker, joint in MARKER_JOINTS.items():
        joints[:, JOINT[joint]] = to_calibration_world(found.markers[marker])
    return joints, found.times


def _trial(place: Path, videos: dict[str, Path]) -> Trial:
    detections = {name: place / "pose" / f"{path.stem}_json" for name, path in videos.items()}
    complete = all(folder.is_dir() for folder in detections.values())
    # filtered and augmented variants add words after the range of frames
    markers = [path for path in (place / "pose-3d").glob("*.trc") if re.search(r"_\d+-\d+$", path.stem)]
    return Trial(place.name, videos, detections if complete else {}, min(markers, default=None))


def _number(name: str) -> int:
    found = re.search(r"(\d+)$", name)
    if found is None:
        raise StageError(f"{name}: expected a name that ends in a number, such as cam01")
    return int(found[1])


def _camera(name: str, entry: dict[str, Any]) -> Camera:
    def numbers(key: str, *shape: int) -> np.ndarray:
        array = np.asarray(entry[key], np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{key} must be {shape} finite numbers, not {array.shape}")
        return array

    if entry.get("fisheye"):
        raise ValueError("fisheye lenses are not supported")
    width, height = (int(value) for value in numbers("size", 2))
    return Camera(
        name=name,
        size=(width, height),
        matrix=numbers("matrix", 3, 3),
        distortion=np.append(numbers("distortions", 4), 0.0),  # k3 is not given
        rotation=rodrigues(numbers("rotation", 3)),
        translation=numbers("translation", 3),
    )

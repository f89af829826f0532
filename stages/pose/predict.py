"""Corrected poses for files of estimates: what `plumbline predict pose` and the registry call.

Files are those of `pose_file`: .npz and .parquet of estimates, or videos. Of each come the corrected poses, their
joint angles, markers for OpenSim, and pages that show both before and after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import StageError
from stages.core.model.prediction import overlay_names, provenance
from stages.pose.body.skeleton import LEGS
from stages.pose.drawing import write_comparison
from stages.pose.kinematics.angle_table import write_angles
from stages.pose.kinematics.angles import Angles, camera_to_vertical, joint_angles, marker_angles
from stages.pose.kinematics.augmenter import Augmenter
from stages.pose.kinematics.markers import markers_of_joints
from stages.pose.kinematics.trc import write_trc
from stages.pose.model.inference import Refiner
from stages.pose.motion_pages import Motion, angles_page, animation_page
from stages.pose.pose_file import PoseFile, pose_files, read_pose_file
from stages.pose.refine import refine

NO_REFINER = "none"
"""Name under which poses are left as they came."""


@dataclass(frozen=True)
class Person:
    """What the marker augmenter has to know, and the augmenter."""

    augmenter: Augmenter
    height_m: float
    mass_kg: float


def predict_files(
    model: Path,
    files: list[Path],
    out: Path,
    allow_phantom: bool = False,
    *,
    refiner: str | None = None,
    elevation: float | None = None,
    augmenter: Path | None = None,
    height: float | None = None,
    mass: float | None = None,
) -> list[dict[str, Any]]:
    """Correct the poses of each file.

    Args:
        model: folder of pose-train; not read with refiner "none".
        files: see `pose_file`; folders stand for the files in them.
        out: folder for, by name of the file: .refined.npz (pose in metres, expected_abs_dz_m), .angles.parquet,
            .markers.trc, .angles.html (plots), .motion.html (an animation), .overlay.png (some frames) and
            .json; created.
        allow_phantom: let a model that was trained on phantoms correct a person's pose.
        refiner: the form of refiner that the model has to be (window, depth, main, ...), or "none" to leave the
            poses as they came.
        elevation: degrees by which the camera looks down; a file's own `up` goes before it.
        augmenter: folder of the marker augmenter; angles and markers are then those of its 65 markers.
        height, mass: of the person, metres and kg, which the augmenter needs.
    Returns:
        One answer a file, ready for JSON; or `error` with a reason where a file cannot be used.
    Raises:
        StageError: no file can be used, a phantom's model met a person's pose, the model is of another form, or
            the augmenter cannot be used. Names every offender.
    """
    person = _person(augmenter, height, mass)
    loaded = None if refiner == NO_REFINER else _load(model, refiner)
    read = {file: _try_to_read(file) for file in pose_files(files)}
    poses = {file: content for file, content in read.items() if isinstance(content, PoseFile)}
    people = [f"\n  {file}" for file, content in poses.items() if not content.phantom]
    if loaded is not None and loaded.card.is_phantom and people and not allow_phantom:
        raise StageError(
            "this model was trained on generated dancers (phantoms) and must not correct a person's pose. "
            "Train one on real motion, or say --allow-phantom to see what it does nevertheless:"
            + "".join(people)
        )
    if not poses:
        problems = "".join(f"\n  {file}: {content}" for file, content in read.items())
        raise StageError(f"none of {len(read)} files can be read as poses:{problems}")
    out.mkdir(parents=True, exist_ok=True)
    names = {file: name.removesuffix(".overlay.png") for file, name in overlay_names(list(read)).items()}
    lifted = None if elevation is None else _upwards(elevation)
    return [
        _answer(loaded, file, content, out, names[file], lifted, person) for file, content in read.items()
    ]


def _load(model: Path, form: str | None) -> Refiner:
    refiner = Refiner.load(model, threads=1)
    if form not in (None, refiner.form):
        raise StageError(
            f"{model} holds a refiner of form {refiner.form}, not {form}: name a model of that form with "
            f'--model, or train one (pose.train.form), or say "{NO_REFINER}"'
        )
    return refiner


def _person(augmenter: Path | None, height: float | None, mass: float | None) -> Person | None:
    if augmenter is None:
        return None
    missing = [f"--{name}" for name, value in (("height", height), ("mass", mass)) if value is None]
    if height is None or mass is None:
        raise StageError(f"the marker augmenter needs the person's {' and '.join(missing)} (metres, kg)")
    return Person(Augmenter.load(augmenter), height, mass)


def _try_to_read(file: Path) -> PoseFile | StageError:
    try:
        return read_pose_file(file)
    except StageError as error:
        return error


def _upwards(elevation: float) -> np.ndarray:
    """(3,) upwards in the frame of a camera that looks down by `elevation` degrees."""
    return np.array([0.0, -np.cos(np.radians(elevation)), -np.sin(np.radians(elevation))])


def _answer(
    refiner: Refiner | None,
    file: Path,
    content: PoseFile | StageError,
    out: Path,
    name: str,
    lifted: np.ndarray | None,
    person: Person | None,
) -> dict[str, Any]:
    if isinstance(content, StageError):
        return {"file": str(file), "error": {"reason": "unreadable", "detail": str(content)}}
    before = content.pose
    if refiner is None:
        after, expected = before, np.full(before.shape[:2], np.nan)
    else:
        after, expected = refine(before, content.visibility, content.uv_px, refiner, content.fps)
    outputs = {
        "poses": f"{name}.refined.npz",
        "overlay": f"{name}.overlay.png",
        "angles": f"{name}.angles.parquet",
        "markers": f"{name}.markers.trc",
        "angles_page": f"{name}.angles.html",
        "motion_page": f"{name}.motion.html",
    }
    up = lifted if content.up is None and lifted is not None else content.upwards
    angles = [_kinematics(pose, content, up, person) for pose in (before, after)]
    motion = Motion(
        name=file.name,
        fps=content.fps,
        phantom=content.phantom,
        trained_on=None if refiner is None else refiner.card.dataset,
        before=before,
        after=None if refiner is None else after,
    )
    np.savez(out / outputs["poses"], pose=after, expected_abs_dz_m=expected)
    write_comparison(out / outputs["overlay"], before, after)
    write_angles(out / outputs["angles"], angles[0][0], angles[1][0], content.fps)
    write_trc(out / outputs["markers"], angles[1][1], content.fps)
    (out / outputs["angles_page"]).write_text(
        angles_page(motion, angles[0][0], angles[1][0]), encoding="utf-8"
    )
    (out / outputs["motion_page"]).write_text(animation_page(motion), encoding="utf-8")
    answer: dict[str, Any] = {
        "file": str(file),
        "phantom": content.phantom,
        "n_frames": len(after),
        "n_filled_frames": content.n_filled,
        "mean_abs_depth_change_cm": round(100 * float(np.abs(after - before)[..., 2].mean()), 3),
        "expected_abs_dz_cm": None if refiner is None else round(100 * float(expected.mean()), 3),
        "n_markers": len(angles[1][1]),
        **outputs,
        "model": None if refiner is None else provenance(refiner.card),
    }
    text = json.dumps(answer, indent=1, sort_keys=True)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return answer


def _kinematics(
    pose: np.ndarray, content: PoseFile, up: np.ndarray, person: Person | None
) -> tuple[Angles, dict[str, np.ndarray]]:
    """Angles and markers of poses (T, 17, 3), camera frame; markers in the vertical frame, metres.

    Feet keep their shape and go where the ankles went.
    """
    feet = content.feet
    if feet is not None:
        ankles = [chain[2] for chain in LEGS]
        feet = feet + (pose - content.pose)[:, ankles, None]
        feet = camera_to_vertical(feet, up)
    points = camera_to_vertical(pose, up)
    markers = dict(markers_of_joints(points, feet).positions)
    if person is None:
        return joint_angles(points, content.visibility, feet), markers
    markers = person.augmenter.augment(markers, person.height_m, person.mass_kg)
    return marker_angles(markers), markers

"""Corrected poses for files of estimates: what `plumbline predict pose` and the registry call.

A file is an .npz of one person before one camera:

    pose        (T, 17, 3) metres, camera frame (x right, y down, z away), COCO joints; required
    visibility  (T, 17) in [0, 1]; optional, 1 where it is missing
    uv_px       (T, 17, 2) detected pixels; optional
    fps         frames a second; optional, 60 where it is missing
    phantom     true if the pose was made up; optional
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import StageError
from stages.core.model.prediction import overlay_names, provenance
from stages.pose.body.frames import root_relative
from stages.pose.body.skeleton import N_JOINTS, torso_length
from stages.pose.drawing import write_comparison
from stages.pose.model.inference import Refiner
from stages.pose.model.windows import make_window

DEFAULT_FPS = 60.0


@dataclass(frozen=True)
class PoseFile:
    """The content of one file; `pose` is made root-relative."""

    pose: np.ndarray
    visibility: np.ndarray
    uv_px: np.ndarray | None
    fps: float
    phantom: bool


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False
) -> list[dict[str, Any]]:
    """Correct the poses of each file.

    Args:
        model: folder of pose-train.
        files: .npz files, see the module's docstring.
        out: folder for <name>.refined.npz (pose in metres, expected_abs_dz_m), <name>.json and
            <name>.overlay.png, figures before and after; created.
        allow_phantom: let a model that was trained on phantoms correct a person's pose.
    Returns:
        One answer a file, ready for JSON; or `error` with a reason where a file cannot be used.
    Raises:
        StageError: no file can be used, or a phantom's model met a person's pose. Names every offender.
    """
    refiner = Refiner.load(model, threads=1)
    read = {file: _try_to_read(file) for file in files}
    poses = {file: content for file, content in read.items() if isinstance(content, PoseFile)}
    people = [f"\n  {file}" for file, content in poses.items() if not content.phantom]
    if refiner.card.is_phantom and people and not allow_phantom:
        raise StageError(
            "this model was trained on generated dancers (phantoms) and must not correct a person's pose. "
            "Train one on real motion, or say --allow-phantom to see what it does nevertheless:"
            + "".join(people)
        )
    if not poses:
        problems = "".join(f"\n  {file}: {content}" for file, content in read.items())
        raise StageError(f"none of {len(files)} files can be read as poses:{problems}")
    out.mkdir(parents=True, exist_ok=True)
    figures = overlay_names(list(read))
    return [_answer(refiner, file, content, out, figures[file]) for file, content in read.items()]


def read_pose_file(file: Path) -> PoseFile:
    """Read and check one file.

    Raises:
        StageError: naming everything that is wrong with it.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise StageError(f"cannot be read as .npz: {error}") from None
    if "pose" not in arrays:
        raise StageError(f"has no array `pose`; it has {', '.join(arrays) or 'none'}")
    pose = np.asarray(arrays["pose"])
    n = len(pose) if pose.ndim else 0
    visibility = np.asarray(arrays.get("visibility", np.ones((n, N_JOINTS))))
    uv = arrays.get("uv_px")
    wanted = {"pose": (pose, (n, N_JOINTS, 3)), "visibility": (visibility, (n, N_JOINTS))}
    if uv is not None:
        wanted["uv_px"] = (uv, (n, N_JOINTS, 2))
    problems = [_problem(name, *facts) for name, facts in wanted.items()]
    if n == 0:
        problems.append("pose has no frames")
    fps = float(arrays.get("fps", DEFAULT_FPS))
    if not 1 <= fps <= 1000:
        problems.append(f"fps is {fps:g}; expected 1 to 1000")
    if not any(problems) and not 0.2 <= np.median(torso_length(pose)) <= 1.0:
        problems.append(
            f"the median torso is {np.median(torso_length(pose)):.3g} long; expected 0.2 to 1 metres"
        )
    if found := [problem for problem in problems if problem]:
        raise StageError("; ".join(found))
    return PoseFile(
        root_relative(pose.astype(np.float64)), visibility, uv, fps, bool(arrays.get("phantom", False))
    )


def _problem(name: str, array: np.ndarray, shape: tuple[int, ...]) -> str | None:
    if array.shape != shape or array.dtype.kind not in "fiu":
        return f"{name} must be numbers {shape}, not {array.dtype} {array.shape}"
    if not np.isfinite(array).all():
        return f"{name} holds values that are not finite"
    return None


def _try_to_read(file: Path) -> PoseFile | StageError:
    try:
        return read_pose_file(file)
    except StageError as error:
        return error


def refine(refiner: Refiner, content: PoseFile) -> tuple[np.ndarray, np.ndarray]:
    """Corrected poses (T, 17, 3) and expected absolute depth errors (T, 17), metres."""
    last = len(content.pose) - 1
    near = np.clip(np.arange(last + 1)[:, None] + refiner.offsets(content.fps), 0, last)
    uv = None if content.uv_px is None else content.uv_px[near]
    return refiner.refine(make_window(content.pose[near], content.visibility[near], uv))


def _answer(
    refiner: Refiner, file: Path, content: PoseFile | StageError, out: Path, figure: str
) -> dict[str, Any]:
    if isinstance(content, StageError):
        return {"file": str(file), "error": {"reason": "unreadable", "detail": str(content)}}
    refined, expected = refine(refiner, content)
    name = figure.removesuffix(".overlay.png")
    outputs = {"poses": f"{name}.refined.npz", "overlay": figure}
    np.savez(out / outputs["poses"], pose=refined, expected_abs_dz_m=expected)
    write_comparison(out / figure, content.pose, refined)
    answer: dict[str, Any] = {
        "file": str(file),
        "phantom": content.phantom,
        "n_frames": len(refined),
        "mean_abs_depth_change_cm": round(100 * float(np.abs(refined - content.pose)[..., 2].mean()), 3),
        "expected_abs_dz_cm": round(100 * float(expected.mean()), 3),
        **outputs,
        "model": provenance(refiner.card),
    }
    text = json.dumps(answer, indent=1, sort_keys=True)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return answer

"""Corrected poses for arrays: one pose, a sequence, or many poses that have nothing to do with each other.

>>> refined, expected = refine(points, visibility, detections, model=Path("models/pose/refiner"))
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import root_relative
from stages.pose.body.skeleton import N_JOINTS
from stages.pose.model.inference import Refiner
from stages.pose.model.windows import make_window

DEFAULT_MODEL = Path("models/pose/refiner")
"""Where the pipeline puts its model, seen from the top of a checkout."""


def refine(
    points: np.ndarray,
    visibility: np.ndarray | None = None,
    detections: np.ndarray | None = None,
    model: Path | Refiner = DEFAULT_MODEL,
    fps: float | None = 60.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Correct poses.

    Args:
        points: (17, 3) or (T, 17, 3) metres, camera frame (x right, y down, z away), COCO joints.
        visibility: (17,) or (T, 17) in [0, 1]; 1 where it is not given.
        detections: (17, 2) or (T, 17, 2) px of the 2D detector.
        model: a model folder of pose-train, or a refiner that is loaded already.
        fps: frames a second of a sequence (T, 17, 3), which is one person's in order of time; None where the
            poses have nothing to do with each other.
    Returns:
        The poses, root-relative, in the shape of `points`, and the expected absolute depth errors (17,) or
        (T, 17); metres.
    Raises:
        StageError: arrays of other shapes or with values that are not finite; names all of them.
    """
    refiner = model if isinstance(model, Refiner) else Refiner.load(model, threads=1)
    points = np.asarray(points, np.float64)
    lead = points.shape[:-2]
    visibility = np.ones((*lead, N_JOINTS)) if visibility is None else np.asarray(visibility, np.float64)
    wanted = {"points": (points, 3), "visibility": (visibility[..., None], 1)}
    if detections is not None:
        wanted["detections"] = (np.asarray(detections, np.float64), 2)
    problems = [
        f"{name} must be {(*lead, N_JOINTS, d)[: -1 if d == 1 else None]} finite numbers"
        for name, (array, d) in wanted.items()
        if len(lead) > 1 or array.shape != (*lead, N_JOINTS, d) or not np.isfinite(array).all()
    ]
    if problems or 0 in lead:
        raise StageError(f"{'; '.join(problems) or 'there are no poses'}; points are {points.shape}")
    batch = {name: array.reshape(-1, N_JOINTS, d) for name, (array, d) in wanted.items()}
    pose, expected = _refine_rows(refiner, batch, fps)
    return pose.reshape(points.shape), expected.reshape(*lead, N_JOINTS)


def _refine_rows(
    refiner: Refiner, batch: dict[str, np.ndarray], fps: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Refined poses (T, 17, 3) and errors (T, 17); windows end where the sequence ends."""
    pose = root_relative(batch["points"])
    visibility, uv = batch["visibility"][..., 0], batch.get("detections")
    last = len(pose) - 1
    offsets = refiner.offsets(60.0 if fps is None else fps) * (fps is not None)
    answers = []
    for start in range(0, last + 1, refiner.batch):
        rows = np.arange(start, min(start + refiner.batch, last + 1))
        near = np.clip(rows[:, None] + offsets, 0, last)
        window = make_window(pose[near], visibility[near], None if uv is None else uv[near])
        answers.append(refiner.refine(window))
    poses, errors = zip(*answers, strict=True)
    return np.concatenate(poses), np.concatenate(errors)

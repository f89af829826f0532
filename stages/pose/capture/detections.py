"""2D detections and videos that may lie beside the poses; neither is needed.

AIST++'s keypoints2d/<sequence>.pkl holds what a 2D detector found in the pictures of the nine cameras: a real
estimator's input, unlike the exact projections of the labels. Videos are listed and never opened here.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stages.pose.body.skeleton import N_JOINTS
from stages.pose.capture.annotations import SequenceError, load_restricted

NONE, USED = "none", "used"
"""What a sequence's detections are called that do not exist, and that were read; else the reason why not."""


def read_detections(path: Path, n_frames: int) -> dict[str, np.ndarray]:
    """Camera -> detections (N, 17, 3): u and v in px, and the confidence; NaN and 0 where nothing was found.

    Raises SequenceError: `unsafe`, `broken`, `wrong_shape` or `wrong_length`.
    """
    content = load_restricted(path)
    found = content.get("keypoints2d") if isinstance(content, dict) else None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise SequenceError("broken", "expected a dictionary with the array keypoints2d")
    if found.ndim != 4 or found.shape[2:] != (N_JOINTS, 3):
        raise SequenceError(
            "wrong_shape", f"keypoints2d: expected (9, {n_frames}, {N_JOINTS}, 3), found {found.shape}"
        )
    if found.shape[1] != n_frames:
        raise SequenceError("wrong_length", f"keypoints2d has {found.shape[1]} frames, the poses {n_frames}")
    confidence = np.where(np.isfinite(found).all(-1), found[..., 2], 0.0).clip(0, 1)
    uv = np.where((confidence > 0)[..., None], found[..., :2], np.nan)
    seen = np.concatenate([uv, confidence[..., None]], axis=-1).astype(np.float64)
    return {f"c{k + 1:02d}": view for k, view in enumerate(seen)}


def list_videos(raw: Path) -> dict[tuple[str, str], Path]:
    """(sequence, camera) -> its video: videos/**/<sequence with the camera in place of cAll>.mp4."""
    videos = {}
    for path in sorted((raw / "videos").rglob("*.mp4")):
        if match := re.fullmatch(r"(g\w+?_s\w+?)_(c\d{2})_(d\w+)", path.stem):
            videos[f"{match[1]}_cAll_{match[3]}", match[2]] = path
    return videos

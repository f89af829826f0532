"""Linear correction of poses from windows: ridge regression, in closed form, on people and their mirrors.

It is the strongest floor, and the refiner's first guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.pose.body import measures
from stages.pose.body.skeleton import N_JOINTS, mirror_pose
from stages.pose.model.windows import Window, mirror_window, read_window
from stages.pose.simulation.packed import PackedRole

_CHUNK = 4096


@dataclass(frozen=True)
class LinearCorrection:
    """refined pose = estimate + features @ weights + constant

    Attributes:
        offsets: (K,) the window's frame offsets.
        weights: (F, 51), constant: (51,) metres.
        penalty: that was chosen.
        val_abs_dz_cm: mean absolute depth error on val with it.
    """

    offsets: np.ndarray
    weights: np.ndarray
    constant: np.ndarray
    penalty: float
    val_abs_dz_cm: float


def features(window: Window) -> np.ndarray:
    """(B, F) float32: poses, visibility and detections of all frames of the window, in this order."""
    return np.concatenate(
        [a.reshape(len(a), -1) for a in (window.pose, window.visibility, window.seen)], axis=1
    )


def correct(window: Window, centre: int, weights: np.ndarray, constant: np.ndarray) -> np.ndarray:
    """Refined poses (B, 17, 3) of the window's frame number `centre`."""
    delta = features(window) @ weights.astype(np.float32) + constant.astype(np.float32)
    return window.pose[:, centre] + delta.reshape(-1, N_JOINTS, 3)


def fit(
    train: PackedRole, val: PackedRole, offsets: np.ndarray, penalties: tuple[float, ...], max_rows: int
) -> LinearCorrection:
    """Fit on `train`, choose the penalty by the mean absolute depth error on `val`.

    Each penalty is a share of the training rows, added to the features' sums of squares. Both roles give at
    most `max_rows` rows, evenly spread.
    """
    centre = list(offsets).index(0)
    rows, val_rows = spread(train, max_rows), spread(val, max_rows)
    n_features = len(offsets) * N_JOINTS * 6
    normal, moment = np.zeros((n_features + 1, n_features + 1)), np.zeros((n_features + 1, N_JOINTS * 3))
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        window, truth = read_window(train, part, offsets), train["gt_pose"][part]
        for seen, target in ((window, truth), (mirror_window(window), mirror_pose(truth))):
            x = _with_one(features(seen))
            y = (target - seen.pose[:, centre]).reshape(len(target), -1)
            normal += x.T @ x
            moment += x.T @ y
    window, truth = read_window(val, val_rows, offsets), val["gt_pose"][val_rows]
    fitted = []
    for penalty in penalties:
        keep = np.full(n_features + 1, penalty * 2 * len(rows))
        keep[-1] = 0  # the constant is free
        solution = np.linalg.solve(normal + np.diag(keep), moment)
        weights, constant = solution[:-1], solution[-1]
        error = float(measures.abs_dz_cm(correct(window, centre, weights, constant), truth).mean())
        fitted.append(LinearCorrection(offsets, weights, constant, penalty, error))
    return min(fitted, key=lambda correction: correction.val_abs_dz_cm)


def spread(role: PackedRole, max_rows: int) -> np.ndarray:
    """At most `max_rows` rows, evenly spread."""
    return np.arange(0, len(role), -(-len(role) // max_rows))


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1, dtype=np.float64)

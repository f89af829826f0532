"""What several cameras agree on: poses of one trial, triangulated, in each camera's frame.

It is no ground truth. Its 2D points come from a detector with errors of its own, and it is some 3 cm off; it
serves to measure errors that are several times larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.pose.body.frames import Camera, root_relative
from stages.pose.estimation.multiview import Trial, read_detections, read_markers
from stages.pose.estimation.triangulation import find_lags, reprojection_px, shift, triangulate


class Triangulation(BaseModel):
    """How views are put together.

    Attributes:
        least_confidence: a point below it is not used.
        outlier_px: reprojection error at which a view counts a quarter; a point needs two views within it.
        greatest_lag: frames by which two cameras may be apart.
        spike_m: a joint farther than this from its median of seven frames is an error.
        cut_off_hz: of the low-pass that takes out the jitter of the detections, as Pose2Sim's own.
        least_share: a joint that is known in fewer of a trial's frames is not compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    least_confidence: float = Field(ge=0, lt=1)
    outlier_px: float = Field(gt=0)
    greatest_lag: int = Field(ge=0)
    spike_m: float = Field(gt=0)
    cut_off_hz: float = Field(gt=0)
    least_share: float = Field(ge=0, le=1)


@dataclass(frozen=True)
class Truth:
    """Triangulated poses of one trial.

    Attributes:
        source: `detections` (2D of another detector) or `estimates` (the estimator's own 2D).
        points: (T, 17, 3) metres, world frame, on the first camera's frames; NaN where unknown.
        compared: (17,) joints that are known often enough.
        lags: camera's name -> frames by which it is behind the first.
        reprojection_px: camera's name -> median distance of its pixels from the projected points.
        markers_mm: (17,) median distance from Pose2Sim's own triangulation; NaN where it has no marker.
        markers_lag: frames by which the markers fit best; 0 confirms the first camera's clock.
    """

    source: str
    points: np.ndarray
    compared: np.ndarray
    lags: dict[str, int]
    reprojection_px: dict[str, float]
    markers_mm: np.ndarray
    markers_lag: int

    def seen_by(self, camera: Camera, n_frames: int) -> np.ndarray:
        """Root-relative poses (T, 17, 3) in a camera's frame, on its own frames; NaN where there is none."""
        lag = self.lags[camera.name]
        own = np.full((n_frames, *self.points.shape[1:]), np.nan)
        first, last = max(0, lag), min(n_frames, len(self.points) + lag)
        own[first:last] = self.points[first - lag : last - lag] @ camera.rotation.T
        return root_relative(own)


def triangulated_truth(
    trial: Trial,
    cameras: Sequence[Camera],
    uv: np.ndarray,
    confidence: np.ndarray,
    fps: float,
    settings: Triangulation,
) -> Truth:
    """Triangulate a trial from its 2D detections, or, where it has none, from the estimator's own.

    Args:
        cameras: those of the trial's videos.
        uv: (V, T, 17, 2) pixels and `confidence` (V, T, 17) of the estimator, on each camera's own frames.
        fps: frames a second.
    """
    n_frames = uv.shape[1]
    if trial.detections:
        read = [read_detections(trial.detections[camera.name], n_frames) for camera in cameras]
        uv, confidence = np.stack([r[0] for r in read]), np.stack([r[1] for r in read])
    weights = np.where(np.nan_to_num(confidence) >= settings.least_confidence, confidence, 0.0)
    lags = find_lags(uv, weights, cameras, settings.greatest_lag)
    moved, trust = shift(uv, lags), shift(weights, lags, 0.0)
    points = triangulate(moved, trust, cameras, settings.outlier_px)
    error = reprojection_px(points, moved, cameras)
    error[trust == 0] = np.nan
    supported = (np.nan_to_num(error, nan=np.inf) <= settings.outlier_px).sum(0) >= 2
    points = smooth(
        without_spikes(np.where(supported[..., None], points, np.nan), settings.spike_m), fps, settings
    )
    markers_mm, markers_lag = _against_markers(trial, points, settings.greatest_lag)
    return Truth(
        source="detections" if trial.detections else "estimates",
        points=points,
        compared=np.isfinite(points).all(-1).mean(0) >= settings.least_share,
        lags={camera.name: int(lag) for camera, lag in zip(cameras, lags, strict=True)},
        reprojection_px={c.name: _median(off) for c, off in zip(cameras, error, strict=True)},
        markers_mm=markers_mm,
        markers_lag=markers_lag,
    )


def without_spikes(points: np.ndarray, spike_m: float) -> np.ndarray:
    """Points (T, K, 3) with NaN where one lies farther than `spike_m` from its median of seven frames."""
    padded = np.pad(points, ((3, 3), (0, 0), (0, 0)), constant_values=np.nan)
    near = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=0)
    known = np.isfinite(near).any(-1, keepdims=True)
    middle = np.nanmedian(np.where(known, near, 0.0), axis=-1)
    return np.where(np.linalg.norm(points - middle, axis=-1, keepdims=True) <= spike_m, points, np.nan)


def smooth(points: np.ndarray, fps: float, settings: Triangulation) -> np.ndarray:
    """Points (T, K, 3) after a zero-phase Butterworth low-pass of fourth order (two passes of the second).

    Each stretch without a gap is filtered by itself; one that is too short for the filter becomes NaN.
    """
    from scipy.signal import butter, sosfiltfilt

    sections = butter(2, settings.cut_off_hz, fs=fps, output="sos")
    least = round(fps / settings.cut_off_hz)
    smoothed = np.full(points.shape, np.nan)
    for joint in range(points.shape[1]):
        known = np.isfinite(points[:, joint]).all(-1)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
        for first, last in edges.reshape(-1, 2):
            if last - first > least:
                stretch = points[first:last, joint]
                smoothed[first:last, joint] = sosfiltfilt(sections, stretch, axis=0, padlen=least)
    return smoothed


def _against_markers(trial: Trial, points: np.ndarray, greatest: int) -> tuple[np.ndarray, int]:
    """Median distances (17,) in mm from the trial's markers, and the lag with which they are smallest."""
    if trial.markers is None:
        return np.full(points.shape[1], np.nan), 0
    markers, _ = read_markers(trial.markers)
    n = min(len(points), len(markers))
    points, markers = points[:n], markers[:n]

    def distances(lag: int) -> np.ndarray:
        moved = shift(markers[None], np.array([lag]))[0]
        return 1000 * np.linalg.norm(points - moved, axis=-1)

    lags = [lag for lag in range(-greatest, greatest + 1) if abs(lag) < n]
    best = min(lags, key=lambda lag: (_median(distances(lag)), abs(lag)))
    return np.array([_median(column) for column in distances(best).T]), best


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")

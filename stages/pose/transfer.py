"""Stage pose-transfer: the refiner, trained on a simulated estimator, on the answers of a real one.

    python -m stages.pose.transfer --data DIR --model DIR --floors DIR --output DIR

DIR holds calibrated videos (see `multiview`). A folder without videos gives empty tables, so that the stage
stands in every graph; MediaPipe's environment is asked for only where there are some.

    transfer.parquet   one row a view (trial and camera) and method; transfer.csv holds the same
    joints.parquet     one row a view, method and joint
    truth.parquet      one row a view: time lag, reprojection, distance from the markers
    estimates.parquet  one row a view and frame: estimate, visibility, pixels, triangulated pose
    quarantine.csv     videos left out, with a reason

One person before a few cameras supports no claim about people: there are no intervals here, and every figure
is called `real_`. A refiner that was trained on phantoms is measured here as any other; `model_dataset` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.body.frames import Camera
from stages.pose.estimation import records
from stages.pose.estimation.environment import interpreter
from stages.pose.estimation.extraction import Estimates, Settings, VideoError, extract, read_estimates
from stages.pose.estimation.multiview import Trial, find_trials
from stages.pose.estimation.truth import Triangulation, triangulated_truth
from stages.pose.estimation.views import MEASURES, METHOD, View, judge, make_methods
from stages.pose.model.floors import Floors
from stages.pose.model.inference import Refiner


class Params(StageParams):
    """Parameters of the transfer.

    Attributes:
        environment: folder of MediaPipe's environment, from the root of the checkout.
        fps: rows a second, by the nearest frame; the refiner's window spans seconds.
        max_frames: of each video, from its beginning.
        tracking: let the estimator follow the person from frame to frame.
        least_frames: a shorter video is left out: the refiner sees 0.8 s.
    """

    section: ClassVar[str] = "pose.transfer"
    threads: int
    environment: Path
    fps: float = Field(ge=1, le=1000)
    max_frames: int = Field(ge=1)
    tracking: bool
    least_frames: int = Field(ge=3)
    triangulation: Triangulation


Refused = list[dict[str, str]]
"""Rows of quarantine.csv."""


def run(
    params: Params, data: Path, model: Path, output: Path, observe: Observer, floors: Path | None = None
) -> dict[str, float]:
    """Measure the estimator, the floors and the refiner on every view below `data`.

    Returns:
        Metrics of the refiner, means over views; those of the other methods with the method's name before
        them (`identity` is the estimator itself).
    """
    cameras, trials = find_trials(data)
    refused: Refused = []
    views = read_views(params, cameras, trials, observe, refused) if trials else []
    if trials and not views:
        problems = "".join(f"\n  {r['trial']}, {r['cam']}: {r['reason']}, {r['detail']}" for r in refused)
        raise StageError(f"{data}: none of the videos can be used:{problems}")
    measured, joints, dataset = [], [], ""
    if views:
        refiner = Refiner.load(model, params.threads)
        dataset = str(refiner.card.dataset)
        methods = make_methods(refiner, None if floors is None else Floors.load(floors), params.fps)
        for view in views:
            of_view, of_joints = judge(view, methods)
            measured += [{**row, "model_dataset": dataset} for row in of_view]
            joints += of_joints
    table = pd.DataFrame(measured, columns=records.TRANSFER_SCHEMA.names)
    records.write(output, views, table, pd.DataFrame(joints, columns=records.JOINT_SCHEMA.names), refused)
    return summarise(table, views, refused)


def read_views(
    params: Params, cameras: tuple[Camera, ...], trials: list[Trial], observe: Observer, refused: Refused
) -> list[View]:
    """Estimate every video and triangulate every trial; what cannot be used is added to `refused`."""
    python = interpreter(params.environment)
    settings = Settings(params.fps, params.max_frames, params.tracking)
    total, done, views = sum(len(trial.videos) for trial in trials), 0, []
    for number, trial in enumerate(trials):
        found: dict[str, tuple[Estimates, dict[str, float]]] = {}
        for cam, video in trial.videos.items():
            table = observe.scratch / f"{number}-{cam}.parquet"
            try:
                counts = extract(video, table, python, settings)
                if counts["n_frames"] < params.least_frames:
                    raise VideoError("too_short", f"{counts['n_frames']} of {params.least_frames} frames")
                found[cam] = read_estimates(table), counts
            except VideoError as error:
                why = {"reason": error.reason, "detail": error.detail}
                refused.append({"trial": trial.name, "cam": cam, **why})
            done += 1
            observe.progress(done, total, "videos")
        views += _views_of(trial, [c for c in cameras if c.name in found], found, params, refused)
    return views


def _views_of(
    trial: Trial,
    cameras: list[Camera],
    found: dict[str, tuple[Estimates, dict[str, float]]],
    params: Params,
    refused: Refused,
) -> list[View]:
    if len(cameras) < 2:
        why = {"reason": "one_view", "detail": "triangulation needs two videos that can be used"}
        refused += [{"trial": trial.name, "cam": camera.name, **why} for camera in cameras]
        return []
    estimates = [found[camera.name][0] for camera in cameras]
    uv, confidence = (_padded([getattr(e, name) for e in estimates]) for name in ("uv_px", "visibility"))
    truth = triangulated_truth(trial, cameras, uv, confidence, params.fps, params.triangulation)
    return [
        View(
            trial=trial.name,
            camera=camera,
            estimates=estimate,
            counts=found[camera.name][1],
            truth=truth,
            triangulated=truth.seen_by(camera, len(estimate.pose)),
        )
        for camera, estimate in zip(cameras, estimates, strict=True)
    ]


def summarise(measured: pd.DataFrame, views: list[View], refused: Refused) -> dict[str, float]:
    """Flat metrics; see `run`."""
    metrics: dict[str, float] = {
        "n_videos": len(views),
        "n_videos_refused": len(refused),
        "n_frames": sum(len(view.estimates.pose) for view in views),
        "n_frames_compared": int(measured.loc[measured["method"] == METHOD, "n_frames"].sum()),
    }
    for method, part in measured.groupby("method"):
        prefix = "" if method == METHOD else f"{method}_"
        metrics |= {f"{prefix}{name}": float(part[name].mean()) for name in MEASURES}
    return metrics


def _padded(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays (T_v, ...) of different lengths as one (V, T, ...), with NaN at the ends of the shorter ones."""
    longest = max(len(array) for array in arrays)
    return np.stack(
        [np.pad(a, [(0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)], constant_values=np.nan) for a in arrays]
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Motion capture -> labels in each camera's own frame, as Parquet shards.

A pose estimator works in its camera's frame, so the world's poses are rotated into it
(X_camera = R X_world + t) and made root-relative, in metres (see `body.frames`). Sequences are worked on in
parallel; each finished one waits in a scratch folder, so that a killed run goes on where it stopped. The
shards are then put together camera by camera in the order of the names, one row group in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.core.data.pool import map_unordered
from stages.core.errors import StageError
from stages.pose.body.frames import Camera, project, root_relative, view_direction, world_to_camera
from stages.pose.body.skeleton import HIPS, N_JOINTS, mid
from stages.pose.capture.annotations import UNSYNCED_VIEWS, SequenceError
from stages.pose.capture.assembly import Progress, assemble
from stages.pose.capture.checks import check_sequence
from stages.pose.capture.sources import FPS, Kind, Sources, find_sources
from stages.pose.capture.store import Columns


class Settings(BaseModel):
    """What conversion may choose; kept in the manifest.

    Attributes:
        sources: kinds of motion capture that are used, where the raw folder has them (see `sources`).
        acclaim_rate: frames a second of .amc files, which do not say it.
        max_gap: longest run of label frames without a pose that is filled.
        frame_step: every how many frames one is kept.
        rows_per_group, rows_per_part: size of row groups and shards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sources: tuple[Kind, ...]
    acclaim_rate: int
    max_gap: int = Field(ge=0)
    frame_step: int = Field(ge=1)
    rows_per_group: int = Field(ge=1)
    rows_per_part: int = Field(ge=1)

    @field_validator("acclaim_rate")
    @classmethod
    def _whole_steps(cls, rate: int) -> int:
        if rate < FPS or rate % FPS:
            raise ValueError(f"acclaim_rate {rate}: expected a multiple of {FPS}")
        return rate


def convert(
    raw: Path,
    output: Path,
    settings: Settings,
    workers: int,
    scratch: Path,
    progress: Progress,
    use_splits: bool = True,
) -> dict[str, float]:
    """Convert a raw folder into a sequence store.

    Args:
        raw: folder with AIST++'s annotations, .asf and .amc files, or both; see `sources`.
        workers: processes; 0 is one a core; no effect on the result.
        scratch: finished sequences wait here, under a name that stands for the input and the settings.
        use_splits: whether sequences that the split files do not name are left out.
    Returns:
        Counts of sequences, rows, flags and quarantine reasons.
    """
    sources = find_sources(raw, settings.sources, settings.acclaim_rate, use_splits)
    names = sources.names
    scratch = scratch / _fingerprint(sources, settings)
    scratch.mkdir(parents=True, exist_ok=True)
    work = partial(_convert_one, sources, settings, scratch)
    for done, _ in enumerate(map_unordered(work, names, workers), start=1):
        progress(done, len(names), "sequences")
    good, quarantined = _outcomes(names, scratch)
    if not good:
        reasons = ", ".join(
            f"{name}: {problem['reason']}" for name, problem in list(quarantined.items())[:10]
        )
        raise StageError(f"{raw}: no sequence can be used ({reasons}); see the reasons above")
    return assemble(sources, settings.model_dump(mode="json"), good, quarantined, scratch, output, progress)


def _fingerprint(sources: Sources, settings: Settings) -> str:
    """Stands for everything that decides what a finished sequence looks like."""
    files = {path for source in sources.by_kind.values() for path in source.files}
    facts = [
        [settings.model_dump(), sources.official],
        sorted(
            (path.relative_to(sources.folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for path in files
        ),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _convert_one(sources: Sources, settings: Settings, scratch: Path, name: str) -> None:
    """Leave <name>.npz (all its views) or <name>.json (why not) in `scratch`, unless one is there already."""
    finished, refused = scratch / f"{name}.npz", scratch / f"{name}.json"
    if finished.exists() or refused.exists():
        return
    try:
        columns = _sequence_columns(sources, settings, name)
    except SequenceError as problem:
        reason = json.dumps({"reason": problem.reason, "detail": problem.detail})
        _write_whole(refused, reason.encode())
        return
    content = io.BytesIO()
    np.savez(content, **columns)  # type: ignore[arg-type]
    _write_whole(finished, content.getbuffer())


def _write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is there as a whole or not at all."""
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _sequence_columns(sources: Sources, settings: Settings, name: str) -> Columns:
    """Columns `<cam>/<column>` of every view of one sequence, and what all its views share."""
    source = sources.of(name)
    source.describe(name)
    take = source.read(name)
    checked = check_sequence(take.poses, take.raw, settings.max_gap)
    frames = np.arange(0, len(checked.poses), settings.frame_step)
    columns: Columns = {
        "frame": frames.astype(np.int32),
        "flags": checked.flags[frames],
        "detections": np.array(take.detected),
    }
    for camera in take.rig:
        if (name, camera.name) not in UNSYNCED_VIEWS:
            view = camera_labels(checked.poses[frames], camera)
            view |= _detected(take.detections.get(camera.name), frames)
            columns |= {f"{camera.name}/{key}": value.astype(np.float32) for key, value in view.items()}
    return columns


def _detected(found: np.ndarray | None, frames: np.ndarray) -> Columns:
    """The store's columns of a camera's 2D detections (N, 17, 3), or of none."""
    if found is None:
        nothing = np.full((len(frames), N_JOINTS, 3), np.nan)
        nothing[..., 2] = 0
        return {"det_uv_px": nothing[..., :2], "det_confidence": nothing[..., 2]}
    return {"det_uv_px": found[frames, :, :2], "det_confidence": found[frames, :, 2]}


def camera_labels(poses_world: np.ndarray, camera: Camera) -> Columns:
    """What one camera sees of poses (N, 17, 3) in metres, world frame: the float columns of the store."""
    seen = world_to_camera(poses_world, camera)
    root = mid(seen, HIPS)
    pose = root_relative(seen)
    return {
        "gt_cam_xyz": pose,
        "gt_root_cam": root,
        "gt_uv_px": project(seen, camera),
        "view_dir": view_direction(pose, root),
        "distance_m": np.linalg.norm(root, axis=-1),
    }


def _outcomes(names: list[str], scratch: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    good = [name for name in names if (scratch / f"{name}.npz").exists()]
    quarantined = {
        name: json.loads((scratch / f"{name}.json").read_text()) for name in names if name not in set(good)
    }
    return good, quarantined

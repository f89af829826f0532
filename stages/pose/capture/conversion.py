"""AIST++ annotations -> labels in each camera's own frame, as Parquet shards.

A pose estimator works in its camera's frame, so the world's poses are rotated into it
(X_camera = R X_world + t) and made root-relative, in metres (see `body.frames`). Sequences are worked on in
parallel; each finished one waits in a scratch folder, so that a killed run goes on where it stopped. The
shards are then put together in the order of the names, one row group in memory per camera.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from stages.core.data import tables
from stages.core.data.films import dataset_name
from stages.core.data.pool import map_unordered
from stages.core.errors import StageError
from stages.pose.body.frames import Camera, project, root_relative, view_direction, world_to_camera
from stages.pose.body.skeleton import HIPS, mid
from stages.pose.capture.annotations import (
    UNSYNCED_VIEWS,
    Annotations,
    SequenceError,
    SequenceName,
    read_annotations,
    read_poses,
    read_rig,
)
from stages.pose.capture.checks import Flag, check_sequence
from stages.pose.capture.store import SEQUENCE_SCHEMA, Columns, ShardWriter, write_cameras, write_manifest

FPS = 60.0
"""AIST++ poses are exactly 60 a second."""
DEFAULT_DATASET = "aistpp"
Progress = Callable[[int, int, str], None]


class Settings(BaseModel):
    """What conversion may choose; kept in the manifest.

    Attributes:
        max_gap: longest run of label frames without a pose that is filled.
        frame_step: every how many frames one is kept.
        rows_per_group, rows_per_part: size of row groups and shards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_gap: int = Field(ge=0)
    frame_step: int = Field(ge=1)
    rows_per_group: int = Field(ge=1)
    rows_per_part: int = Field(ge=1)


def convert(
    raw: Path,
    output: Path,
    settings: Settings,
    workers: int,
    scratch: Path,
    progress: Progress,
    use_splits: bool = True,
) -> dict[str, float]:
    """Convert an annotation folder into a sequence store.

    Args:
        raw: folder in the layout of AIST++'s annotations.
        workers: processes; 0 is one a core; no effect on the result.
        scratch: finished sequences wait here, under a name that stands for the input and the settings.
        use_splits: whether sequences that the split files do not name are left out.
    Returns:
        Counts of sequences, rows, flags and quarantine reasons.
    """
    annotations = read_annotations(raw)
    splits = annotations.splits if use_splits else {}
    names = sorted(annotations.files)
    scratch = scratch / _fingerprint(annotations, splits, settings)
    scratch.mkdir(parents=True, exist_ok=True)
    work = partial(_convert_one, annotations, splits, settings, scratch)
    for done, _ in enumerate(map_unordered(work, names, workers), start=1):
        progress(done, len(names), "sequences")
    good, quarantined = _outcomes(names, scratch)
    if not good:
        reasons = ", ".join(
            f"{name}: {problem['reason']}" for name, problem in list(quarantined.items())[:10]
        )
        raise StageError(f"{raw}: no sequence can be used ({reasons}); see the reasons above")
    return _assemble(annotations, splits, settings, good, quarantined, scratch, output)


def _fingerprint(annotations: Annotations, splits: dict[str, str], settings: Settings) -> str:
    """Stands for everything that decides what a finished sequence looks like."""
    files = [*annotations.files.values(), *(annotations.folder / "cameras").glob("*.json")]
    facts = [
        settings.model_dump(),
        sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files),
        [sorted(annotations.settings.items()), sorted(annotations.ignored), sorted(splits.items())],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _convert_one(
    annotations: Annotations, splits: dict[str, str], settings: Settings, scratch: Path, name: str
) -> None:
    """Leave <name>.npz (all its views) or <name>.json (why not) in `scratch`, unless one is there already."""
    finished, refused = scratch / f"{name}.npz", scratch / f"{name}.json"
    if finished.exists() or refused.exists():
        return
    try:
        columns = _sequence_columns(annotations, splits, settings, name)
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


def _sequence_columns(
    annotations: Annotations, splits: dict[str, str], settings: Settings, name: str
) -> Columns:
    """Columns `<cam>/<column>` of every view of one sequence."""
    if name in annotations.ignored:
        raise SequenceError("ignored", "listed in ignore_list.txt")
    if splits and name not in splits:
        raise SequenceError("no_split", "in none of splits/pose_{train,val,test}.txt")
    if name not in annotations.settings:
        raise SequenceError("unmapped", "no row in cameras/mapping.txt")
    rig = read_rig(annotations.folder, annotations.settings[name])
    checked = check_sequence(*read_poses(annotations.files[name]), settings.max_gap)
    frames = np.arange(0, len(checked.poses), settings.frame_step)
    columns: Columns = {"frame": frames.astype(np.int32), "flags": checked.flags[frames]}
    for camera in rig:
        if (name, camera.name) not in UNSYNCED_VIEWS:
            view = camera_labels(checked.poses[frames], camera)
            columns |= {f"{camera.name}/{key}": value.astype(np.float32) for key, value in view.items()}
    return columns


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


def _assemble(
    annotations: Annotations,
    splits: dict[str, str],
    settings: Settings,
    good: list[str],
    quarantined: dict[str, dict[str, str]],
    scratch: Path,
    output: Path,
) -> dict[str, float]:
    output.mkdir(parents=True, exist_ok=True)
    writers: dict[tuple[str, str], ShardWriter] = {}
    sequences, counts = [], Counter[str]()
    for number, name in enumerate(good):
        described, split = SequenceName.parse(name), splits.get(name, "none")
        with np.load(scratch / f"{name}.npz") as columns:
            flags, frames = columns["flags"], columns["frame"]
            views = sorted({key.split("/")[0] for key in columns.files if "/" in key})
            for cam in views:
                shared = {
                    "seq": np.full(len(frames), number, np.int16),
                    "dancer": np.full(len(frames), described.dancer, np.int16),
                    "cam": np.full(len(frames), int(cam.removeprefix("c")), np.int8),
                    "frame": frames,
                    "t_s": (frames / FPS).astype(np.float32),
                    "flags": flags,
                }
                own = {key.split("/")[1]: columns[key] for key in columns.files if key.startswith(f"{cam}/")}
                if (split, cam) not in writers:
                    folder = output / f"split={split}" / f"cam={cam}"
                    writers[split, cam] = ShardWriter(folder, settings.rows_per_group, settings.rows_per_part)
                writers[split, cam].add(shared | own)
        counts["n_rows"] += len(frames) * len(views)
        counts["n_frames"] += len(frames)
        for flag in Flag:
            counts[f"n_{str(flag.name).lower()}_frames"] += int((flags & flag > 0).sum())
        sequences.append(
            (number, name, described.dancer, described.genre, annotations.settings[name], split, len(frames))
        )
    for writer in writers.values():
        writer.close()
    table = pd.DataFrame(sequences, columns=SEQUENCE_SCHEMA.names)
    tables.write_table(output / "sequences.parquet", table, SEQUENCE_SCHEMA)
    used = sorted(set(table["setting"]))
    write_cameras(
        output / "cameras.parquet", {setting: read_rig(annotations.folder, setting) for setting in used}
    )
    _write_quarantine(output / "quarantine.csv", quarantined)
    metrics = {
        "n_sequences": len(good),
        "n_dancers": len(set(table["dancer"]) - {-1}),
        "n_quarantined": len(quarantined),
        "official_split": bool(splits),
        **dict(sorted(counts.items())),
        **_reasons(quarantined),
    }
    policy = "the data set's own, by dancer (splits/pose_*.txt)" if splits else "no split files: `none`"
    facts = {
        "name": dataset_name(annotations.folder, DEFAULT_DATASET),
        "lane": "pose",
        "split_policy": policy,
        "source": "AIST++ annotation layout, keypoints3d_optim, centimetres, 60 frames a second",
        "fps": FPS / settings.frame_step,
        "settings": settings.model_dump(),
        "counts": metrics,
    }
    write_manifest(output, facts)
    return metrics


def _reasons(quarantined: dict[str, dict[str, str]]) -> dict[str, float]:
    counts = Counter(problem["reason"] for problem in quarantined.values())
    return {f"n_quarantined_{reason}": count for reason, count in sorted(counts.items())}


def _write_quarantine(path: Path, quarantined: dict[str, dict[str, str]]) -> None:
    rows = [(name, problem["reason"], problem["detail"]) for name, problem in sorted(quarantined.items())]
    frame = pd.DataFrame(rows, columns=["sequence", "reason", "detail"])
    frame.to_csv(path, index=False, lineterminator="\n")

"""Finished sequences of a conversion -> the sequence store, camera by camera in the order of the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.data.films import dataset_name
from stages.pose.capture.annotations import UNSYNCED_VIEWS
from stages.pose.capture.checks import Flag
from stages.pose.capture.detections import NONE, USED, list_videos
from stages.pose.capture.sources import FPS, Kind, Recording, Sources
from stages.pose.capture.store import (
    SEQUENCE_SCHEMA,
    VIDEO_SCHEMA,
    Columns,
    ShardWriter,
    write_cameras,
    write_manifest,
)

DEFAULT_DATASETS: dict[Kind, str] = {"aistpp": "aistpp", "acclaim": "mocap"}
"""Names of raw folders without a dataset.json, joined where both kinds lie in one."""
SOURCE_FACTS: dict[Kind, str] = {
    "aistpp": "AIST++ annotation layout, keypoints3d_optim, centimetres, 60 frames a second",
    "acclaim": "Acclaim .asf and .amc, thinned to 60 frames a second, before virtual cameras; faces synthesised",
}
OFFICIAL_SPLIT = "the data set's own, by dancer (splits/pose_*.txt)"
Progress = Callable[[int, int, str], None]


def assemble(
    sources: Sources,
    settings: dict[str, Any],
    good: list[str],
    quarantined: dict[str, dict[str, str]],
    scratch: Path,
    output: Path,
    progress: Progress,
) -> dict[str, float]:
    """Write the store of the finished sequences `good`; returns its counts. See `conversion`."""
    output.mkdir(parents=True, exist_ok=True)
    recordings = [sources.of(name).describe(name) for name in good]
    table, views, counts = _survey(recordings, scratch)
    for cam in sorted({cam for cams in views.values() for cam in cams}):
        detected = _write_camera(cam, recordings, views, settings, scratch, output, progress)
        counts["n_detected_rows"] += detected
    tables.write_table(output / "sequences.parquet", table, SEQUENCE_SCHEMA)
    rigs = {r.setting: sources.of(r.name).rig(r.setting) for r in recordings}
    write_cameras(output / "cameras.parquet", rigs)
    videos = _write_videos(output / "videos.parquet", sources.folder, recordings)
    _write_quarantine(output / "quarantine.csv", quarantined)
    metrics = {
        "n_sequences": len(good),
        "n_dancers": len(set(table["dancer"]) - {-1}),
        "n_quarantined": len(quarantined),
        "n_videos": videos,
        "official_split": sources.official,
        **{f"n_sequences_{kind}": int((table["source"] == kind).sum()) for kind in sources.by_kind},
        **dict(sorted(counts.items())),
        **_reasons(quarantined),
    }
    policy = OFFICIAL_SPLIT if sources.official else "no split files: `none`"
    if "extra" in set(table["split"]):
        policy += "; other sources: `extra`, to learn from only"
    facts = {
        "name": dataset_name(sources.folder, "-".join(DEFAULT_DATASETS[kind] for kind in sources.by_kind)),
        "lane": "pose",
        "split_policy": policy,
        "source": [SOURCE_FACTS[kind] for kind in sources.by_kind],
        "fps": FPS / settings["frame_step"],
        "settings": settings,
        "counts": metrics,
    }
    write_manifest(output, facts)
    return metrics


def _survey(
    recordings: list[Recording], scratch: Path
) -> tuple[pd.DataFrame, dict[str, list[str]], Counter[str]]:
    """The table of sequences, the cameras of each by its name, and counts of rows and flags."""
    rows, views, counts = [], {}, Counter[str](n_excluded_views=0, n_refused_detections=0)
    for number, known in enumerate(recordings):
        with np.load(scratch / f"{known.name}.npz") as columns:
            flags, detected = columns["flags"], str(columns["detections"])
            cams = sorted({key.split("/")[0] for key in columns.files if "/" in key})
        views[known.name] = cams
        counts["n_rows"] += len(flags) * len(cams)
        counts["n_frames"] += len(flags)
        counts["n_excluded_views"] += sum(name == known.name for name, _ in UNSYNCED_VIEWS)
        counts["n_refused_detections"] += detected not in (NONE, USED)
        for flag in Flag:
            if flag is not Flag.DETECTED:
                counts[f"n_{str(flag.name).lower()}_frames"] += int((flags & flag > 0).sum())
        facts = (known.name, known.source, known.dancer, known.genre, known.setting, known.split)
        rows.append((number, *facts, detected, len(flags)))
    return pd.DataFrame(rows, columns=SEQUENCE_SCHEMA.names), views, counts


def _write_camera(
    cam: str,
    recordings: list[Recording],
    views: dict[str, list[str]],
    settings: dict[str, Any],
    scratch: Path,
    output: Path,
    progress: Progress,
) -> int:
    """Write the shards of one camera; returns in how many rows a 2D detector found the person."""
    writers: dict[str, ShardWriter] = {}
    n_detected = 0
    for number, known in enumerate(recordings):
        if cam in views[known.name]:
            columns = _view_columns(scratch / f"{known.name}.npz", number, known, cam)
            n_detected += int((columns["flags"] & Flag.DETECTED > 0).sum())
            if known.split not in writers:
                folder = output / f"split={known.split}" / f"cam={cam}"
                writers[known.split] = ShardWriter(
                    folder, settings["rows_per_group"], settings["rows_per_part"]
                )
            writers[known.split].add(columns)
        progress(number + 1, len(recordings), f"sequences of camera {cam} written")
    for writer in writers.values():
        writer.close()
    return n_detected


def _view_columns(path: Path, number: int, known: Recording, cam: str) -> Columns:
    """All columns of the store of one sequence and camera; of the file, only this camera's are read."""
    with np.load(path) as columns:
        own = {key.split("/")[1]: columns[key] for key in columns.files if key.startswith(f"{cam}/")}
        flags, frames = columns["flags"], columns["frame"]
    detected = (own["det_confidence"] > 0).any(1)
    return {
        "seq": np.full(len(frames), number, np.int16),
        "dancer": np.full(len(frames), known.dancer, np.int16),
        "cam": np.full(len(frames), int(cam.removeprefix("c")), np.int8),
        "frame": frames,
        "t_s": (frames / FPS).astype(np.float32),
        "flags": flags | np.where(detected, np.uint8(Flag.DETECTED), np.uint8(0)),
        **own,
    }


def _write_videos(path: Path, raw: Path, recordings: list[Recording]) -> int:
    """List the videos of usable views; nothing here opens one."""
    numbers = {known.name: number for number, known in enumerate(recordings)}
    rows = [
        (numbers[name], cam, video.relative_to(raw).as_posix(), video.stat().st_size)
        for (name, cam), video in sorted(list_videos(raw).items())
        if name in numbers and (name, cam) not in UNSYNCED_VIEWS
    ]
    tables.write_table(path, pd.DataFrame(rows, columns=VIDEO_SCHEMA.names), VIDEO_SCHEMA)
    return len(rows)


def _reasons(quarantined: dict[str, dict[str, str]]) -> dict[str, float]:
    counts = Counter(problem["reason"] for problem in quarantined.values())
    return {f"n_quarantined_{reason}": count for reason, count in sorted(counts.items())}


def _write_quarantine(path: Path, quarantined: dict[str, dict[str, str]]) -> None:
    rows = [(name, problem["reason"], problem["detail"]) for name, problem in sorted(quarantined.items())]
    frame = pd.DataFrame(rows, columns=["sequence", "reason", "detail"])
    frame.to_csv(path, index=False, lineterminator="\n")

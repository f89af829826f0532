"""The sequence store: labels of every frame seen by every camera, as Parquet shards.

    split=<train|val|test|extra|none>/cam=<c01>/part-000.parquet   one row a frame, by (sequence, frame)
    sequences.parquet     lookup of the number in column `seq`: name, source, dancer, genre, setting, split,
                          what became of its 2D detections, frames
    cameras.parquet       calibration by (setting, cam)
    videos.parquet        videos of these views in the raw folder, where there are any; listed, not read
    quarantine.csv        sequences left out, with a reason
    manifest.json         name of the data set, split policy, rows and digests of the shards

`split` is the data set's own; roles are given out later, by `pack`. A column's unit stands in its metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.data import tables
from stages.core.errors import StageError
from stages.pose.body.frames import Camera
from stages.pose.body.skeleton import N_JOINTS

SHARD_SCHEMA = pa.schema(
    [
        tables.column("seq", pa.int16()),
        tables.column("dancer", pa.int16()),
        tables.column("cam", pa.int8()),
        tables.column("frame", pa.int32()),
        tables.column("t_s", pa.float32(), "s"),
        tables.column("gt_cam_xyz", pa.list_(pa.float32(), 3 * N_JOINTS), "m, camera frame, root-relative"),
        tables.column("gt_root_cam", pa.list_(pa.float32(), 3), "m, camera frame"),
        tables.column(
            "gt_uv_px", pa.list_(pa.float32(), 2 * N_JOINTS), "px, exact projection: a label, never an input"
        ),
        tables.column("view_dir", pa.list_(pa.float32(), 3), "unit vector, body frame (forward, up, right)"),
        tables.column("distance_m", pa.float32(), "m, camera to the middle of the hips"),
        tables.column(
            "det_uv_px", pa.list_(pa.float32(), 2 * N_JOINTS), "px, of a real 2D detector; NaN where none"
        ),
        tables.column(
            "det_confidence", pa.list_(pa.float32(), N_JOINTS), "0 to 1; 0 where nothing was found"
        ),
        tables.column("flags", pa.uint8()),
    ]
)
SEQUENCE_SCHEMA = pa.schema(
    [
        tables.column("seq", pa.int16()),
        tables.column("name", pa.string()),
        tables.column("source", pa.string()),
        tables.column("dancer", pa.int16()),
        tables.column("genre", pa.string()),
        tables.column("setting", pa.string()),
        tables.column("split", pa.string()),
        tables.column("detections", pa.string()),
        tables.column("n_frames", pa.int32()),
    ]
)
VIDEO_SCHEMA = pa.schema(
    [
        tables.column("seq", pa.int16()),
        tables.column("cam", pa.string()),
        tables.column("file", pa.string()),
        tables.column("size", pa.int64(), "bytes"),
    ]
)
CAMERA_SCHEMA = pa.schema(
    [
        tables.column("setting", pa.string()),
        tables.column("cam", pa.string()),
        tables.column("width", pa.int32(), "px"),
        tables.column("height", pa.int32(), "px"),
        tables.column("matrix", pa.list_(pa.float64(), 9), "px"),
        tables.column("distortion", pa.list_(pa.float64(), 5)),
        tables.column("rotation", pa.list_(pa.float64(), 9), "world to camera"),
        tables.column("translation", pa.list_(pa.float64(), 3), "m"),
    ]
)
VECTORS = {
    "gt_cam_xyz": (N_JOINTS, 3), "gt_root_cam": (3,), "gt_uv_px": (N_JOINTS, 2), "view_dir": (3,),
    "det_uv_px": (N_JOINTS, 2), "det_confidence": (N_JOINTS,),
}  # fmt: skip
"""Shape of one row of each vector column."""

SPLITS = ("train", "val", "test", "extra", "none")
"""`extra`: people of another source, to learn from only. `none`: the folder has no split files."""

Columns = dict[str, np.ndarray]


class ShardWriter:
    """Writes the shards of one split and camera, one row group in memory at a time."""

    def __init__(self, folder: Path, rows_per_group: int, rows_per_part: int) -> None:
        self._folder = folder
        self._rows_per_group = rows_per_group
        self._rows_per_part = rows_per_part
        self._waiting: list[pa.Table] = []
        self._n_waiting = self._n_part = self._parts = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, columns: Columns) -> None:
        """Append rows: arrays of equal length, one a column of SHARD_SCHEMA."""
        table = pa.Table.from_arrays([_arrow(columns[f.name], f) for f in SHARD_SCHEMA], schema=SHARD_SCHEMA)
        self._waiting.append(table)
        self._n_waiting += len(table)
        while self._n_waiting >= self._rows_per_group:
            self._write(self._rows_per_group)

    def close(self) -> None:
        if self._n_waiting:
            self._write(self._n_waiting)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, n_rows: int) -> None:
        whole = pa.concat_tables(self._waiting)
        if self._writer is not None and self._n_part + n_rows > self._rows_per_part:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._writer = self._open()
        self._writer.write_table(whole.slice(0, n_rows).combine_chunks(), row_group_size=n_rows)
        self._n_part += n_rows
        rest = whole.slice(n_rows).combine_chunks()
        self._waiting, self._n_waiting = [rest], len(rest)

    def _open(self) -> pq.ParquetWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"part-{self._parts:03d}.parquet"
        self._parts, self._n_part = self._parts + 1, 0
        # byte-stream-split groups the bytes of floats by significance, which zstd then packs a fifth smaller
        floats = [
            f.name if pa.types.is_floating(f.type) else f"{f.name}.list.element"
            for f in SHARD_SCHEMA
            if _is_float(f.type)
        ]
        return pq.ParquetWriter(
            path, SHARD_SCHEMA, compression="zstd", use_dictionary=False, use_byte_stream_split=floats
        )


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or (
        pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)
    )


def _arrow(values: np.ndarray, spec: pa.Field) -> pa.Array:
    if not pa.types.is_fixed_size_list(spec.type):
        return pa.array(values, type=spec.type)
    flat = np.ascontiguousarray(values).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, type=spec.type.value_type), spec.type.list_size)


def write_cameras(path: Path, rigs: dict[str, tuple[Camera, ...]]) -> None:
    """Write the calibration of every setting."""
    rows = [
        {
            "setting": setting, "cam": camera.name, "width": camera.size[0], "height": camera.size[1],
            "matrix": camera.matrix, "distortion": camera.distortion,
            "rotation": camera.rotation, "translation": camera.translation,
        }
        for setting, rig in sorted(rigs.items())
        for camera in rig
    ]  # fmt: skip
    tables.write_table(path, pd.DataFrame(rows, columns=CAMERA_SCHEMA.names), CAMERA_SCHEMA)


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write manifest.json: `facts`, and rows and SHA-256 of every shard."""
    shards = {}
    for path in sorted(folder.glob("split=*/cam=*/*.parquet")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows = pq.read_metadata(path).num_rows
        shards[path.relative_to(folder).as_posix()] = {"rows": rows, "sha256": digest}
    text = json.dumps({**facts, "shards": shards}, indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SequenceStore:
    """An opened store."""

    folder: Path
    manifest: dict[str, Any]
    sequences: pd.DataFrame

    @classmethod
    def open(cls, folder: Path) -> SequenceStore:
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise StageError(
                f"{folder} is no sequence store (no manifest.json): run `dvc repro pose-convert`"
            )
        return cls(
            folder,
            json.loads(manifest.read_text(encoding="utf-8")),
            tables.read_table(folder / "sequences.parquet"),
        )

    @cached_property
    def cameras(self) -> dict[tuple[str, str], Camera]:
        """(setting, name) -> camera."""
        rows = tables.read_table(self.folder / "cameras.parquet").to_dict("records")
        return {
            (row["setting"], row["cam"]): Camera(
                name=row["cam"],
                size=(row["width"], row["height"]),
                matrix=row["matrix"].reshape(3, 3),
                distortion=row["distortion"],
                rotation=row["rotation"].reshape(3, 3),
                translation=row["translation"],
            )
            for row in rows
        }

    def camera_names(self) -> list[str]:
        return sorted({path.name.removeprefix("cam=") for path in self.folder.glob("split=*/cam=*")})

    def views(self, cam: str, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Columns]]:
        """(sequence number, columns of all its frames) of every sequence that `cam` saw, by split and number.

        Holds one row group and one sequence in memory. `columns` limits what is read; `seq` is always.
        """
        wanted = None if columns is None else ["seq", *columns]
        for split in SPLITS:
            waiting: list[pa.Table] = []
            for path in sorted(self.folder.glob(f"split={split}/cam={cam}/*.parquet")):
                with pq.ParquetFile(path) as file:
                    for group in range(file.num_row_groups):
                        waiting.append(file.read_row_group(group, columns=wanted))
                        *whole, rest = _by_sequence(pa.concat_tables(waiting))
                        yield from map(_columns, whole)
                        waiting = [rest]
            if waiting:
                yield _columns(waiting[0])


def _by_sequence(table: pa.Table) -> list[pa.Table]:
    """Cut a table sorted by `seq` where the number changes."""
    seq = table["seq"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(seq)) + 1).tolist(), len(seq)]
    return [table.slice(a, b - a) for a, b in pairwise(edges)]


def _columns(table: pa.Table) -> tuple[int, Columns]:
    columns = {}
    for name in table.column_names:
        array = table[name].combine_chunks()
        if name in VECTORS:
            columns[name] = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, *VECTORS[name])
        else:
            columns[name] = array.to_numpy(zero_copy_only=False)
    return int(columns["seq"][0]), columns

"""The pose lane's data: packed arrays against one .npz a frame, conversion per core, memory at a million rows.

    python -m bench.pose_data [--raw DIR] [--samples 1500] [--rows 1000000]

Without --raw (a folder that pose-convert reads) it draws phantom dancers first. Both loaders read the same
samples into batches of 256 at random, in turn. The conversion's rate is measured on one process over the raw
folder; what it means for all of AIST++ is an extrapolation, and printed as one. Memory is the largest resident
set of a process that writes and reads so many rows of the sequence store, beside one with a tenth of them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.timing import times_in_turn
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.pose import convert, pack, phantom
from stages.pose.body.skeleton import N_JOINTS
from stages.pose.capture.store import VECTORS, SequenceStore, ShardWriter
from stages.pose.simulation.npz_export import export_npz
from stages.pose.simulation.packed import INPUTS, Packed, PackedRole

AISTPP_FRAMES, CAMERAS = 1_123_000, 9
"""of its 1,408 sequences, at 60 a second"""
BATCH = 256
READ = ("corrupted", "visibility", "pose_2d", "ground_truth")
"""of a sample's file: what INPUTS and the label are among the packed columns"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", type=Path, help="default: phantom dancers")
    parser.add_argument("--samples", type=int, default=1500, help=".npz files")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows whose memory is measured")
    parser.add_argument("--store", nargs=2, metavar=("DIR", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store:
        print(_resident_mb(Path(arguments.store[0]), int(arguments.store[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _conversion(arguments.raw or _draw(folder / "raw"), folder)
        _loaders(folder, arguments.samples)
        _memory(folder, arguments.rows)


def _draw(raw: Path) -> Path:
    phantom.run(load_params(phantom.Params), raw, Observer.quiet(raw.parent / "drawing"))
    return raw


def _conversion(raw: Path, folder: Path) -> None:
    params = load_params(convert.Params).model_copy(update={"workers": 1})
    start, cpu = time.perf_counter(), time.process_time()
    counts = convert.run(params, raw, folder / "sequences", Observer.quiet(folder / "scratch"))
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    rows = counts["n_rows"]
    print(
        f"convert  {rows} rows, one process: {wall:.2f} s, {spent:.2f} CPU s, {rows / spent:,.0f} rows/CPU s"
    )
    whole = AISTPP_FRAMES * CAMERAS / params.settings.frame_step
    print(
        f"         extrapolated, not measured: {whole:,.0f} rows of 1,408 sequences x {CAMERAS} cameras = "
        f"{whole * spent / rows / 60:.0f} CPU minutes"
    )


def _loaders(folder: Path, count: int) -> None:
    """The same samples, from the packed columns and from single files."""
    params = load_params(pack.Params, profile="demo").model_copy(update={"train_draws": 1})
    pack.run(params, folder / "sequences", folder / "packed", Observer.quiet(folder / "scratch"))
    packed, store = Packed.open(folder / "packed"), SequenceStore.open(folder / "sequences")
    export_npz(packed, store, "train", count, folder / "npz")
    files = sorted((folder / "npz" / "pose").glob("*.npz"))
    role = packed.role("train")
    rng = np.random.default_rng(0)
    n = len(files) // BATCH * BATCH or len(files)
    file_order, row_order = rng.permutation(len(files))[:n], rng.permutation(len(role))[:n]

    def single() -> None:
        for start in range(0, n, BATCH):
            batch = [_read(files[k]) for k in file_order[start : start + BATCH]]
            _ = [np.stack(column) for column in zip(*batch, strict=True)]

    seconds, packed_seconds = times_in_turn(single, lambda: _gather(role, row_order), repeats=3)
    size = sum(path.stat().st_blocks * 512 for path in files) / len(files)
    per_row = sum(column.nbytes for column in role.columns.values()) / len(role)
    print(f"npz      {n / seconds:10,.0f} samples/s, {size:,.0f} bytes each on disk, a file a sample")
    print(
        f"packed   {n / packed_seconds:10,.0f} samples/s, {per_row:,.0f} bytes each, {len(role.columns)} files"
    )
    print(f"ratio    {seconds / packed_seconds:10,.0f}")


def _read(path: Path) -> list[np.ndarray]:
    with np.load(path) as sample:
        return [sample[name] for name in READ]


def _gather(role: PackedRole, rows: np.ndarray) -> None:
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        _ = [role[name][chosen] for name in (*INPUTS, "gt_pose")]


def _memory(folder: Path, rows: int) -> None:
    peaks = {}
    for count in (rows // 10, rows):
        command = [sys.executable, "-m", "bench.pose_data", "--store", str(folder / f"{count}"), str(count)]
        peaks[count] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"memory   {count:10,} rows written and read by view: at most {peaks[count]:.0f} MB resident")
    print(f"ratio    {peaks[rows] / peaks[rows // 10]:10.2f} for ten times the rows")


def _resident_mb(folder: Path, rows: int) -> float:
    """Write and read back `rows` rows of one camera, in sequences of 800 frames; the process's peak."""
    settings = load_params(convert.Params).settings
    writer = ShardWriter(folder / "split=train" / "cam=c01", settings.rows_per_group, settings.rows_per_part)
    length = 800
    for number in range(-(-rows // length)):
        writer.add(_made_up(number, min(length, rows - number * length)))
    writer.close()
    (folder / "manifest.json").write_text("{}")
    store = SequenceStore(folder, {}, None)  # type: ignore[arg-type]
    read = sum(len(columns["frame"]) for _, columns in store.views("c01"))
    assert read == rows
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _made_up(number: int, n: int) -> dict[str, np.ndarray]:
    """Columns of one sequence: smooth curves, as poses are."""
    time_s = np.arange(n, dtype=np.float32) / 60
    phases = np.random.default_rng(number).uniform(0, 6, 3 * N_JOINTS).astype(np.float32)
    curves = np.sin(time_s[:, None] + phases)
    columns: dict[str, np.ndarray] = {
        name: np.resize(curves, (n, int(np.prod(shape)))).reshape(n, *shape)
        for name, shape in VECTORS.items()
    }
    frames = np.arange(n, dtype=np.int32)
    whole: dict[str, np.ndarray] = {
        "seq": np.full(n, number, np.int16),
        "dancer": np.zeros(n, np.int16),
        "cam": np.ones(n, np.int8),
    }
    flat: dict[str, np.ndarray] = {
        "frame": frames,
        "t_s": time_s,
        "distance_m": curves[:, 0],
        "flags": np.zeros(n, np.uint8),
    }
    return columns | whole | flat


if __name__ == "__main__":
    main()

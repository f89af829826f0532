"""Videos through the real estimator, one at a time, by the worker in its own environment."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import StageError
from stages.pose.estimation import worker

WORKER = Path(worker.__file__)


class VideoError(Exception):
    """A video that cannot be used: a reason code for the quarantine table, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Settings:
    """See `worker.estimate`."""

    fps: float | None
    max_frames: int | None
    tracking: bool


@dataclass(frozen=True)
class Estimates:
    """What the estimator said about one video; NaN where it saw nobody.

    Attributes:
        pose: (T, 17, 3) metres, camera axes, origin between the hips.
        visibility: (T, 17); uv_px: (T, 17, 2).
        feet: (T, 4, 3) left and right heel, left and right tip of the foot, as `pose`.
        detected: (T,) whether there was a person.
        facts: the table's metadata.
    """

    pose: np.ndarray
    visibility: np.ndarray
    uv_px: np.ndarray
    feet: np.ndarray
    detected: np.ndarray
    facts: dict[str, str]

    @property
    def fps(self) -> float:
        """Rows a second."""
        return float(self.facts["fps"])


def extract(video: Path, output: Path, interpreter: Path, settings: Settings) -> dict[str, float]:
    """Run the worker on one video, unless `output` holds its answer to the same video and settings already.

    Args:
        output: the Parquet file; written whole or not at all.
        interpreter: of `environment`.
    Returns:
        n_frames (rows), n_without_person, n_repeated (rows of a frame that an earlier row shows), video_fps.
    Raises:
        VideoError: `unreadable` or `no_person`.
        StageError: the worker failed, or wrote something else than its schema.
    """
    if not video.is_file():
        raise VideoError("unreadable", f"{video} does not exist")
    if not _answers(output, video, settings):
        _run_worker(video, output, interpreter, settings)
    table = _read(output)
    detected = table["detected"].to_numpy()
    if not detected.any():
        raise VideoError("no_person", f"no person was found in any of {len(table)} frames")
    return {
        "n_frames": len(table),
        "n_without_person": int((~detected).sum()),
        "n_repeated": len(table) - len(np.unique(table["source_frame"].to_numpy())),
        "video_fps": float(_facts(table)["video_fps"]),
    }


def read_estimates(path: Path) -> Estimates:
    """Read a table of the worker. Raises StageError if it is none."""
    table = _read(path)

    def points(name: str, *shape: int) -> np.ndarray:
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(table), *shape).astype(np.float64)

    return Estimates(
        pose=points("mp_xyz", 17, 3),
        visibility=points("visibility", 17),
        uv_px=points("uv_px", 17, 2),
        feet=points("feet_xyz", 4, 3),
        detected=table["detected"].to_numpy(),
        facts=_facts(table),
    )


def _run_worker(video: Path, output: Path, interpreter: Path, settings: Settings) -> None:
    options = [
        *([] if settings.fps is None else ["--fps", f"{settings.fps:.6g}"]),
        *([] if settings.max_frames is None else ["--max-frames", str(settings.max_frames)]),
        *(["--tracking"] if settings.tracking else []),
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    # -I: the environment's own packages, whatever PYTHONPATH says
    command = [str(interpreter), "-I", str(WORKER), str(video), str(output), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise StageError(
            f"{interpreter} cannot be run ({error}): run `python -m stages.pose.estimation.environment`"
        ) from None
    said = done.stderr.strip().splitlines()
    if done.returncode == worker.UNUSABLE:
        raise VideoError("unreadable", said[-1] if said else "the worker did not say why")
    if done.returncode:
        last = "\n".join(said[-8:])
        raise StageError(f"the estimator failed on {video.name} with status {done.returncode}:\n{last}")


def _answers(output: Path, video: Path, settings: Settings) -> bool:
    if not output.is_file():
        return False
    try:
        facts = _facts(_read(output))
    except StageError:
        return False
    wanted = worker.request(settings.fps, settings.max_frames, settings.tracking)
    return (wanted | {"video_sha256": worker.digest(video)}).items() <= facts.items()


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise StageError(f"{path} cannot be read as Parquet: {error}") from None
    if not table.schema.equals(worker.SCHEMA):
        kinds = {spec.name: spec.type for spec in table.schema}
        wrong = [f"{spec.name} ({spec.type})" for spec in worker.SCHEMA if kinds.get(spec.name) != spec.type]
        more = sorted(kinds.keys() - set(worker.SCHEMA.names))
        raise StageError(
            f"{path} is no table of the worker: missing or of another type {', '.join(wrong) or 'none'}; "
            f"unexpected {', '.join(more) or 'none'}; remove it and run again"
        )
    if len(table) == 0:
        raise StageError(f"{path} has no rows; remove it and run again")
    return table


def _facts(table: pa.Table) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}

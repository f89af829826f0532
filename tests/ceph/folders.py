"""Looking into raw folders of lateral films, and writing their label files, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.ceph.raw import read_raw
from stages.ceph.raw.points import read_text_label


def label_points(folder: Path, name: str) -> np.ndarray:
    points = read_text_label(folder / "labels" / f"{name}.txt")
    assert isinstance(points, np.ndarray)
    return points


def write_points(folder: Path, name: str, points: np.ndarray) -> None:
    (folder / "labels" / f"{name}.txt").write_text("".join(f"{x:g},{y:g}\n" for x, y in points))


def reasons(folder: Path, clinic: bool = False) -> dict[str, set[tuple[str, str]]]:
    """Name of film -> (reason, action) of all that was found about it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for refusal in read_raw(folder, clinic).refusals:
        found.setdefault(Path(refusal.name).stem, set()).add((refusal.reason, refusal.action))
    return found


def labels_by_name(folder: Path) -> dict[str, np.ndarray]:
    jobs = read_raw(folder).jobs
    return {job.path.stem: job.landmarks for job in jobs if job.landmarks is not None}

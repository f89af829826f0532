"""Stage pose-floors: fit what can be had without a network; see `model.floors` for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.model import linear
from stages.pose.model.floors import Floors
from stages.pose.model.windows import frame_offsets
from stages.pose.simulation.packed import Packed


class Params(StageParams):
    """Parameters of the floors.

    Attributes:
        window_s: times of the frames that `ridge_time` sees, seconds.
        max_rows: the fits use at most this many rows, evenly spread.
        penalties: tried on the val role; the best is kept.
    """

    section: ClassVar[str] = "pose.floors"
    threads: int
    window_s: tuple[float, ...]
    max_rows: int = Field(ge=1)
    penalties: tuple[float, ...] = Field(min_length=1)


def run(params: Params, packed: Path, output: Path, observe: Observer) -> dict[str, float]:
    data = Packed.open(packed)
    train, val = data.role("train"), data.role("val")
    rows = linear.spread(train, params.max_rows)
    windows = {
        "ridge": np.array([0]),
        "ridge_time": frame_offsets(params.window_s, data.fps, data.frame_step),
    }
    fitted: dict[str, np.ndarray] = {"bias": (train["sim_pose"][rows] - train["gt_pose"][rows]).mean(0)}
    metrics: dict[str, float] = {"n_rows_fitted": len(rows)}
    for done, (name, offsets) in enumerate(windows.items(), start=1):
        found = linear.fit(train, val, offsets, params.penalties, params.max_rows)
        fitted |= {f"{name}_{part}": getattr(found, part) for part in ("offsets", "weights", "constant")}
        metrics |= {f"{name}_penalty": found.penalty, f"val_{name}_sim_mean_abs_dz_cm": found.val_abs_dz_cm}
        observe.progress(done, len(windows), "ridge fits")
    Floors(fitted).save(output)
    return metrics


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

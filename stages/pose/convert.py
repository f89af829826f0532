"""Stage pose-convert: motion capture -> labels in each camera's own frame, as Parquet shards."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.capture.conversion import Settings, convert


class Params(StageParams):
    """`workers` sequences are converted at a time; 0: one a core."""

    section: ClassVar[str] = "pose.convert"
    workers: int = Field(ge=0)
    settings: Settings


def run(params: Params, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the sequence store; see `capture.conversion` and `capture.store`."""
    return convert(raw, output, params.settings, params.workers, observe.scratch, observe.progress)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

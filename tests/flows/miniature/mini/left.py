from pathlib import Path
from typing import ClassVar

from mini.work import BranchParams, grow
from stages.core.stage import Observer, stage_main


class Params(BranchParams):
    section: ClassVar[str] = "left"


def run(params: Params, source: Path, output: Path, observe: Observer) -> dict[str, float]:
    return grow(params, source, output, observe)


if __name__ == "__main__":
    stage_main(run)

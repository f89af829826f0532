from pathlib import Path
from typing import ClassVar

from mini.work import BranchParams, grow
from stages.core.stage import Observer, stage_main


class Params(BranchParams):
    section: ClassVar[str] = "right"


def run(params: Params, source: Path, output: Path, observe: Observer) -> dict[str, float]:
    output.mkdir()
    return grow(params, source, output / "numbers.txt", observe)


if __name__ == "__main__":
    stage_main(run)

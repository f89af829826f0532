from pathlib import Path
from typing import ClassVar

from slow.work import SlowParams, read, write
from stages.core.stage import Observer, stage_main


class Params(SlowParams):
    section: ClassVar[str] = "slow.report"


def run(params: Params, evaluation: Path, output: Path, observe: Observer) -> dict[str, float]:
    numbers = [n + 1 for n in read(evaluation / "numbers.txt")]
    write(output, numbers, params.seconds, observe)
    return {"total": sum(numbers)}


if __name__ == "__main__":
    stage_main(run)

from pathlib import Path
from typing import ClassVar

from slow.work import SlowParams, read, write
from stages.core.stage import Observer, stage_main


class Params(SlowParams):
    section: ClassVar[str] = "slow.branch"
    each: ClassVar[str | None] = "slow.branches"
    factor: int


def run(params: Params, source: Path, output: Path, observe: Observer) -> dict[str, float]:
    numbers = [params.factor * n for n in read(source / "numbers.txt")]
    write(output, numbers, params.seconds, observe)
    return {"total": sum(numbers)}


if __name__ == "__main__":
    stage_main(run)

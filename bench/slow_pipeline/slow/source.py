from pathlib import Path
from typing import ClassVar

import numpy as np

from slow.work import SlowParams, write
from stages.core.stage import Observer, stage_main


class Params(SlowParams):
    section: ClassVar[str] = "slow.source"
    seed: int
    lines: int


def run(params: Params, output: Path, observe: Observer) -> dict[str, float]:
    numbers = np.random.default_rng(params.seed).integers(0, 1000, params.lines)
    write(output, [int(n) for n in numbers], params.seconds, observe)
    return {"n": params.lines}


if __name__ == "__main__":
    stage_main(run)

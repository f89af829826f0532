from pathlib import Path
from typing import ClassVar

import numpy as np

from slow.work import SlowParams, read, write
from stages.core.stage import Observer, stage_main


class Params(SlowParams):
    section: ClassVar[str] = "slow.evaluate"


def run(params: Params, model: Path, source: Path, output: Path, observe: Observer) -> dict[str, float]:
    weights = np.frombuffer((model / "weights.pt").read_bytes(), "<f4")
    numbers = [n + int(w) for n, w in zip(read(source / "numbers.txt"), weights, strict=False)]
    write(output, numbers, params.seconds, observe)
    return {"error": float(np.mean(numbers))}


if __name__ == "__main__":
    stage_main(run)

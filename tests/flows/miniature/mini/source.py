from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main


class Params(StageParams):
    section: ClassVar[str] = "source"
    seed: int
    count: int


def run(params: Params, output: Path, observe: Observer) -> dict[str, float]:
    numbers = np.random.default_rng(params.seed).integers(0, 1000, params.count)
    output.write_text("".join(f"{n}\n" for n in numbers), encoding="utf-8")
    return {"n": params.count}


if __name__ == "__main__":
    stage_main(run)

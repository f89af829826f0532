from pathlib import Path
from typing import ClassVar

from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main


class Params(StageParams):
    section: ClassVar[str] = "merge"
    offset: int


def run(params: Params, left: Path, right: Path, output: Path, observe: Observer) -> dict[str, float]:
    columns = [file.read_text(encoding="utf-8").splitlines() for file in (left, right / "numbers.txt")]
    sums = [int(a) + int(b) + params.offset for a, b in zip(*columns, strict=True)]
    output.write_text("".join(f"{s}\n" for s in sums), encoding="utf-8")
    return {"total": sum(sums)}


if __name__ == "__main__":
    stage_main(run)

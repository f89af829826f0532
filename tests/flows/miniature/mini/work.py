import time
from pathlib import Path

from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer

STUMBLE = Path("stumble")
"""A file at the root that makes one try fail."""


class BranchParams(StageParams):
    factor: int
    seconds: float
    fail: bool


def grow(params: BranchParams, source: Path, target: Path, observe: Observer) -> dict[str, float]:
    """Multiply each number; written line by line, so that a kill leaves half a file."""
    if STUMBLE.exists():
        STUMBLE.unlink()
        raise StageError(f"{target.name} stumbled")
    numbers = [int(line) for line in source.read_text(encoding="utf-8").splitlines()]
    with target.open("w", encoding="utf-8") as file:
        for done, number in enumerate(numbers, start=1):
            file.write(f"{number * params.factor}\n")
            file.flush()
            time.sleep(params.seconds / len(numbers))
            observe.progress(done, len(numbers), "lines")
            if params.fail and done == len(numbers) // 2:
                raise StageError(f"{target.name} was told to fail")
    return {"n": len(numbers)}

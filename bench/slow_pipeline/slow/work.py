"""What all of them do: numbers in, numbers out, line by line, so that a kill leaves half a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from stages.core.params import StageParams
from stages.core.stage import Observer


class SlowParams(StageParams):
    seconds: float
    """of sleep in all"""


def read(file: Path) -> list[int]:
    return [int(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write(output: Path, numbers: Sequence[int], seconds: float, observe: Observer) -> None:
    """Write `numbers.txt` into the folder `output`."""
    output.mkdir(parents=True)
    with (output / "numbers.txt").open("w", encoding="utf-8") as file:
        for done, number in enumerate(numbers, start=1):
            file.write(f"{number}\n")
            file.flush()
            time.sleep(seconds / len(numbers))
            observe.progress(done, len(numbers), "lines")

"""Pictures of one size that are finished one after the other, by any process, and survive a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.data.geometry import Size

_COPIED_AT_ONCE = 1 << 30
"""bytes; Linux copies at most 2 GB in one call"""


@dataclass(frozen=True)
class PictureFile:
    """Pictures (H, W) uint8 one after the other in a file; small enough to be sent to every worker.

    Rows are written through the file, not through a memory map: where the disk is full, a map ends the
    process with SIGBUS, but a write raises an error that can be shown.
    """

    path: Path
    size: Size

    @property
    def row_bytes(self) -> int:
        return self.size[0] * self.size[1]

    def write(self, number: int, picture: np.ndarray) -> None:
        """Replace row `number`. Several processes may write different rows at once."""
        if picture.shape != self.size or picture.dtype != np.uint8:
            raise ValueError(f"a row is {self.size} uint8, not {picture.shape} {picture.dtype}")
        with self.path.open("r+b", buffering=0) as file:
            file.seek(number * self.row_bytes)
            rest = memoryview(picture.tobytes())
            while rest:
                rest = rest[file.write(rest) :]


class ResumableRows:
    """`count` pictures in a scratch file, and a log of which of them are finished.

    Whoever finishes a picture writes it to `pictures` (a process of its own may); one process logs it then.

    Attributes:
        facts: row number -> what was logged with it (JSON values), for all finished rows.
        pictures: the scratch file.
    """

    def __init__(self, folder: Path, mark: str, count: int, size: Size) -> None:
        """Take up what an earlier run left in `folder` under the same `mark`, else start anew."""
        self._log = folder / "done.jsonl"
        self.pictures = PictureFile(folder / "rows.bin", size)
        exists = self.pictures.path.exists()
        self.facts: dict[int, dict[str, Any]] = _read_log(self._log, mark) if exists else {}
        with self.pictures.path.open("r+b" if self.facts else "w+b") as file:
            if count:  # a full disk shows now
                os.posix_fallocate(file.fileno(), 0, count * self.pictures.row_bytes)
        lines = [mark, *map(_line, self.facts.items())]
        self._log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def log(self, finished: Mapping[int, dict[str, Any]]) -> None:
        """Count rows as finished. Their pictures, where they have one, must have been written before."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write("".join(_line(item) + "\n" for item in finished.items()))
        self.facts |= finished

    def save(self, numbers: Sequence[int], path: Path) -> None:
        """Write the given rows, in that order, as an .npy file of shape (n, H, W)."""
        row_bytes = self.pictures.row_bytes
        with path.open("wb") as file, self.pictures.path.open("rb") as rows:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(numbers), *self.pictures.size)}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            for start, count in _runs(numbers):
                _copy(rows.fileno(), file.fileno(), start * row_bytes, count * row_bytes)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches (first, count) of neighbouring rows that `numbers` consists of, in its order."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _copy(source: int, target: int, start: int, count: int) -> None:
    """Append bytes [start, start + count) of one open file to another."""
    while count:
        copied = os.sendfile(target, source, start, min(count, _COPIED_AT_ONCE))
        if not copied:
            raise OSError("the scratch file of the conversion is shorter than its log says; run again")
        start, count = start + copied, count - copied


def _read_log(log: Path, mark: str) -> dict[int, dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else [""]
    if lines[0] != mark:
        return {}
    whole = lines[1:-1]  # what follows the last line end is empty, or was cut by a kill
    return {entry["row"]: entry["facts"] for entry in map(json.loads, whole)}


def _line(item: tuple[int, dict[str, Any]]) -> str:
    return json.dumps({"row": item[0], "facts": item[1]})

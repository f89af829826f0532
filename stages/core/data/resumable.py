"""Pictures of one size that are finished one after the other, and survive a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.core.data.geometry import Size


class FinishedRow(NamedTuple):
    """Row `number` is done: what was learnt about it, and its picture (None where it has none)."""

    number: int
    facts: dict[str, Any]
    picture: np.ndarray | None


class ResumableRows:
    """`count` pictures (H, W) uint8 in a scratch file, and a log of which of them are finished.

    Rows are written through the file, not through a memory map: where the disk is full, a map ends the
    process with SIGBUS, but a write raises an error that can be shown.

    Attributes:
        facts: row number -> what was stored with it (JSON values), for all finished rows.
    """

    def __init__(self, folder: Path, mark: str, count: int, size: Size) -> None:
        """Take up what an earlier run left in `folder` under the same `mark`, else start anew."""
        self._size = size
        self._row_bytes = size[0] * size[1]
        self._log = folder / "done.jsonl"
        rows = folder / "rows.bin"
        self.facts: dict[int, dict[str, Any]] = _read_log(self._log, mark) if rows.exists() else {}
        self._rows = rows.open("r+b" if self.facts else "w+b")
        if count:
            os.posix_fallocate(self._rows.fileno(), 0, count * self._row_bytes)  # a full disk shows now
        lines = [mark, *map(_line, self.facts.items())]
        self._log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def store(self, rows: Sequence[FinishedRow]) -> None:
        """Write finished rows. They count as finished once the log says so, so pictures go first."""
        for row in rows:
            if row.picture is not None:
                self._rows.seek(row.number * self._row_bytes)
                self._rows.write(np.ascontiguousarray(row.picture).tobytes())
        self._rows.flush()
        finished = {row.number: row.facts for row in rows}
        with self._log.open("a", encoding="utf-8") as file:
            file.write("".join(_line(item) + "\n" for item in finished.items()))
        self.facts |= finished

    def save(self, numbers: Sequence[int], path: Path) -> None:
        """Write the given rows, in that order, as an .npy file of shape (n, H, W)."""
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(numbers), *self._size)}
            np.lib.format.write_array_header_1_0(file, header)
            for number in numbers:
                self._rows.seek(number * self._row_bytes)
                file.write(self._rows.read(self._row_bytes))

    def close(self) -> None:
        self._rows.close()


def _read_log(log: Path, mark: str) -> dict[int, dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else [""]
    if lines[0] != mark:
        return {}
    whole = lines[1:-1]  # what follows the last line end is empty, or was cut by a kill
    return {entry["row"]: entry["facts"] for entry in map(json.loads, whole)}


def _line(item: tuple[int, dict[str, Any]]) -> str:
    return json.dumps({"row": item[0], "facts": item[1]})

"""The bench that kills builds: what it must notice, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import kills
from bench.scratch import Scratch, ViolationError


def _row(kill: int, victim: str, violation: str = "") -> dict[str, Any]:
    return {
        "kill": kill,
        "victim": victim,
        "moment": 1.0,
        "process": "python",
        "rerun": 10.0 + kill,
        "violation": violation,
        "seconds": 30.0,
    }


def test_results_are_kept_and_only_missing_kills_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", "")
    made: list[int] = []

    def kill(self: kills.Bench, number: int, expected: dict[str, str], span: float) -> dict[str, Any]:
        made.append(number)
        return _row(number, "flow")

    monkeypatch.setattr(kills.Bench, "_undisturbed", lambda self: ({}, 10.0))
    monkeypatch.setattr(kills.Bench, "_kill", kill)
    (tmp_path / "kills-7.jsonl").write_text(json.dumps(_row(0, "dvc", "orphans")) + "\n", encoding="utf-8")
    rows = list(kills.Bench(tmp_path, 7, ["flow"]).rows(3))
    assert made == [1, 2]
    assert [row["victim"] for row in rows] == ["dvc", "flow", "flow"]
    assert list(kills.Bench(tmp_path, 7, ["flow"]).rows(3)) == rows
    assert made == [1, 2]


def test_the_table_counts_by_victim() -> None:
    lines = kills.table([_row(0, "stage"), _row(1, "stage", "orphans"), _row(2, "server")]).splitlines()
    assert "| stage | 2 | 2 | 1 | 10 to 11 |" in lines
    assert "| server | 1 | 1 | 0 | 12 to 12 |" in lines
    assert lines[-1] == "| all | 3 | 3 | 1 | |"


def test_other_bytes_and_a_missing_file_are_violations(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("half", encoding="utf-8")
    scratch = Scratch(tmp_path, "", tmp_path)
    with pytest.raises(ViolationError, match="out/a, out/b"):
        scratch.assert_whole({"out/a": "0" * 64, "out/b": "0" * 64})

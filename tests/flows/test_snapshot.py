"""The results table of the README: what it says is what the committed reports say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flows.lanes import LANES
from flows.snapshot import CLICKS, HEADLINES, write
from stages.core.errors import StageError
from stages.core.identity import locked_identity, locked_stages

START, END = "<!-- snapshot:demo -->\n", "<!-- /snapshot -->"


@pytest.fixture(scope="module")
def rows(root: Path) -> list[list[str]]:
    """The cells of the demo's tables in README.md."""
    block = (root / "README.md").read_text(encoding="utf-8").partition(START)[2].partition(END)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if "|" in line
    ]


def _metrics(root: Path, lane: str) -> dict[str, float]:
    metrics: dict[str, float] = json.loads(
        (root / "reports" / lane / "evaluate.json").read_text(encoding="utf-8")
    )
    return metrics


def _of_lane(rows: list[list[str]], lane: str) -> list[list[str]]:
    """The model's row of a lane and those of its floors."""
    first = next(i for i, row in enumerate(rows) if row[0].startswith(f"{lane}-phantom"))
    rest = rows[first + 1 :]
    return [rows[first], *rest[: next(i for i, row in enumerate(rest) if row[0])]]


@pytest.mark.parametrize("lane", LANES)
def test_every_error_is_that_of_the_committed_report(root: Path, rows: list[list[str]], lane: str) -> None:
    said, metrics = HEADLINES[lane], _metrics(root, lane)
    model, *floors = _of_lane(rows, lane)
    low, high = metrics[said.low], metrics[said.high]
    assert model[3] == f"**{metrics[said.error]:.2f}** {said.unit} ({low:.2f} to {high:.2f})"
    assert len(floors) >= 3
    for floor in floors:
        name = floor[2].replace(" ", "_")
        assert floor[3] == f"{metrics[said.floor.format(name)]:.2f}", name
        # Rounded thrice, so a hundredth or so off.
        difference = metrics[said.error] - metrics[said.floor.format(name)]
        assert float(floor[4].split()[0]) == pytest.approx(difference, abs=0.02), name


@pytest.mark.parametrize("lane", LANES)
def test_every_key_is_that_of_the_committed_lock(root: Path, rows: list[list[str]], lane: str) -> None:
    key = re.search(r"`(\w{8})`", _of_lane(rows, lane)[0][0])
    assert key is not None
    keys = {locked_identity(entry).key[:8] for entry in locked_stages(root).values()}
    assert key[1] in keys, "run `plumbline snapshot --write` after `make repro`"


def test_every_command_names_a_stage(root: Path, rows: list[list[str]]) -> None:
    commands = [row[6].strip("`") for row in rows if len(row) == 7 and row[6].startswith("`dvc")]
    assert len(commands) == len(LANES)
    assert {command.removeprefix("dvc repro ") for command in commands} <= locked_stages(root).keys()


def test_clicks_are_those_of_the_committed_report(root: Path, rows: list[list[str]]) -> None:
    metrics = _metrics(root, "spine")
    refiner = next(row for row in rows if row[0] == "Refiner")
    assert refiner[1:] == [f"{metrics[f'mre_raw_px@{count}']:.1f}" for count in CLICKS]


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A checkout in which one lane was evaluated."""
    (tmp_path / "params.yaml").write_text("profile: demo\n")
    (tmp_path / "README.md").write_text(f"above\n{START}old\n{END}\nbelow\n")
    folder, model = tmp_path / "reports/chest", tmp_path / LANES["chest"].model
    (folder / "evaluation").mkdir(parents=True)
    model.mkdir(parents=True)
    (model / "card.json").write_text(json.dumps({"dataset": "toy", "key": "abcdef01" * 8}))
    metrics = {
        "n_films": 7,
        "mean_px224": 2.0,
        "mean_px224_low": 1.5,
        "mean_px224_high": 2.5,
        "line_mean_px224": 3.0,
    }
    (folder / "evaluate.json").write_text(json.dumps(metrics))
    (folder / "evaluation/comparison.csv").write_text(
        "role,error,method_a,method_b,mean_difference,low,high,verdict\n"
        "test,e,system,line,-1.0,-1.5,-0.5,better\ngate,e,system,line,9.0,8.0,10.0,worse\n"
    )
    return tmp_path


def test_writing_replaces_what_stands_between_the_marks_and_nothing_else(reported: Path) -> None:
    assert "wrote" in write(reported)
    text = (reported / "README.md").read_text()
    assert text.startswith(f"above\n{START}")
    assert text.endswith(f"{END}\nbelow\n")
    assert "old" not in text
    assert "| chest-toy `abcdef01` | 7 films | **model** | **2.00** px at 224 (1.50 to 2.50) |" in text
    assert "| | | line | 3.00 | -1.00 (-1.50 to -0.50) | better | |" in text
    assert "worse" not in text
    assert "already" in write(reported)
    assert (reported / "README.md").read_text() == text


def test_a_readme_without_a_place_for_the_profile_is_left_alone(reported: Path) -> None:
    (reported / "params.yaml").write_text("profile: cpu\n")
    before = (reported / "README.md").read_bytes()
    with pytest.raises(StageError, match="no place for the profile cpu"):
        write(reported)
    assert (reported / "README.md").read_bytes() == before

"""Progress of a stage from its lines, and how many epochs its parameters announce."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.progress import progress, training_epochs
from stages.core.stage import Observer


def test_what_the_observer_prints_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    observe = Observer(tmp_path, "untracked", echo=True)
    observe.progress(3, 12, "films")
    observe(2, train_loss=0.25, val_error_px=4.0)
    observe._last_line = 0.0
    observe.progress(5, 10, "steps of epoch 3")
    read = [progress(line, epochs=4) for line in capsys.readouterr().out.splitlines()]
    assert [found and (found.percent, found.said) for found in read] == [
        (25.0, "3 of 12 films"),
        (50.0, "epoch 2 of 4: train_loss 0.25  val_error_px 4"),
        (62.5, "epoch 3 of 4"),
    ]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 500), st.integers(0, 300))
def test_a_percentage_is_one_whatever_the_numbers(done: int, total: int, epoch: int, epochs: int) -> None:
    lines = (f"  {done}/{total} films", f"  {done}/{total} steps of epoch {epoch}", f"  {epoch:>4}  loss 0.1")
    for line in lines:
        found = progress(line, epochs)
        assert found is not None
        assert 0.0 <= found.percent <= 100.0 or (0 < epoch <= epochs and done > total)


@pytest.mark.parametrize(
    "line", ["Running stage 'left':", "> python -m stages.spine.refiner", "ERROR: 3/4 films", "3/4 films", ""]
)
def test_other_lines_say_nothing(line: str) -> None:
    assert progress(line, epochs=3) is None


def test_an_epoch_beyond_those_announced_is_shown_by_itself() -> None:
    found = progress("  5/10 steps of epoch 7", epochs=4)
    assert found is not None
    assert (found.percent, found.said) == (50.0, "epoch 7, step 5 of 10")


def test_epochs_are_those_of_the_profile(tmp_path: Path) -> None:
    tree = {
        "a": {"train": {"fit": {"phases": [{"epochs": 3}, {"epochs": 4}]}}, "convert": {"size": 3}},
        "profiles": {"demo": {"a": {"train": {"fit": {"phases": [{"epochs": 2}]}}}}},
        "seed": 3,
    }
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    keys = {
        "a-train": ["profiles.demo.a.train", "seed", "a.train"],
        "a-other": ["a.train", "profiles.demo.a.none"],
        "a-convert": ["a.convert"],
    }
    assert training_epochs(file, keys) == {"a-train": 2, "a-other": 7}


def test_the_real_params_announce_what_the_demo_trained(root: Path) -> None:
    sections = ["spine.refiner", "profiles.demo.spine.refiner"]
    (epochs,) = training_epochs(root / "params.yaml", {"spine-refiner": sections}).values()
    history = (root / "reports/spine/history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) - 1 == epochs

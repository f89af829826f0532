"""params.yaml to typed parameters."""

from pathlib import Path
from typing import ClassVar

import pytest

from stages.core.errors import StageError
from stages.core.params import StageParams, load_params, merge, project_root

TREE = """
profile: demo
seed: 3
device: cpu
spine:
  train: {epochs: 5, optimiser: {rate: 0.1, decay: 0.0}}
profiles:
  demo: {spine: {train: {epochs: 2}}}
  full: {spine: {train: {device: cuda, optimiser: {rate: 0.2}}}}
"""


class Params(StageParams):
    section: ClassVar[str] = "spine.train"
    seed: int
    device: str
    epochs: int
    optimiser: dict[str, float]


def write(folder: Path, text: str = TREE) -> Path:
    file = folder / "params.yaml"
    file.write_text(text)
    return file


def test_profile_overlays_the_section_and_shared_keys(tmp_path: Path) -> None:
    demo, full = (load_params(Params, write(tmp_path), profile) for profile in ("demo", "full"))
    assert (demo.seed, demo.device, demo.epochs, demo.optimiser["rate"]) == (3, "cpu", 2, 0.1)
    assert (full.device, full.epochs, full.optimiser) == ("cuda", 5, {"rate": 0.2, "decay": 0.0})


def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    text = TREE.replace("epochs: 5", "epochs: many, epocs: 5, colour: red").replace("{epochs: 2}", "{}")
    with pytest.raises(StageError) as error:
        load_params(Params, write(tmp_path, text), "full")
    for word in ("epochs", "epocs", "colour", "spine.train"):
        assert word in str(error.value)


def test_a_shared_key_set_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="seed in 'spine.train' is set at the top level"):
        load_params(Params, write(tmp_path, TREE.replace("epochs: 5", "epochs: 5, seed: 9")))


def test_unknown_profile_and_missing_section(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"'night'.*demo, full"):
        load_params(Params, write(tmp_path), "night")
    with pytest.raises(StageError, match="no section 'spine.train'"):
        load_params(Params, write(tmp_path, TREE.replace("  train: {epochs: 5", "  tran: {epochs: 5")))


def test_merge_changes_neither_argument() -> None:
    base, overlay = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}
    assert merge(base, overlay) == {"a": {"b": 3, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}


def test_root_is_found_from_below_and_missed_outside(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert project_root(tmp_path / "a" / "b") == tmp_path.resolve()
    with pytest.raises(StageError, match=r"no dvc\.yaml"):
        project_root(Path("/"))


REPEATED = """
profile: demo
seed: 3
device: cpu
spine:
  train: {epochs: 5, optimiser: {rate: 0.1, decay: 0.0}}
  rounds:
    first: {optimiser: {rate: 0.2}}
    second: {epochs: 7, optimiser: {momentum: 0.9}}
profiles:
  demo: {spine: {train: {epochs: 2, optimiser: {decay: 0.5}}, rounds: {second: {epochs: 3}}}}
"""


class Round(Params):
    each: ClassVar[str | None] = "spine.rounds"


def test_an_entry_is_laid_over_the_section_and_the_profile_over_both(tmp_path: Path) -> None:
    first, second = (load_params(Round, write(tmp_path, REPEATED), item=item) for item in ("first", "second"))
    assert (first.epochs, first.optimiser) == (2, {"rate": 0.2, "decay": 0.5})
    assert (second.epochs, second.optimiser) == (3, {"rate": 0.1, "decay": 0.5, "momentum": 0.9})


@pytest.mark.parametrize("item", ["third", None])
def test_an_entry_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path, item: str | None) -> None:
    with pytest.raises(StageError, match=rf"'spine.rounds', has no '{item}', only first, second"):
        load_params(Round, write(tmp_path, REPEATED), item=item)


def test_wrong_keys_of_an_entry_are_named_with_both_sections(tmp_path: Path) -> None:
    text = REPEATED.replace("epochs: 7", "epocs: 7")
    with pytest.raises(StageError, match=r"'spine.train' and 'spine.rounds.second':\n  epocs"):
        load_params(Round, write(tmp_path, text), item="second")

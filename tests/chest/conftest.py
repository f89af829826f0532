"""A small phantom data set with every planted defect once, and what the lane's stages make of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.chest import convert, floors, phantom, phase, split, start
from stages.core.params import load_params
from stages.core.stage import Observer


@dataclass(frozen=True)
class Lane:
    """Folders of the stages that the others build on."""

    raw: Path
    films: Path
    split: Path
    floors: Path


def phantom_params() -> phantom.Params:
    """The demo's phantom with fewer films and one of each defect."""
    params = load_params(phantom.Params, profile="demo")
    once = phantom.Defects(**dict.fromkeys(phantom.Defects.model_fields, 1))
    films = {"COVID": 14, "Normal": 24, "Viral_Pneumonia": 12}
    return params.model_copy(update={"films": films, "unlabelled": 3, "defects": once})


def convert_params(**changes: object) -> convert.Params:
    return load_params(convert.Params, profile="demo").model_copy(update={"workers": 1, **changes})


def split_params() -> split.Params:
    shares = {"train": 0.5, "val": 0.15, "gate": 0.15, "test": 0.2}
    return load_params(split.Params, profile="demo").model_copy(update={"shares": shares})


def start_params() -> start.Params:
    """A network of a few thousand numbers."""
    params = load_params(start.Params, profile="demo")
    small = params.architecture.model_copy(update={"channels": (4, 6, 8, 10), "hidden": (12,)})
    return params.model_copy(update={"threads": 1, "architecture": small})


def phase_params(name: str) -> phase.Params:
    """Two epochs on small films."""
    params = load_params(phase.Params, profile="demo", item=name)
    stretches = tuple(stretch.model_copy(update={"epochs": 2}) for stretch in params.fit.phases)
    fit = params.fit.model_copy(update={"phases": stretches})
    return params.model_copy(update={"threads": 1, "device": "cpu", "input": 48, "fit": fit})


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chest") / "raw" / "chest-phantom"
    phantom.run(phantom_params(), folder, Observer.quiet(folder.parent / "scratch"))
    return folder


@pytest.fixture(scope="session")
def lane(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Lane:
    root = tmp_path_factory.mktemp("lane")
    observe = Observer.quiet(root / "scratch")
    made = Lane(
        raw=raw,
        films=root / "data" / "chest" / "films",
        split=root / "data" / "chest" / "split.parquet",
        floors=root / "floors",
    )
    made.films.parent.mkdir(parents=True)
    convert.run(convert_params(), raw, made.films, observe)
    split.run(split_params(), made.films, raw, made.split, observe)
    floors.run(load_params(floors.Params, profile="demo"), made.films, made.split, made.floors, observe)
    return made


@pytest.fixture(scope="session")
def phases(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the models start, head_wing and full_wing."""
    folder = tmp_path_factory.mktemp("phases")
    observe = Observer.quiet(folder / "scratch")
    start.run(start_params(), lane.films, lane.split, folder / "start", observe)
    for name in ("head_wing", "full_wing"):
        params = phase_params(name)
        phase.run(params, lane.films, lane.split, folder / params.parent, folder / name, observe)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

"""A small phantom data set with every planted defect once, and what the lane's stages make of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.chest import convert, evaluate, floors, phantom, split, train
from stages.core.params import load_params
from stages.core.stage import Observer


@dataclass(frozen=True)
class Lane:
    """Folders of the stages, and the parameters that they ran with."""

    raw: Path
    films: Path
    split: Path
    floors: Path
    model: Path
    train_params: train.Params
    evaluate_params: evaluate.Params


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


def train_params() -> train.Params:
    """Two epochs of a network of a few thousand numbers."""
    params = load_params(train.Params, profile="demo")
    phases = tuple(phase.model_copy(update={"epochs": 2}) for phase in params.fit.phases)
    architecture = params.architecture.model_copy(update={"channels": (4, 6, 8, 10), "hidden": (12,)})
    return params.model_copy(
        update={
            "threads": 1,
            "device": "cpu",
            "input": 48,
            "architecture": architecture,
            "fit": params.fit.model_copy(update={"phases": phases}),
        }
    )


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
        model=root / "model",
        train_params=train_params(),
        evaluate_params=load_params(evaluate.Params, profile="demo").model_copy(update={"threads": 1}),
    )
    made.films.parent.mkdir(parents=True)
    convert.run(convert_params(), raw, made.films, observe)
    split.run(split_params(), made.films, raw, made.split, observe)
    floors.run(load_params(floors.Params, profile="demo"), made.films, made.split, made.floors, observe)
    train.run(made.train_params, made.films, made.split, made.model, observe)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

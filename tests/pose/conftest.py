"""Twelve made-up dancers for a second each, taken through every stage of the lane once for all tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.core.params import StageParams, load_params
from stages.core.stage import Observer
from stages.pose import convert, floors, pack, phantom, train


def small_params(model: type[StageParams], **changes: Any) -> Any:
    """The demo's parameters of a stage, with changes."""
    demo = load_params(model, profile="demo").model_dump()
    return model.model_validate(demo | changes)


def phantom_params(**changes: Any) -> phantom.Params:
    """Dancers alone: other motion capture beside them is test_sources.py's."""
    defects = load_params(phantom.Params, profile="demo").defects.model_dump() | {"broken_motion": 0}
    few = {"dancers": 12, "sequences": 14, "frames": 60, "mocap": {"trials": 0, "frames": 0}}
    return small_params(phantom.Params, **(few | {"defects": defects} | changes))


def pack_params() -> pack.Params:
    """Training views twice as filmed and once from elsewhere."""
    virtual = load_params(pack.Params, profile="demo").virtual.model_dump() | {"draws": 1}
    return small_params(pack.Params, train_draws=2, virtual=virtual)


def train_params(**changes: Any) -> train.Params:
    """A refiner that learns in two seconds."""
    demo = load_params(train.Params, profile="demo").model_dump()
    phase = demo["fit"]["phases"][0] | {"epochs": 2}
    small = {
        "threads": 1,
        "architecture": {"width": 16, "layers": 1, "heads": 2, "dropout": 0.05},
        "fit": demo["fit"] | {"phases": [phase], "batch_size": 64, "checkpoint_every": 1},
        "linear": {"penalty": 0.01, "rows": 2000},
        "samples_per_epoch": 2000,
    }
    return train.Params.model_validate(demo | small | changes)


@dataclass(frozen=True)
class Lane:
    """Outputs of the stages, and the metrics that they returned."""

    raw: Path
    sequences: Path
    packed: Path
    floors: Path
    model: Path
    metrics: dict[str, dict[str, float]]


def run_lane(folder: Path) -> Lane:
    """Run the stages from phantom to training into `folder`."""
    observe = Observer.quiet(folder / "scratch")
    lane = Lane(*(folder / name for name in ("raw", "sequences", "packed", "floors", "model")), metrics={})
    lane.metrics["phantom"] = phantom.run(phantom_params(), lane.raw, observe)
    lane.metrics["convert"] = convert.run(small_params(convert.Params), lane.raw, lane.sequences, observe)
    lane.metrics["pack"] = pack.run(pack_params(), lane.sequences, lane.packed, observe)
    lane.metrics["floors"] = floors.run(
        small_params(floors.Params, max_rows=2000), lane.packed, lane.floors, observe
    )
    lane.metrics["train"] = train.run(train_params(), lane.packed, lane.model, observe)
    return lane


@pytest.fixture(scope="session")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Lane:
    return run_lane(tmp_path_factory.mktemp("pose"))


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

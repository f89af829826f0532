"""A small phantom data set in the AASCE layout, made once for all tests of the lane's data side."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine import convert, phantom


def phantom_params(**changes: object) -> phantom.Params:
    """The demo's parameters of the phantom with small films and few defects."""
    small = {
        "films": 40,
        "patients": 26,
        "rows": {"least": 300, "median": 380, "greatest": 460},
        "canvas_rows": 300,
        "workers": 2,
        "defects": {"rolled": 2, "upside_down": 1, "duplicated": 1, "label_missing": 1, "film_truncated": 1},
    }
    demo = load_params(phantom.Params, profile="demo").model_dump()
    return phantom.Params.model_validate(demo | small | changes)


def convert_params(**changes: object) -> convert.Params:
    """The demo's parameters of the conversion with small pictures."""
    demo = load_params(convert.Params, profile="demo").model_dump()
    return convert.Params.model_validate(demo | {"height": 64, "width": 32, "workers": 2} | changes)


@pytest.fixture(scope="session")
def spine_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom raw folder of 40 small films, six of them with a planted defect."""
    folder = tmp_path_factory.mktemp("spine-raw")
    phantom.run(phantom_params(), folder / "raw", Observer.quiet(folder / "scratch"))
    return folder / "raw"


@pytest.fixture(scope="session")
def spine_films(spine_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film store of `spine_raw`."""
    folder = tmp_path_factory.mktemp("spine-films") / "data" / "spine"
    convert.run(convert_params(), spine_raw, folder / "films", Observer.quiet(folder / "scratch"))
    return folder / "films"

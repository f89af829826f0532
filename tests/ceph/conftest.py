"""A small phantom pair with every planted defect once, and what the lane's first stages make of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.ceph import clinic, convert, floors, phantom, split
from stages.core.params import load_params
from stages.core.stage import Observer


@dataclass(frozen=True)
class Lane:
    """Folders of the stages that the others build on."""

    raw: Path
    clinic_raw: Path
    films: Path
    clinic: Path
    split: Path
    clinic_split: Path


def phantom_params(films: int = 36, clinic_films: int = 16) -> phantom.Params:
    """The demo's phantom with fewer and smaller films and one of each defect."""
    params = load_params(phantom.Params, profile="demo")
    once = phantom.Defects(**dict.fromkeys(phantom.Defects.model_fields, 1))
    look = params.look.model_copy(update={"width": 387, "height": 480, "spacing_mm": 0.5})
    theirs = params.clinic.look.model_copy(update={"width": 335, "height": 418, "spacing_mm": 0.6})
    defects = params.clinic.defects.model_copy(
        update=dict.fromkeys(type(params.clinic.defects).model_fields, 1)
    )
    of_clinic = params.clinic.model_copy(update={"films": clinic_films, "look": theirs, "defects": defects})
    return params.model_copy(
        update={"films": films, "workers": 1, "look": look, "defects": once, "clinic": of_clinic}
    )


def sound_params(films: int = 6, clinic_films: int = 3) -> phantom.Params:
    """A phantom without defects."""
    params = phantom_params(films, clinic_films)
    none = phantom.Defects(**dict.fromkeys(phantom.Defects.model_fields, 0))
    defects = params.clinic.defects.model_copy(
        update=dict.fromkeys(type(params.clinic.defects).model_fields, 0)
    )
    of_clinic = params.clinic.model_copy(update={"defects": defects})
    return params.model_copy(update={"defects": none, "clinic": of_clinic})


def convert_params(**changes: object) -> convert.Params:
    changes = {"workers": 1, "size": (120, 96), **changes}
    return load_params(convert.Params, profile="demo").model_copy(update=changes)


def clinic_params(**changes: object) -> clinic.Params:
    changes = {"workers": 1, "size": (120, 96), **changes}
    return load_params(clinic.Params, profile="demo").model_copy(update=changes)


def split_params(**changes: object) -> split.Params:
    """Shares that leave no role of the small sets empty."""
    shares = split.BaseShares(train=0.46, val=0.18, gate=0.18, test=0.18)
    clinic_shares = split.ClinicShares(train=0.4, gate=0.3, test=0.3)
    changes = {"shares": shares, "clinic_shares": clinic_shares, **changes}
    return load_params(split.Params, profile="demo").model_copy(update=changes)


def floor_params() -> floors.Params:
    return load_params(floors.Params, profile="demo").model_copy(update={"threads": 1})


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base set; the clinic's lies beside it as ceph-clinic-phantom."""
    folder = tmp_path_factory.mktemp("ceph") / "raw"
    phantom.run(
        phantom_params(),
        folder / "ceph-phantom",
        folder / "ceph-clinic-phantom",
        Observer.quiet(folder.parent / "scratch"),
    )
    return folder / "ceph-phantom"


@pytest.fixture(scope="session")
def clinic_raw(raw: Path) -> Path:
    return raw.with_name("ceph-clinic-phantom")


@pytest.fixture(scope="session")
def lane(raw: Path, clinic_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Lane:
    root = tmp_path_factory.mktemp("lane")
    data = root / "data" / "ceph"
    data.mkdir(parents=True)
    made = Lane(
        raw=raw,
        clinic_raw=clinic_raw,
        films=data / "films",
        clinic=data / "clinic",
        split=data / "split.parquet",
        clinic_split=data / "clinic-split.parquet",
    )
    convert.run(convert_params(), raw, made.films, Observer.quiet(root / "convert"))
    clinic.run(clinic_params(), clinic_raw, made.clinic, Observer.quiet(root / "clinic"))
    run_split(made, split_params(), made.split, made.clinic_split)
    return made


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """raw and clinic, without defects."""
    folder = tmp_path_factory.mktemp("sound")
    phantom.run(sound_params(), folder / "raw", folder / "clinic", Observer.quiet(folder / "s"))
    return folder


@pytest.fixture
def base_copy(sound: Path, tmp_path: Path) -> Path:
    """A base set to spoil."""
    shutil.copytree(sound / "raw", tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def clinic_copy(sound: Path, tmp_path: Path) -> Path:
    """A clinic's set to spoil."""
    shutil.copytree(sound / "clinic", tmp_path / "clinic")
    return tmp_path / "clinic"


def run_split(
    lane: Lane, params: split.Params, output: Path, clinic_output: Path, **other: Path
) -> dict[str, float]:
    """Split the films of `lane`; `other` names folders that stand in for its own (raw, clinic_raw)."""
    inputs = {
        "films": lane.films,
        "raw": lane.raw,
        "clinic": lane.clinic,
        "clinic_raw": lane.clinic_raw,
        **other,
    }
    observe = Observer.quiet(output.parent / "scratch")
    return split.run(params, output=output, clinic_output=clinic_output, observe=observe, **inputs)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

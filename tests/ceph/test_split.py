"""Roles of base and clinic films: by hash, by ISBI's numbering, or as given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.ceph import split
from stages.ceph.raw.inventory import film_ids, read_raw
from stages.ceph.raw.layout import list_raw
from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.split import ROLES, read_split
from stages.core.errors import StageError

from .conftest import Lane, run_split, split_params


def names_of(raw: Path, films: Path, is_clinic: bool = False) -> list[str]:
    """File names of the stored films, in the store's order."""
    name_of = {film: name for name, film in film_ids(list_raw(raw).films, is_clinic).items()}
    return [name_of[film] for film in FilmSet.open(films).ids]


def with_split(raw: Path, folder: Path, names: list[str], roles: list[str]) -> Path:
    """A raw folder with the films of `raw` and a split.csv of these rows."""
    shutil.copytree(raw, folder)
    rows = "".join(f"{name},{role}\n" for name, role in zip(names, roles, strict=True))
    (folder / "split.csv").write_text("name,role\n" + rows)
    return folder


def test_every_film_has_one_role(lane: Lane):
    base, clinic = read_split(lane.split), tables.read_table(lane.clinic_split)
    assert base["id"].tolist() == sorted(FilmSet.open(lane.films).ids)
    assert set(base["role"]) == set(ROLES)
    assert clinic["id"].tolist() == sorted(FilmSet.open(lane.clinic).ids)
    assert set(clinic["role"]) == {"train", "gate", "test"}
    assert (base["patient"] == base["id"]).all()


def test_same_bytes_twice_and_another_seed_differs(lane: Lane, tmp_path: Path):
    run_split(lane, split_params(), tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == lane.split.read_bytes()
    assert (tmp_path / "b").read_bytes() == lane.clinic_split.read_bytes()
    seed = split_params().seed + 2
    run_split(lane, split_params(seed=seed), tmp_path / "c", tmp_path / "d")
    assert (read_split(tmp_path / "c")["role"] != read_split(lane.split)["role"]).any()


def test_a_film_keeps_its_role_when_others_come_or_go(lane: Lane):
    ids = FilmSet.open(lane.films).ids
    shares = split_params().shares.model_dump()
    roles = read_split(lane.split).set_index("id")["role"]
    given = dict.fromkeys(ids, "train")
    some = split.given_roles(ids[::2], {i: i for i in ids}, given, shares, split_params().seed)
    assert some.tolist() == roles.loc[ids[::2]].tolist()


def test_given_roles_overrule_the_shares_in_both_sets(lane: Lane, tmp_path: Path):
    names = names_of(lane.raw, lane.films)
    roles = [ROLES[i % 4] for i in range(len(names))]
    raw = with_split(lane.raw, tmp_path / "raw", names, roles)
    theirs = names_of(lane.clinic_raw, lane.clinic, is_clinic=True)
    clinic_roles = [("train", "gate", "test")[i % 3] for i in range(len(theirs))]
    clinic_raw = with_split(lane.clinic_raw, tmp_path / "clinic", theirs, clinic_roles)
    metrics = run_split(lane, split_params(), tmp_path / "a", tmp_path / "b", raw=raw, clinic_raw=clinic_raw)
    assert (
        read_split(tmp_path / "a").set_index("id").loc[FilmSet.open(lane.films).ids, "role"].tolist() == roles
    )
    assert tables.read_table(tmp_path / "b")["role"].tolist() == clinic_roles
    assert (metrics["given_split"], metrics["clinic_given_split"], metrics["isbi_numbering"]) == (1, 1, 0)


def test_roles_that_a_given_split_lacks_are_cut_out_of_train(lane: Lane, tmp_path: Path):
    names = names_of(lane.raw, lane.films)
    given = np.array(["test" if i % 4 == 0 else "train" for i in range(len(names))])
    raw = with_split(lane.raw, tmp_path / "raw", names, given.tolist())
    run_split(lane, split_params(), tmp_path / "a", tmp_path / "b", raw=raw)
    roles = read_split(tmp_path / "a")["role"].to_numpy()
    np.testing.assert_array_equal(roles == "test", given == "test")
    assert set(roles[given == "train"]) == {"train", "val", "gate"}


def test_a_given_split_must_cover_the_films(lane: Lane, tmp_path: Path):
    names = names_of(lane.raw, lane.films)
    raw = with_split(lane.raw, tmp_path / "raw", names[2:], ["train"] * (len(names) - 2))
    with pytest.raises(StageError) as error:
        run_split(lane, split_params(), tmp_path / "a", tmp_path / "b", raw=raw)
    assert all(film in str(error.value) for film in FilmSet.open(lane.films).ids[:2])


def test_a_clinic_has_no_val_films(lane: Lane, tmp_path: Path):
    names = names_of(lane.clinic_raw, lane.clinic, is_clinic=True)
    roles = [ROLES[i % 4] for i in range(len(names))]
    raw = with_split(lane.clinic_raw, tmp_path / "clinic", names, roles)
    with pytest.raises(StageError, match="val, which a clinic does not have"):
        run_split(lane, split_params(), tmp_path / "a", tmp_path / "b", clinic_raw=raw)


def test_a_clinics_role_without_films_is_an_error(lane: Lane, tmp_path: Path):
    shares = split.ClinicShares(train=0.5, gate=0.5, test=0.0)
    with pytest.raises(StageError, match="test 0"):
        run_split(lane, split_params(clinic_shares=shares), tmp_path / "a", tmp_path / "b")


def test_isbis_numbers_are_told_from_others():
    numbers = [f"{i:03d}" for i in range(1, 301)]
    roles = split.isbi_roles(numbers)
    assert roles is not None
    assert {n for n, role in roles.items() if role == "test"} == set(numbers[150:])
    assert split.isbi_roles([f"{i:03d}" for i in range(1, 401)]) is not None
    for other in (numbers[:150], numbers[150:], [*numbers, "401"], [*numbers, "film"], ["000", *numbers]):
        assert split.isbi_roles(other) is None


def test_isbi_films_above_150_are_test_and_the_others_are_divided(lane: Lane, tmp_path: Path):
    """The numbers are moved so that half of the films lie above 150."""
    raw = tmp_path / "raw"
    shutil.copytree(lane.raw, raw)
    films = tmp_path / "films"
    shutil.copytree(lane.films, films)
    names = names_of(lane.raw, lane.films)
    moved = {name: f"{int(name) + (133 if int(name) > 17 else 0):03d}" for name in list_raw(raw).films}
    for name in sorted(moved, reverse=True):
        (raw / "images" / f"{name}.jpg").rename(raw / "images" / f"{moved[name]}.jpg")
    ids = film_ids(moved.values())
    table = FilmSet.open(films).table
    table["id"] = table["patient"] = [ids[moved[name]] for name in names]
    order = np.argsort(table["id"].to_numpy())
    schema = tables.pq.read_schema(films / "films.parquet")
    tables.write_table(films / "films.parquet", table.iloc[order], schema)
    metrics = run_split(lane, split_params(), tmp_path / "a", tmp_path / "b", raw=raw, films=films)
    roles = read_split(tmp_path / "a").set_index("id")["role"]
    by_name = {name: roles[ids[moved[name]]] for name in names}
    assert {role for name, role in by_name.items() if int(name) > 17} == {"test"}
    assert {role for name, role in by_name.items() if int(name) <= 17} == {"train", "val", "gate"}
    assert metrics["isbi_numbering"] == 1
    off = run_split(
        lane, split_params(isbi_numbering=False), tmp_path / "c", tmp_path / "d", raw=raw, films=films
    )
    assert off["isbi_numbering"] == 0


def test_unknown_shares_are_an_error():
    with pytest.raises(ValueError, match="holdout"):
        split.BaseShares.model_validate({"train": 0.5, "val": 0.2, "gate": 0.2, "test": 0.1, "holdout": 0.0})


@pytest.mark.realdata
def test_the_published_test_films_are_tested_whole(realdata: Path):
    """151 to 300 are test, none of them in another role, and no film of theirs is there under another number."""
    listing = list_raw(realdata / "ceph_isbi2015")
    roles = split.isbi_roles(listing.films)
    assert roles is not None
    assert pd.Series(roles).value_counts().to_dict() == {"train": 150, "test": 150}
    left_out = {r.name for r in read_raw(listing.folder).refusals if r.action == "left out"}
    assert all(roles[Path(name).stem] == "train" for name in left_out)

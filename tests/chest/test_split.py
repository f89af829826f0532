"""Roles: by hash without a given split, kept where one is given."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.chest import split
from stages.chest.raw.layout import read_given_split, read_raw
from stages.core.data.films import FilmSet, pseudonym
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import Lane, split_params


def with_given_split(raw: Path, folder: Path, names: list[str], roles: list[str]) -> Path:
    """A raw folder whose label file is that of `raw` and whose split.csv has these rows."""
    (folder / "dataset").mkdir(parents=True)
    shutil.copytree(raw / "coordenadas", folder / "coordenadas")
    with (folder / "split.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("filename", "split"), *zip(names, roles, strict=True)])
    return folder


@pytest.fixture
def names(lane: Lane) -> list[str]:
    """File names of the stored films, in the store's order."""
    by_id = {pseudonym("chest", name): name for name in read_raw(lane.raw).films}
    return [by_id[i] for i in FilmSet.open(lane.films).ids]


def test_every_film_has_one_role(lane: Lane):
    table = read_split(lane.split)
    assert sorted(table["id"]) == sorted(FilmSet.open(lane.films).ids)
    assert set(table["role"]) == {"train", "val", "gate", "test"}
    assert (table["patient"] == table["id"]).all()


def test_given_test_films_are_test_and_the_rest_is_divided(lane: Lane, names: list[str], tmp_path: Path):
    given = ["val" if i % 4 == 0 else "test" if i % 4 == 1 else "train" for i in range(len(names))]
    raw = with_given_split(lane.raw, tmp_path / "raw", names, given)
    output = tmp_path / "split.parquet"
    metrics = split.run(split_params(), lane.films, raw, output, Observer.quiet(tmp_path / "s"))
    roles = read_split(output).set_index("id").loc[FilmSet.open(lane.films).ids, "role"].to_numpy()
    np.testing.assert_array_equal(roles == "test", np.array(given) != "train")
    assert {"train", "val", "gate"} == set(roles[np.array(given) == "train"])
    assert metrics["given_split"] == 1


def test_same_bytes_twice(lane: Lane, tmp_path: Path):
    split.run(split_params(), lane.films, lane.raw, tmp_path / "split", Observer.quiet(tmp_path / "s"))
    assert (tmp_path / "split").read_bytes() == lane.split.read_bytes()


def test_a_given_split_must_cover_the_films(lane: Lane, names: list[str], tmp_path: Path):
    raw = with_given_split(lane.raw, tmp_path / "raw", names[2:], ["train"] * (len(names) - 2))
    with pytest.raises(StageError) as error:
        split.run(split_params(), lane.films, raw, tmp_path / "split", Observer.quiet(tmp_path / "s"))
    assert all(i in str(error.value) for i in FilmSet.open(lane.films).ids[:2])


def test_a_film_in_two_roles_is_an_error(lane: Lane, names: list[str], tmp_path: Path):
    rows = [*names, names[0], names[1]]
    roles = ["train"] * len(names) + ["test", "holdout"]
    with pytest.raises(StageError) as error:
        read_given_split(with_given_split(lane.raw, tmp_path / "raw", rows, roles))
    assert names[0] in str(error.value)
    assert names[1] in str(error.value)


@pytest.mark.realdata
def test_reference_train_films_are_never_tested(realdata: Path):
    """The 144 val films of the reference split are all that is tested; no other role has one of them."""
    given = read_given_split(realdata / "chest_covid15")
    assert given is not None
    ids = np.array([pseudonym("chest", name) for name in sorted(given)])
    shares = {"train": 0.64, "val": 0.1, "gate": 0.1, "test": 0.16}
    roles = split.divide_given(ids, ids, given, shares, seed=20)
    held_out = np.array([given[name] == "val" for name in sorted(given)])
    np.testing.assert_array_equal(roles == "test", held_out)
    assert (roles == "test").sum() == 144
    assert {role: int((roles == role).sum()) for role in ("train", "val", "gate")} == {
        "train": 504,
        "val": 87,
        "gate": 78,
    }

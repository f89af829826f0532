"""Roles: by hash without a given split, kept where one is given."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.chest import split
from stages.chest.raw.layout import LABEL_FILE, read_given_split, read_raw, read_rows
from stages.chest.raw.published import matches_published, names_digest, published_rows, published_split
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
    assert metrics["reference_split"] == metrics["matches_published_train"] == 0


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


def test_published_rows_are_those_of_scikit_learn():
    from sklearn.model_selection import train_test_split

    for n in (957, 100, 41):
        train, held_out = train_test_split(range(n), test_size=0.3, random_state=42)
        val, test = train_test_split(held_out, test_size=0.5, random_state=42)
        expected = {"train": train, "val": val, "test": test}
        assert {role: rows.tolist() for role, rows in published_rows(n).items()} == expected
    assert {role: len(rows) for role, rows in published_rows(957).items()} == {
        "train": 669,
        "val": 144,
        "test": 144,
    }


def test_the_published_split_needs_its_957_rows_once_each(lane: Lane, tmp_path: Path):
    names = [f"COVID-{i}" for i in range(957)]
    roles = published_split(names)
    assert roles.keys() == set(names)
    assert not any(matches_published(roles, role) for role in ("train", "val", "test"))
    with pytest.raises(StageError, match=r"repeated: COVID-3, COVID-5$"):
        published_split([*names[:-2], "COVID-5", "COVID-3"])
    params = split_params().model_copy(update={"reference": True})
    n = len(read_raw(lane.raw).rows)
    with pytest.raises(StageError, match=f"957 rows of the whole label file, this one has {n}"):
        split.run(params, lane.films, lane.raw, tmp_path / "split", Observer.quiet(tmp_path / "s"))


def test_published_val_and_test_films_are_test(lane: Lane, names: list[str], tmp_path: Path):
    """A folder of 957 rows is made of the phantom's by rows of films that are not there."""
    raw = tmp_path / "raw"
    (raw / "dataset").mkdir(parents=True)
    (raw / LABEL_FILE).parent.mkdir()
    known = [row.name for row in read_rows(lane.raw / LABEL_FILE)]
    rows = [*dict.fromkeys(known), *(f"absent-{i}" for i in range(957))][:957]
    (raw / LABEL_FILE).write_text("".join(f"{i},{name}\n" for i, name in enumerate(rows)))
    params = split_params().model_copy(update={"reference": True})
    output = tmp_path / "split.parquet"
    metrics = split.run(params, lane.films, raw, output, Observer.quiet(tmp_path / "s"))
    roles = read_split(output).set_index("id").loc[FilmSet.open(lane.films).ids, "role"].to_numpy()
    given = published_split(rows)
    np.testing.assert_array_equal(roles == "test", [given[name] != "train" for name in names])
    assert (metrics["given_split"], metrics["reference_split"]) == (0, 1)


def test_names_are_told_whatever_their_order():
    assert names_digest(["b", "a c"]) == names_digest(["a c", "b"]) != names_digest(["a", "c b"])


@pytest.mark.realdata
def test_the_given_roles_are_the_published_ones(realdata: Path):
    """By the hashes of their names, and row by row: without the absent test rows, the order says which is which."""
    raw = realdata / "chest_covid15"
    given = read_given_split(raw)
    assert given is not None
    assert [matches_published(given, role) for role in ("train", "val", "test")] == [True, True, False]
    rows = published_rows(957)
    present = np.sort(np.concatenate([rows["train"], rows["val"]]))
    names = [row.name for row in read_rows(raw / LABEL_FILE)]
    assert len(present) == len(names) == 813
    in_train = np.isin(present, rows["train"])
    np.testing.assert_array_equal(in_train, [given[name] == "train" for name in names])


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

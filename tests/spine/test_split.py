"""Roles of the spine films: by patient, with every film, dropped labels included."""

from pathlib import Path

import pytest

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine import audit, split

SHARES = {"train": 0.4, "val": 0.2, "gate": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def spine_audit(spine_films: Path, spine_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spine-audit")
    params = load_params(audit.Params, profile="demo")
    audit.run(params, spine_films, spine_raw, folder / "audit", Observer.quiet(folder / "s"))
    return folder / "audit"


def run(films: Path, labels: Path, output: Path, seed: int = 1) -> dict[str, float]:
    params = split.Params(seed=seed, shares=SHARES)
    return split.run(params, films, labels, output, Observer.quiet(output.parent / "s"))


def test_all_films_have_a_role_and_no_patient_two(
    spine_films: Path, spine_audit: Path, tmp_path: Path
) -> None:
    metrics = run(spine_films, spine_audit, tmp_path / "split.parquet")
    table = read_split(tmp_path / "split.parquet")
    store = FilmSet.open(spine_films)
    assert set(table["id"]) == set(store.ids)
    assert table.groupby("patient")["role"].nunique().max() == 1
    assert dict(zip(table["id"], table["patient"], strict=True)) == dict(
        zip(store.ids, store.table["patient"], strict=True)
    )
    assert sum(v for k, v in metrics.items() if k.startswith("n_films_")) == len(store)
    run(spine_films, spine_audit, tmp_path / "again.parquet")
    assert (tmp_path / "split.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_dropped_labels_keep_a_role(spine_films: Path, spine_audit: Path, tmp_path: Path) -> None:
    metrics = run(spine_films, spine_audit, tmp_path / "split.parquet")
    assert sum(v for k, v in metrics.items() if k.startswith("n_not_trained_on_")) == 1
    joined = LabelledFilms.open(spine_films, tmp_path / "split.parquet", spine_audit)
    assert (~joined.use).sum() == 1
    assert set(joined.roles[~joined.use]) <= set(SHARES)
    assert not set(joined.trainable()) & set((~joined.use).nonzero()[0])


def test_an_audit_of_other_films_is_an_error(spine_films: Path, spine_audit: Path, tmp_path: Path) -> None:
    labels = tables.read_table(spine_audit / "labels.parquet")
    (tmp_path / "audit").mkdir()
    tables.write_table(tmp_path / "audit" / "labels.parquet", labels.iloc[1:], audit.LABEL_SCHEMA)
    with pytest.raises(StageError, match="hold different films"):
        run(spine_films, tmp_path / "audit", tmp_path / "split.parquet")

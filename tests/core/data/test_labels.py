"""A store, its audit and its split are joined by id, and only if they hold the same films."""

import numpy as np
import pandas as pd
import pytest

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, write_split
from stages.core.errors import StageError


def test_roles_and_verdicts_follow_the_film_whatever_the_order_of_the_tables(blob_store, tmp_path) -> None:
    labelled = blob_store.open()
    assert labelled.roles.tolist() == read_split(blob_store.split)["role"].tolist()
    assert labelled.films.ids[labelled.suspect].tolist() == ["blobs-005", "blobs-090"]
    assert 5 not in labelled.trainable()
    assert 5 in labelled.rows("train")
    assert 90 in labelled.rows("test")
    assert len(labelled.rows("gate", "test")) == 32

    labels = tables.read_table(blob_store.audit / "labels.parquet")
    shuffled = labels.sample(frac=1, random_state=0)
    schema = tables.pq.read_schema(blob_store.audit / "labels.parquet")
    tables.write_table(tmp_path / "labels.parquet", shuffled, schema)
    again = LabelledFilms.open(blob_store.films, blob_store.split, tmp_path)
    np.testing.assert_array_equal(again.landmarks_raw, labelled.landmarks_raw)
    np.testing.assert_array_equal(again.suspect, labelled.suspect)


def test_without_an_audit_every_label_counts(blob_store) -> None:
    labelled = LabelledFilms.open(blob_store.films, blob_store.split)
    assert labelled.use.all()
    assert not labelled.suspect.any()
    np.testing.assert_allclose(
        labelled.films.to_raw(labelled.landmarks_model, np.arange(96)), labelled.landmarks_raw, atol=1e-4
    )


def test_a_film_in_only_one_of_the_tables_is_named(blob_store, tmp_path) -> None:
    split = read_split(blob_store.split)
    split.loc[0, "id"] = "blobs-unknown"
    write_split(tmp_path / "split.parquet", split)
    with pytest.raises(StageError, match=r"blobs-000.*blobs-unknown"):
        LabelledFilms.open(blob_store.films, tmp_path / "split.parquet")


def test_a_film_with_a_missing_point_is_judged_but_not_trained_on(blob_store, tmp_path) -> None:
    labels = tables.read_table(blob_store.audit / "labels.parquet")
    holed = labels["landmarks"][2].copy()
    holed[4:6] = np.nan
    labels["landmarks"] = pd.Series([holed if i == 2 else p for i, p in enumerate(labels["landmarks"])])
    schema = tables.pq.read_schema(blob_store.audit / "labels.parquet")
    tables.write_table(tmp_path / "labels.parquet", labels, schema)
    labelled = LabelledFilms.open(blob_store.films, blob_store.split, tmp_path)
    assert 2 in labelled.rows("train")
    assert 2 not in labelled.trainable()


def test_unknown_roles_are_refused(blob_store) -> None:
    with pytest.raises(ValueError, match="unknown roles"):
        blob_store.open().rows("validation")

"""From the raw layout to the film store: every planted defect is named, everything else comes through."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.chest import convert
from stages.chest.raw.layout import find_problems, parse_points, read_raw
from stages.core.data.films import FilmSet, pseudonym
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import Lane, contents, convert_params

REASON = {"broken_film": "film_truncated"}
"""Reason codes of planted defects where the engine has another word for them."""
KEPT = ("off_grid", "off_axis")


@pytest.fixture
def planted(raw: Path) -> pd.DataFrame:
    return pd.read_csv(raw / "planted.csv")


def quarantine(films: Path) -> pd.DataFrame:
    return pd.read_csv(films / "quarantine.csv")


def test_every_planted_defect_is_named_and_nothing_else(lane: Lane, planted: pd.DataFrame):
    found = {(row.file, row.reason) for row in quarantine(lane.films).itertuples()}
    expected = {
        (pseudonym("chest", row.file), REASON.get(row.defect, row.defect)) for row in planted.itertuples()
    }
    unlabelled = {(pseudonym("chest", name), "no_label") for name in read_raw(lane.raw).unlabelled}
    assert len(unlabelled) == 3
    assert found == expected | unlabelled


def test_only_departures_from_the_structure_are_kept(lane: Lane, planted: pd.DataFrame):
    store = FilmSet.open(lane.films)
    stored = set(store.ids)
    for row in planted.itertuples():
        assert (pseudonym("chest", row.file) in stored) == (row.defect in KEPT)
    assert len(store) == 50 + 1 - len(planted) + len(KEPT)  # the copied film is one more


def test_round_trip_of_labels_and_pictures(lane: Lane):
    raw = read_raw(lane.raw)
    good, _ = find_problems(raw)
    store = FilmSet.open(lane.films)
    names = {pseudonym("chest", name): name for name in good}
    for row, film in enumerate(store.ids):
        np.testing.assert_array_equal(store.landmarks_raw[row], good[names[film]])
        assert store.table["group"][row] == raw.films[names[film]][0].parent.name
    assert store.table["phantom"].all()
    assert store.model_size == (224, 224)
    rows = np.arange(len(store))
    back = store.to_raw(store.to_model(store.landmarks_raw, rows), rows)
    np.testing.assert_allclose(back, store.landmarks_raw, atol=1e-4)
    with Image.open(raw.films[names[store.ids[0]]][0]) as image:
        small = np.asarray(image.convert("L").resize((224, 224), Image.Resampling.BOX), float)
    assert np.abs(small - store.images[0]).mean() < 3


def test_same_bytes_twice_whatever_the_workers(lane: Lane, tmp_path: Path):
    convert.run(convert_params(workers=2), lane.raw, tmp_path / "films", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "films") == contents(lane.films)


def test_no_file_name_in_the_store(lane: Lane):
    names = [name.encode() for name in read_raw(lane.raw).films]
    for file, content in contents(lane.films).items():
        if file.endswith((".csv", ".json", ".parquet")):
            assert not [name for name in names if name in content], file


def test_private_names_cover_refused_films(lane: Lane):
    table = pd.read_csv(lane.films.parents[1] / "raw" / "names" / "chest-phantom.csv")
    assert set(quarantine(lane.films)["file"]) | set(FilmSet.open(lane.films).ids) == set(table["id"])


def test_stop_names_every_offender_at_once(lane: Lane, planted: pd.DataFrame, tmp_path: Path):
    with pytest.raises(StageError) as error:
        convert.run(
            convert_params(on_error="stop"), lane.raw, tmp_path / "films", Observer.quiet(tmp_path / "s")
        )
    lacking = [
        row.file
        for row in planted.itertuples()
        if row.defect not in KEPT and row.file not in str(error.value)
    ]
    assert not lacking


def test_folder_without_the_layout_is_an_error(tmp_path: Path):
    with pytest.raises(StageError, match=r"no coordenadas/coordenadas_maestro.csv and no dataset"):
        read_raw(tmp_path)


def test_equal_rows_count_once(raw: Path, tmp_path: Path):
    shutil.copytree(raw / "dataset", tmp_path / "dataset")
    label = tmp_path / "coordenadas" / "coordenadas_maestro.csv"
    label.parent.mkdir()
    text = (raw / "coordenadas" / "coordenadas_maestro.csv").read_text()
    label.write_text(text + text)
    assert find_problems(read_raw(tmp_path))[0].keys() == find_problems(read_raw(raw))[0].keys()


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("1",) * 29, "column_count"),
        (("1",) * 29 + ("x",), "not_a_number"),
        (("1",) * 29 + ("inf",), "not_a_number"),
    ],
)
def test_cells_that_are_no_coordinates(cells, reason):
    assert parse_points(cells).reason == reason


@pytest.mark.realdata
def test_real_films_come_through_whole(realdata: Path, tmp_path: Path):
    """All 813 labels lie on the grid and within rounding of the fourteen degrees of freedom."""
    metrics = convert.run(
        convert_params(workers=2),
        realdata / "chest_covid15",
        tmp_path / "data" / "chest" / "films",
        Observer.quiet(tmp_path / "s"),
    )
    assert metrics["n_films"] == metrics["n_labelled"] == 813
    assert metrics["n_left_out"] == metrics["n_noted"] == 0
    groups = FilmSet.open(tmp_path / "data" / "chest" / "films").table["group"].value_counts().to_dict()
    assert groups == {"COVID": 268, "Normal": 385, "Viral_Pneumonia": 160}


@pytest.mark.realdata
def test_published_split(realdata: Path):
    """SHA-256 of the sorted names of the reference's seed-42 split."""
    import hashlib

    with (realdata / "chest_covid15" / "split.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for role, prefix, n in (("train", "8546b3ca72f608f6", 669), ("val", "3f85a177858571d4", 144)):
        names = sorted(row["filename"] for row in rows if row["split"] == role)
        assert len(names) == n
        assert hashlib.sha256("\n".join(names).encode()).hexdigest().startswith(prefix)

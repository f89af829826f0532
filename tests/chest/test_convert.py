"""From the raw layout to the film store: what is sound comes through whole, and always in the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.chest import convert
from stages.chest.raw.layout import REASONS, find_problems, read_raw
from stages.core.data.films import FilmSet, pseudonym
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import Lane, contents, convert_params


def quarantine(films: Path) -> pd.DataFrame:
    return pd.read_csv(films / "quarantine.csv")


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


@pytest.mark.realdata
def test_real_films_come_through_whole(realdata: Path, tmp_path: Path):
    """All 813 labels lie on the grid and within rounding of the fourteen degrees of freedom; 59 touch the
    border, and two films are grey ones stored as RGB."""
    metrics = convert.run(
        convert_params(workers=2),
        realdata / "chest_covid15",
        tmp_path / "data" / "chest" / "films",
        Observer.quiet(tmp_path / "s"),
    )
    assert metrics["n_films"] == metrics["n_labelled"] == 813
    found = {reason: metrics[f"n_{reason}"] for reason in REASONS if metrics[f"n_{reason}"]}
    assert found == {"on_border": 59, "stored_as_colour": 2}
    assert metrics["n_left_out"] == 0
    groups = FilmSet.open(tmp_path / "data" / "chest" / "films").table["group"].value_counts().to_dict()
    assert groups == {"COVID": 268, "Normal": 385, "Viral_Pneumonia": 160}

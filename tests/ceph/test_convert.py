"""From the raw folders to the film stores: what is sound comes through whole, always in the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.ceph import clinic, convert, phantom
from stages.ceph.raw import read_raw
from stages.ceph.raw.inventory import film_ids
from stages.ceph.raw.layout import REASONS
from stages.ceph.readers import read_readers, reader_points
from stages.ceph.schema import CEPH
from stages.ceph.spacing import read_spacing
from stages.core.data.films import FilmSet
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import Lane, clinic_params, contents, convert_params, sound_params

REASON = {"broken_film": "film_truncated"}
"""reasons that the engine has other words for than the truth table"""


def quarantine(films: Path) -> pd.DataFrame:
    return pd.read_csv(films / "quarantine.csv")


def planted(raw: Path, is_clinic: bool) -> set[tuple[str, str]]:
    """(id, reason) of the truth table."""
    table = pd.read_csv(raw / "planted.csv", dtype=str)
    ids = film_ids(table["file"], is_clinic)
    return {(ids[row.file], REASON.get(row.defect, row.defect)) for row in table.itertuples()}


def test_every_planted_defect_is_named_and_nothing_else(lane: Lane):
    for raw, films, is_clinic in ((lane.raw, lane.films, False), (lane.clinic_raw, lane.clinic, True)):
        found = {(row.file, row.reason) for row in quarantine(films).itertuples()}
        assert found == planted(raw, is_clinic)


def test_base_films_with_defects_are_left_out_and_the_clinics_are_kept(lane: Lane):
    left_out = {film for film, _ in planted(lane.raw, is_clinic=False)}
    assert len(left_out) == len(phantom.Defects.model_fields)
    assert not left_out & set(FilmSet.open(lane.films).ids)
    # The copied film is one more, of which one is left out.
    assert len(FilmSet.open(lane.films)) == 36 + 1 - len(left_out)
    noted = {film for film, _ in planted(lane.clinic_raw, is_clinic=True)}
    assert noted <= set(FilmSet.open(lane.clinic).ids)
    assert len(FilmSet.open(lane.clinic)) == 16
    assert set(quarantine(lane.films)["action"]) == {"left out"}
    assert set(quarantine(lane.clinic)["action"]) == {"kept"}


def test_every_fault_is_counted(lane: Lane, tmp_path: Path):
    output = tmp_path / "data" / "ceph" / "films"
    metrics = convert.run(convert_params(), lane.raw, output, Observer.quiet(tmp_path / "s"))
    counts = pd.Series([reason for _, reason in planted(lane.raw, is_clinic=False)]).value_counts()
    listed = {r: metrics[f"n_{r}"] for r in (*REASONS, "film_truncated") if metrics[f"n_{r}"]}
    assert listed == counts.to_dict()
    assert metrics["n_left_out"] == len(phantom.Defects.model_fields)
    assert metrics["n_films"] == metrics["n_labelled"] == metrics["n_with_spacing"] == 29


def test_stop_names_every_offender_at_once(lane: Lane, tmp_path: Path):
    with pytest.raises(StageError) as error:
        convert.run(
            convert_params(on_error="stop"), lane.raw, tmp_path / "films", Observer.quiet(tmp_path / "s")
        )
    table = pd.read_csv(lane.raw / "planted.csv", dtype=str)
    assert not [f"{row.file} {row.defect}" for row in table.itertuples() if row.file not in str(error.value)]


def test_stop_minds_no_fault_that_costs_no_film(lane: Lane, tmp_path: Path):
    metrics = clinic.run(
        clinic_params(on_error="stop"),
        lane.clinic_raw,
        tmp_path / "data" / "ceph" / "clinic",
        Observer.quiet(tmp_path / "s"),
    )
    assert metrics["n_noted"] == 3


def test_labels_spacing_and_frames_of_the_base_films(lane: Lane):
    store = FilmSet.open(lane.films)
    jobs = {job.id: job for job in read_raw(lane.raw).jobs}
    expected = np.stack([jobs[i].landmarks for i in store.ids])
    np.testing.assert_allclose(store.landmarks_raw, expected, atol=1e-4)
    assert store.table["phantom"].all()
    assert store.model_size == (120, 96)
    np.testing.assert_allclose(read_spacing(lane.films, store.ids), 0.5, rtol=1e-9)
    backwards = store.ids[::-1]
    assert read_spacing(lane.films, backwards).shape == (len(store), 2)
    with pytest.raises(StageError, match="ceph-nobody"):
        read_spacing(lane.films, ["ceph-nobody"])


def test_the_clinics_store_holds_readers_but_no_truth(lane: Lane):
    store = FilmSet.open(lane.clinic)
    assert np.isnan(store.landmarks_raw).all()
    assert np.isnan(read_spacing(lane.clinic, store.ids)).all()
    heard = read_raw(lane.clinic_raw, clinic=True).readers
    for reader in "ab":
        points = reader_points(lane.clinic, reader, store.ids)
        for film, own in zip(store.ids, points, strict=True):
            said = heard[(heard["id"] == film) & (heard["reader"] == reader)]["landmarks"].to_list()
            expected = said[0] if said else np.full((CEPH.n_points, 2), np.nan)
            np.testing.assert_allclose(own, expected, atol=1e-4)
    assert len(read_readers(lane.clinic)) == 2 * 16 - 1
    with pytest.raises(StageError, match=r"reader 'c'; there are those of a, b"):
        reader_points(lane.clinic, "c", store.ids)


def test_no_film_is_in_both_stores(lane: Lane):
    assert not set(FilmSet.open(lane.films).ids) & set(FilmSet.open(lane.clinic).ids)


def test_same_bytes_twice_whatever_the_workers(lane: Lane, tmp_path: Path):
    data = tmp_path / "data" / "ceph"
    convert.run(convert_params(workers=2), lane.raw, data / "films", Observer.quiet(tmp_path / "s"))
    clinic.run(clinic_params(workers=2), lane.clinic_raw, data / "clinic", Observer.quiet(tmp_path / "t"))
    assert contents(data / "films") == contents(lane.films)
    assert contents(data / "clinic") == contents(lane.clinic)


def test_films_that_cannot_be_read_have_no_readers_row(lane: Lane, tmp_path: Path):
    raw = tmp_path / "raw"
    phantom.run(sound_params(), tmp_path / "base", raw, Observer.quiet(tmp_path / "s"))
    film = raw / "images" / "002.jpg"
    film.write_bytes(film.read_bytes()[:2000])
    output = tmp_path / "data" / "ceph" / "clinic"
    clinic.run(clinic_params(), raw, output, Observer.quiet(tmp_path / "t"))
    assert len(FilmSet.open(output)) == 2
    assert set(read_readers(output)["id"]) == set(FilmSet.open(output).ids)


def test_isbis_own_file_format_is_read(tmp_path: Path):
    raw = tmp_path / "raw"
    phantom.run(sound_params(), raw, tmp_path / "clinic", Observer.quiet(tmp_path / "s"))
    for path in sorted((raw / "images").glob("*.jpg")):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".bmp"))
        path.unlink()
    output = tmp_path / "data" / "ceph" / "films"
    assert convert.run(convert_params(), raw, output, Observer.quiet(tmp_path / "t"))["n_films"] == 6


def test_private_names_cover_refused_films_of_both_sets(lane: Lane):
    names = lane.films.parents[1] / "raw" / "names"
    for file, films in (("ceph-phantom.csv", lane.films), ("ceph-phantom-clinic.csv", lane.clinic)):
        table = pd.read_csv(names / file)
        assert set(quarantine(films)["file"]) | set(FilmSet.open(films).ids) == set(table["id"])


def test_no_file_name_in_the_stores(tmp_path: Path):
    raw = tmp_path / "raw"
    phantom.run(sound_params(), raw, tmp_path / "clinic", Observer.quiet(tmp_path / "s"))
    for folder, ending in (("images", "jpg"), ("labels", "txt")):
        shutil.move(raw / folder / f"003.{ending}", raw / folder / f"Jane Doe.{ending}")
    (raw / "labels" / "002.txt").unlink()
    shutil.move(raw / "images" / "002.jpg", raw / "images" / "John Doe.jpg")
    output = tmp_path / "data" / "ceph" / "films"
    convert.run(convert_params(), raw, output, Observer.quiet(tmp_path / "t"))
    assert len(FilmSet.open(output)) == 5
    assert not [file for file, content in contents(output).items() if b"Doe" in content]


@pytest.mark.realdata
def test_real_films_come_through(realdata: Path, tmp_path: Path):
    """All ISBI films but the two that are there twice, 0.25 mm a px; all films of the two readers."""
    data = tmp_path / "data" / "ceph"
    metrics = convert.run(
        convert_params(), realdata / "ceph_isbi2015", data / "films", Observer.quiet(tmp_path / "s")
    )
    assert metrics["n_films"] == metrics["n_labelled"] == metrics["n_with_spacing"] == 298
    assert metrics["n_copied_film"] == metrics["n_left_out"] == 2
    store = FilmSet.open(data / "films")
    np.testing.assert_allclose(read_spacing(data / "films", store.ids), 0.25)
    assert not store.table["phantom"].any()
    metrics = clinic.run(
        clinic_params(), realdata / "ceph_two_readers", data / "clinic", Observer.quiet(tmp_path / "t")
    )
    assert metrics["n_films"] == metrics["n_films_a"] == metrics["n_films_b"] == 60
    assert (metrics["n_missing_a"], metrics["n_missing_b"]) == (2, 2)
    assert metrics["n_with_spacing"] == 0

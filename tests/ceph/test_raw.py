"""Reading folders of lateral films: layout, frames and spacing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.ceph.raw import read_raw
from stages.ceph.raw.described import Described, read_described
from stages.ceph.raw.layout import list_raw, read_given_split
from stages.ceph.schema import ISBI_FRAME
from stages.core.data import geometry
from stages.core.errors import StageError

from .folders import label_points, labels_by_name, reasons, write_points

FILM = (387, 480)
"""width, height of the sound films"""


def describe(folder: Path, **content: object) -> None:
    (folder / "dataset.json").write_text(json.dumps(content))


def test_labels_come_into_the_films_frame(base_copy: Path):
    raw = read_raw(base_copy)
    assert len(raw.jobs) == 6
    assert not raw.refusals
    for job in raw.jobs:
        scale = geometry.resize_matrix(ISBI_FRAME[::-1], FILM[::-1])
        np.testing.assert_allclose(
            job.landmarks, geometry.apply(scale, label_points(base_copy, job.path.stem))
        )
        np.testing.assert_allclose(raw.spacing_mm[job.id], 0.5, rtol=1e-9)


@pytest.mark.parametrize(
    "content",
    [
        {"label_frame": {"width": 1935, "height": 2400}, "mm_per_px": 0.1},
        {"labels_frame": "1935x2400", "pixel_spacing_mm": [0.1, 0.1]},
        {"labels": {"frame": [1935, 2400], "spacing": 0.1}, "films": {"scale": 0.2}},
        {"frame": [2400, 1935], "spacing_mm": 0.1, "note": "height first"},
        {"film_scale": 0.2, "spacing_mm": 0.1},
        {"label_frame": [1935, 2400], "film_spacing_mm": 0.5},
    ],
)
def test_other_spellings_of_frame_and_spacing_say_the_same(base_copy: Path, content):
    expected = labels_by_name(base_copy)
    describe(base_copy, name="x", **content)
    raw = read_raw(base_copy)
    assert all(np.allclose(job.landmarks, expected[job.path.stem]) for job in raw.jobs)
    np.testing.assert_allclose(list(raw.spacing_mm.values()), 0.5, rtol=1e-9)
    assert not raw.refusals


def test_the_description_may_lie_among_the_films(base_copy: Path):
    (base_copy / "dataset.json").rename(base_copy / "images" / "dataset.json")
    assert not read_raw(base_copy).refusals


def test_spacing_may_differ_along_x_and_y(base_copy: Path):
    describe(base_copy, label_frame=[1935, 2400], spacing_mm=[0.1, 0.2])
    np.testing.assert_allclose(list(read_raw(base_copy).spacing_mm.values()), [[0.5, 1.0]] * 6, rtol=1e-9)


def test_without_a_frame_labels_are_in_px_of_the_film(base_copy: Path):
    for path in (base_copy / "labels").glob("*.txt"):
        write_points(base_copy, path.stem, 0.2 * label_points(base_copy, path.stem))
    describe(base_copy, name="x")
    raw = read_raw(base_copy)
    for job in raw.jobs:
        np.testing.assert_allclose(job.landmarks, label_points(base_copy, job.path.stem))
    assert np.isnan(list(raw.spacing_mm.values())).all()


def test_isbis_frame_is_assumed_where_nobody_states_one_and_said_so(base_copy: Path):
    expected = labels_by_name(base_copy)
    (base_copy / "dataset.json").unlink()
    raw = read_raw(base_copy)
    assert {(r.reason, r.action) for r in raw.refusals} == {("assumed_frame", "kept")}
    assert len(raw.refusals) == len(raw.jobs) == 6
    assert all(np.allclose(job.landmarks, expected[job.path.stem]) for job in raw.jobs)
    np.testing.assert_allclose(list(raw.spacing_mm.values()), 0.5, rtol=1e-9)


def test_films_of_isbis_own_size_have_its_spacing(base_copy: Path):
    (base_copy / "dataset.json").unlink()
    for path in (base_copy / "images").glob("*.jpg"):
        with Image.open(path) as picture:
            picture.resize(ISBI_FRAME).save(path)
    raw = read_raw(base_copy)
    np.testing.assert_allclose(list(raw.spacing_mm.values()), 0.1)
    for job in raw.jobs:
        np.testing.assert_allclose(job.landmarks, label_points(base_copy, job.path.stem))


def test_labels_beyond_films_of_another_shape_ask_for_a_frame(base_copy: Path):
    describe(base_copy, name="x", magnification=1.1)
    for path in (base_copy / "images").glob("*.jpg"):
        with Image.open(path) as picture:
            picture.resize((400, 400)).save(path)
    with pytest.raises(StageError, match=r'labels of 6 of 6 films .*"label_frame".*it has magnification'):
        read_raw(base_copy)


@pytest.mark.parametrize(
    "content", ["[1, 2]", "{", '{"label_frame": 0}', '{"spacing_mm": -0.1}', '{"spacing_mm": "thin"}']
)
def test_a_description_that_cannot_be_right_is_an_error(tmp_path: Path, content: str):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(StageError, match=r"dataset\.json"):
        read_described(tmp_path)


def test_a_null_spacing_is_unknown(tmp_path: Path):
    describe(tmp_path, name="x", label_frame=[1935, 2400], spacing_mm=None)
    assert read_described(tmp_path) == Described(frame=(1935, 2400))


def test_spacing_of_dicom_goes_before_the_descriptions(base_copy: Path):
    pydicom = pytest.importorskip("pydicom")
    name = sorted((base_copy / "images").glob("*.jpg"))[0]
    expected = labels_by_name(base_copy)[name.stem]
    with Image.open(name) as picture:
        pixels = np.asarray(picture.convert("L"))
    film = pydicom.Dataset()
    film.file_meta = pydicom.dataset.FileMetaDataset()
    film.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = (
        pydicom.uid.DigitalXRayImageStorageForPresentation
    )
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = "1.2.3"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit = 7
    film.PhotometricInterpretation = "MONOCHROME2"
    film.PixelSpacing = [0.31, 0.29]  # down a column, along a row
    film.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    film.save_as(name.with_suffix(".dcm"), enforce_file_format=True)
    name.unlink()
    raw = read_raw(base_copy)
    (job,) = (job for job in raw.jobs if job.path.suffix == ".dcm")
    assert raw.spacing_mm[job.id] == (0.29, 0.31)
    np.testing.assert_allclose(job.landmarks, expected)
    assert sum(spacing != (0.29, 0.31) for spacing in raw.spacing_mm.values()) == 5


def test_folder_without_the_layout_is_an_error(tmp_path: Path):
    with pytest.raises(StageError, match="no folder images"):
        list_raw(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(StageError, match="holds no film"):
        list_raw(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("film,part\n001,train\n", "name,role or file,role"),
        ("name,role\n001,train\n002,holdout\n", "002"),
        ("name,role\n001,train\n001,test\n", "001"),
    ],
)
def test_a_split_file_that_cannot_be_right_is_an_error(tmp_path: Path, text: str, named: str):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(StageError, match=named):
        read_given_split(tmp_path)


def test_split_files_name_films_with_or_without_ending(tmp_path: Path):
    (tmp_path / "split.csv").write_text("file,role\n001.jpg,train\nimages/002.jpg,test\n")
    assert read_given_split(tmp_path) == {"001": "train", "002": "test"}
    (tmp_path / "split.csv").write_text("name,role\n001,train\n002,test\n")
    assert read_given_split(tmp_path) == {"001": "train", "002": "test"}


@pytest.mark.realdata
def test_real_isbi_films_are_taken_as_isbis(realdata: Path):
    """Frame and spacing are assumed for all; two training films are there again among those that are tested."""
    folder = realdata / "ceph_isbi2015"
    found = reasons(folder)
    assert {name for name, why in found.items() if ("copied_film", "left out") in why} == {"038", "144"}
    raw = read_raw(folder)
    assert len(raw.jobs) == 298
    np.testing.assert_allclose(list(raw.spacing_mm.values()), 0.25)
    points = np.stack([job.landmarks for job in raw.jobs])
    assert points.min() > 0
    assert (points.max((0, 1)) < [774, 960]).all()

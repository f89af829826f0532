"""Readers of a clinic's films: a fault in their files costs a point or the reader, never the film."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.ceph.raw import read_raw
from stages.ceph.raw.inventory import film_ids
from stages.ceph.raw.points import Labelme, read_labelme
from stages.ceph.schema import NAMES
from stages.core.data import geometry

from .folders import labels_by_name, reasons, write_points


def labelme_file(folder: Path, reader: str, name: str) -> Path:
    return folder / f"reader_{reader}" / f"{name}.json"


def edit_labelme(folder: Path, change: Callable[[dict], None], name: str = "001", reader: str = "b") -> None:
    path = labelme_file(folder, reader, name)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reader_row(folder: Path, name: str = "001", reader: str = "b") -> np.ndarray:
    table = read_raw(folder, clinic=True).readers
    film = film_ids([name], clinic=True)[name]
    (row,) = table[(table["id"] == film) & (table["reader"] == reader)]["landmarks"]
    return np.asarray(row)


def test_a_clinics_films_have_readers_but_no_labels(clinic_copy: Path):
    raw = read_raw(clinic_copy, clinic=True)
    assert [job.landmarks for job in raw.jobs] == [None] * 3
    assert sorted(set(raw.readers["reader"])) == ["a", "b"]
    assert len(raw.readers) == 6
    assert not raw.refusals
    assert np.isnan(list(raw.spacing_mm.values())).all()
    assert all(job.id.startswith("ceph-clinic-") for job in raw.jobs)


def test_names_of_both_sets_have_other_pseudonyms():
    assert film_ids(["001"])["001"] != film_ids(["001"], clinic=True)["001"]


@pytest.mark.parametrize(("apart", "kept"), [(3.0, True), (60.0, False)])
def test_a_doubled_point_counts_once_if_both_lie_close(clinic_copy: Path, apart: float, kept: bool):
    before = reader_row(clinic_copy)

    def double(content: dict) -> None:
        x, y = content["shapes"][4]["points"][0]
        content["shapes"].append({"label": "l5", "points": [[x + apart, y]], "shape_type": "point"})

    edit_labelme(clinic_copy, double)
    assert reasons(clinic_copy, clinic=True) == {"001": {("doubled_point", "kept")}}
    after = reader_row(clinic_copy)
    assert np.isfinite(after[4]).all() == kept
    np.testing.assert_allclose(np.delete(after, 4, 0), np.delete(before, 4, 0))
    if kept:
        np.testing.assert_allclose(after[4], before[4])


def test_a_missing_point_is_nan_and_noted(clinic_copy: Path):
    edit_labelme(clinic_copy, lambda content: content["shapes"].pop(9))
    assert reasons(clinic_copy, clinic=True) == {"001": {("missing_point", "kept")}}
    assert np.isnan(reader_row(clinic_copy)).all(1).tolist() == [i == 9 for i in range(19)]


def test_points_may_have_the_schemas_names(clinic_copy: Path):
    before = reader_row(clinic_copy)

    def rename(content: dict) -> None:
        for shape, name in zip(content["shapes"], NAMES, strict=True):
            shape["label"] = name

    edit_labelme(clinic_copy, rename)
    np.testing.assert_allclose(reader_row(clinic_copy), before)


def test_labels_made_on_a_larger_copy_of_the_film_are_scaled(clinic_copy: Path):
    before = reader_row(clinic_copy)

    def enlarge(content: dict) -> None:
        size = content["imageHeight"], content["imageWidth"]
        content["imageHeight"], content["imageWidth"] = 2 * size[0], 2 * size[1]
        larger = geometry.resize_matrix(size, (2 * size[0], 2 * size[1]))
        for shape in content["shapes"]:
            shape["points"] = geometry.apply(larger, np.array(shape["points"])).tolist()

    edit_labelme(clinic_copy, enlarge)
    np.testing.assert_allclose(reader_row(clinic_copy), before, atol=1e-9)


def put_beyond(content: dict) -> None:
    content["shapes"][3]["points"] = [[-50, 100]]


def exchange(content: dict) -> None:
    shapes = content["shapes"]
    shapes[16]["label"], shapes[17]["label"] = shapes[17]["label"], shapes[16]["label"]


def add_stranger(content: dict) -> None:
    content["shapes"].append({"label": "Jane Doe", "points": [[5, 5]], "shape_type": "point"})


def another_shape(content: dict) -> None:
    content["imageWidth"] = 2 * content["imageWidth"]


def no_shapes(content: dict) -> None:
    del content["shapes"]


def empty(content: dict) -> None:
    content["shapes"] = []
    content["imageWidth"] = None


@pytest.mark.parametrize(
    ("change", "reason", "points"),
    [
        (put_beyond, "out_of_range", 18),
        (exchange, "out_of_order", 19),
        (add_stranger, "unknown_point", 19),
        (another_shape, "other_aspect", None),
        (no_shapes, "label_unreadable", None),
        (empty, "missing_point", 0),
    ],
)
def test_a_readers_fault_costs_a_point_or_the_reader_but_not_the_film(
    clinic_copy: Path, change, reason, points
):
    edit_labelme(clinic_copy, change)
    assert reasons(clinic_copy, clinic=True) == {"001": {(reason, "kept")}}
    raw = read_raw(clinic_copy, clinic=True)
    assert len(raw.jobs) == 3
    assert not any("Jane" in refusal.detail for refusal in raw.refusals)
    if points is None:
        assert len(raw.readers) == 5
    else:
        assert np.isfinite(reader_row(clinic_copy)).all(1).sum() == points


def test_a_film_that_nobody_labelled_stays_in_the_clinics_pool(clinic_copy: Path):
    for reader in "ab":
        labelme_file(clinic_copy, reader, "002").unlink()
    assert reasons(clinic_copy, clinic=True) == {"002": {("no_label", "kept")}}
    assert len(read_raw(clinic_copy, clinic=True).jobs) == 3


def test_readers_alone_make_a_base_label(clinic_copy: Path):
    """It is their mean where both have a point, else the one's."""
    a, b = reader_row(clinic_copy, reader="a"), reader_row(clinic_copy, reader="b")
    edit_labelme(clinic_copy, lambda content: content["shapes"].pop(9))
    label = labels_by_name(clinic_copy)["001"]
    np.testing.assert_allclose(np.delete(label, 9, 0), np.delete((a + b) / 2, 9, 0))
    np.testing.assert_allclose(label[9], a[9])


def test_label_files_of_a_clinic_are_a_readers_words(clinic_copy: Path):
    (clinic_copy / "labels").mkdir()
    write_points(clinic_copy, "001", np.round(reader_row(clinic_copy, reader="a"), 1))
    raw = read_raw(clinic_copy, clinic=True)
    assert sorted(set(raw.readers["reader"])) == ["a", "b", "labels"]
    np.testing.assert_allclose(
        reader_row(clinic_copy, reader="labels"), reader_row(clinic_copy, reader="a"), atol=0.06
    )
    assert all(job.landmarks is None for job in raw.jobs)


def test_a_labelme_file_without_a_size_is_in_the_films_frame(clinic_copy: Path):
    before = reader_row(clinic_copy)
    edit_labelme(clinic_copy, lambda content: content.update(imageWidth=None, imageHeight=None))
    read = read_labelme(labelme_file(clinic_copy, "b", "001"))
    assert isinstance(read, Labelme)
    assert read.frame is None
    np.testing.assert_allclose(reader_row(clinic_copy), before)


@pytest.mark.realdata
def test_real_two_reader_labels_keep_their_faults(realdata: Path):
    """002, 009 and 010 have doubled points, and one of them a missing one; of two clicks 18 px apart one counts."""
    folder = realdata / "ceph_two_readers"
    raw = read_raw(folder, clinic=True)
    assert len(raw.jobs) == 60
    assert len(raw.readers) == 120
    assert set(reasons(folder, clinic=True)) == {"002", "009", "010"}
    missing = {
        (name, reader): [NAMES[i] for i in np.flatnonzero(np.isnan(reader_row(folder, name, reader)).any(1))]
        for name, reader in (("002", "a"), ("002", "b"), ("009", "b"), ("010", "b"))
    }
    assert missing == {
        ("002", "a"): ["pns", "ans"],
        ("002", "b"): [],
        ("009", "b"): ["subnasale"],
        ("010", "b"): ["upper_incisor"],
    }

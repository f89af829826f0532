"""Label files of lateral films: what each fault is called, and that only its film is left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.ceph.raw import read_raw
from stages.ceph.raw.inventory import film_ids
from stages.ceph.raw.points import order_problem, read_text_label
from stages.ceph.schema import CEPH, DOWNWARD, FORWARD, INDEX

from .folders import label_points, labels_by_name, reasons, write_points


def rename_label(folder: Path, name: str) -> None:
    (folder / "labels" / f"{name}.txt").unlink()


def remove_film(folder: Path, name: str) -> None:
    (folder / "images" / f"{name}.jpg").unlink()


def second_film(folder: Path, name: str) -> None:
    with Image.open(folder / "images" / f"{name}.jpg") as picture:
        picture.save(folder / "images" / f"{name}.png")


def eighteen_points(folder: Path, name: str) -> None:
    write_points(folder, name, label_points(folder, name)[:18])


def spell_a_number_out(folder: Path, name: str) -> None:
    path = folder / "labels" / f"{name}.txt"
    lines = path.read_text().splitlines()
    lines[3] = "abc," + lines[3].split(",")[1]
    path.write_text("\n".join(lines))


def binary_label(folder: Path, name: str) -> None:
    (folder / "labels" / f"{name}.txt").write_bytes(bytes(range(128, 256)))


def crop_film(folder: Path, name: str) -> None:
    path = folder / "images" / f"{name}.jpg"
    with Image.open(path) as picture:
        picture.crop((0, 0, 300, 480)).save(path)


def point_beyond(folder: Path, name: str) -> None:
    points = label_points(folder, name)
    points[INDEX["gonion"]] = [-30, 1800]
    write_points(folder, name, points)


def exchange_points(folder: Path, name: str) -> None:
    points = label_points(folder, name)
    pair = [INDEX["pns"], INDEX["ans"]]
    points[pair] = points[pair[::-1]]
    write_points(folder, name, points)


def mirror_label(folder: Path, name: str) -> None:
    points = label_points(folder, name)
    write_points(folder, name, np.array([1934, 0]) + points * [-1, 1])


FAULTS: dict[Callable[[Path, str], None], str] = {
    rename_label: "no_label",
    remove_film: "missing_film",
    second_film: "duplicate_name",
    eighteen_points: "line_count",
    spell_a_number_out: "not_a_number",
    binary_label: "label_unreadable",
    crop_film: "other_aspect",
    point_beyond: "out_of_range",
    exchange_points: "out_of_order",
    mirror_label: "faces_left",
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_each_fault_leaves_its_film_out_by_its_name(base_copy: Path, spoil):
    spoil(base_copy, "003")
    assert reasons(base_copy) == {"003": {(FAULTS[spoil], "left out")}}
    assert "003" not in labels_by_name(base_copy)
    assert len(labels_by_name(base_copy)) == 5


def test_of_equal_films_the_last_by_name_is_kept(base_copy: Path):
    for folder, ending in (("images", "jpg"), ("labels", "txt")):
        shutil.copy(base_copy / folder / f"002.{ending}", base_copy / folder / f"151.{ending}")
    assert reasons(base_copy) == {"002": {("copied_film", "left out")}}
    assert "151" in labels_by_name(base_copy)
    (refusal,) = read_raw(base_copy).refusals
    assert film_ids(["151"])["151"] in refusal.detail


def test_lines_after_the_points_and_other_separators_are_fine(tmp_path: Path):
    points = np.arange(38.0).reshape(19, 2)
    for separator in (",", ", ", " ", ";", "\t"):
        text = "\n".join(f"{x:g}{separator}{y:g}" for x, y in points) + "\n\n1\n2\n3\n"
        (tmp_path / "x.txt").write_text(text)
        np.testing.assert_array_equal(read_text_label(tmp_path / "x.txt"), points)


def test_classes_do_not_stand_in_for_a_missing_point(base_copy: Path):
    """With 18 points, line 19 is a class: a single number."""
    path = base_copy / "labels" / "001.txt"
    path.write_text("\n".join([*path.read_text().splitlines()[:18], "1", "2", "3"]))
    assert reasons(base_copy) == {"001": {("line_count", "left out")}}


@pytest.mark.parametrize("chains", [DOWNWARD, FORWARD], ids=["down", "forward"])
def test_every_step_of_the_order_is_checked(base_copy: Path, chains):
    """Exchanging the two landmarks of any step is noticed, and the message has both names."""
    points = next(iter(labels_by_name(base_copy).values()))
    assert order_problem(points) is None
    for chain in chains:
        for first, second in pairwise(chain):
            exchanged = points.copy()
            exchanged[[INDEX[first], INDEX[second]]] = points[[INDEX[second], INDEX[first]]]
            problem = order_problem(exchanged)
            assert problem is not None
            assert first in problem.detail
            assert second in problem.detail


def test_missing_points_break_no_order(base_copy: Path):
    points = next(iter(labels_by_name(base_copy).values()))
    for i in range(CEPH.n_points):
        without = points.copy()
        without[i] = np.nan
        assert order_problem(without) is None

"""Labels of three forms and films of any name: what is read, what is put aside, and what the errors say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core.data.convert import KEPT, LEFT_OUT
from stages.core.errors import StageError
from stages.custom.description import Form, LaneDescription, read_description, write_description
from stages.custom.raw import coco, labelme, points
from stages.custom.raw.films import FilmFolder
from stages.custom.raw.forms import find_labels, form_of
from stages.custom.raw.inventory import RawFilms, read_raw
from tests.custom.drawn import NAMES, Drawn, draw


def described(form: Form, **changes: object) -> LaneDescription:
    return LaneDescription(name="thing", title="Thing", dataset="own", form=form, landmarks=NAMES).model_copy(
        update=changes
    )


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    return draw(tmp_path / "films", 4, phantom=False)


def read(drawn: Drawn, form: Form = "coco", **changes: object) -> RawFilms:
    labels = drawn.folder.parent / {"coco": "coco.json", "labelme": "labels", "points": "points.csv"}[form]
    writers = {"coco": drawn.write_coco, "labelme": drawn.write_labelme, "points": drawn.write_points}
    return read_raw(described(form, **changes), drawn.folder, writers[form](labels), 0.5)


def noted(found: RawFilms) -> list[tuple[str, str, str]]:
    return sorted((r.name, r.reason, r.action) for r in found.refusals)


def test_all_forms_say_the_same(drawn: Drawn) -> None:
    drawn.points["film001.jpg"].pop("top")
    sets = [read(drawn, form) for form in ("coco", "labelme", "points")]
    for found in sets:
        assert [job.path.name for job in found.jobs] == list(drawn.sizes)
        for job in found.jobs:
            wanted = [drawn.points[job.path.name].get(name, (np.nan, np.nan)) for name in NAMES]
            np.testing.assert_allclose(job.landmarks, wanted)
        assert noted(found) == [("film001.jpg", "missing_point", KEPT)]


def test_points_that_cannot_be_right_are_noted_and_the_film_is_kept(drawn: Drawn) -> None:
    drawn.points["film000.jpg"]["top"] = (5000.0, 3.0)
    found = read(drawn)
    assert noted(found) == [("film000.jpg", "point_outside", KEPT)]
    assert np.isnan(found.jobs[0].landmarks[NAMES.index("top")]).all()


def test_a_film_with_few_points_is_left_out(drawn: Drawn) -> None:
    for name in NAMES[:4]:
        drawn.points["film002.jpg"].pop(name)
    found = read(drawn)
    assert ("film002.jpg", "too_few_points", LEFT_OUT) in noted(found)
    assert "film002.jpg" not in [job.path.name for job in found.jobs]


@pytest.mark.parametrize(("apart", "counts"), [(0.5, True), (30.0, False)])
def test_a_doubled_point_counts_where_both_are_one_click(drawn: Drawn, apart: float, counts: bool) -> None:
    labels = drawn.write_labelme(drawn.folder.parent / "labels")
    file = labels / "film000.json"
    content = json.loads(file.read_text())
    x, y = content["shapes"][0]["points"][0]
    content["shapes"].append({**content["shapes"][0], "points": [[x + apart, y]]})
    file.write_text(json.dumps(content))
    found = read_raw(described("labelme"), drawn.folder, labels, 0.5)
    assert noted(found) == [("film000.jpg", "doubled_point", KEPT)]
    assert np.isfinite(found.jobs[0].landmarks[0]).all() == counts


def test_films_without_label_labels_without_film_and_copies_are_left_out(drawn: Drawn) -> None:
    labels = drawn.write_coco(drawn.folder.parent / "coco.json")
    shutil.copy(drawn.folder / "film003.jpg", drawn.folder / "stranger.jpg")
    (drawn.folder / "film000.jpg").unlink()
    (drawn.folder / "film002.jpg").write_bytes((drawn.folder / "film001.jpg").read_bytes())
    found = read_raw(described("coco"), drawn.folder, labels, 0.5)
    assert noted(found) == [
        ("film002.jpg", "copied_film", LEFT_OUT),
        ("some/where/film000.jpg", "missing_film", LEFT_OUT),
        ("stranger.jpg", "no_label", LEFT_OUT),
    ]


def test_two_films_of_one_name_are_not_guessed_between(drawn: Drawn) -> None:
    (drawn.folder / "deeper").mkdir()
    Image.new("L", (90, 90)).save(drawn.folder / "deeper" / "film001.jpg")
    reasons = [r.reason for r in read(drawn).refusals]
    assert reasons.count("duplicate_name") == 1
    assert reasons.count("no_label") == 2


def test_labels_drawn_on_a_smaller_copy_are_scaled_to_the_film(drawn: Drawn) -> None:
    before = read(drawn, "labelme").jobs[0].landmarks
    name, (width, height) = next(iter(drawn.sizes.items()))
    picture = Image.open(drawn.folder / name).resize((2 * width, 2 * height))
    picture.save(drawn.folder / name)
    after = read(drawn, "labelme").jobs[0].landmarks
    np.testing.assert_allclose(after, 2 * before + 0.5)


def test_labels_drawn_on_other_proportions_are_refused(drawn: Drawn) -> None:
    name, (width, height) = next(iter(drawn.sizes.items()))
    Image.open(drawn.folder / name).resize((2 * width, height)).save(drawn.folder / name)
    assert (name, "label_frame", LEFT_OUT) in noted(read(drawn))


def test_names_that_nobody_described_are_all_named(drawn: Drawn) -> None:
    with pytest.raises(StageError, match=r"(?s)left_upper \(image 0\).*top \(image 0\)"):
        read(drawn, landmarks=NAMES[1:2] + NAMES[3:])
    assert read(drawn, landmarks=NAMES[1:], ignored=NAMES[:1]).jobs


def test_patients_come_from_a_column_or_from_the_name(drawn: Drawn) -> None:
    def together(found: RawFilms) -> list[int]:
        patients = [job.patient for job in found.jobs]
        return [patients.index(p) for p in patients]

    assert together(read(drawn, "points")) == [0, 0, 2, 2]
    assert together(read(drawn, "coco", patients=r"film00([01])?")) == [0, 1, 2, 3]
    assert together(read(drawn, "coco", patients="(film)")) == [0, 0, 0, 0]
    assert not read(drawn, "coco").patients_known
    assert read(drawn, "points").patients_known


def test_a_broken_label_file_is_one_film_s_trouble(drawn: Drawn) -> None:
    labels = drawn.write_labelme(drawn.folder.parent / "labels")
    (labels / "film001.json").write_text("{")
    found = read_raw(described("labelme"), drawn.folder, labels, 0.5)
    assert noted(found) == [("film001.jpg", "label_unreadable", LEFT_OUT)]


def test_a_labelme_file_is_its_film_s_whatever_it_calls_it(tmp_path: Path) -> None:
    Image.new("L", (90, 90)).save(tmp_path / "007.png")
    found = FilmFolder(tmp_path)
    assert [p.name for p in found.find(("7.tif", "007"))] == ["007.png"]
    assert [p.name for p in found.find((r"C:\scans\007.PNG",))] == ["007.png"]
    assert found.find(("8.tif", "008")) == []


WIDE = {
    "x1,y1": "file,x1,y1,x2,y2\na,1,2,3,4\n",
    "1_x": "Image,1_x,1_y,2_x,2_y\na,1,2,3,4\n",
    "x_1 and more columns": "patient,film,x_1,y_1,x_2,y_2,remark\np,a,1,2,3,4,max\n",
    "semicolons and commas": "film;x1;y1;x2;y2\na;1,0;2,0;3,0;4,0\n",
}


@pytest.mark.parametrize("text", WIDE.values(), ids=WIDE)
def test_wide_tables_of_many_headers(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    found = points.read(tmp_path / "p.csv")
    assert found.names == ("point_1", "point_2")
    assert found.labels[0].points == (("point_1", 1.0, 2.0), ("point_2", 3.0, 4.0))
    assert found.labels[0].names == ("a",)


def test_a_long_table_may_have_gaps(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("file,landmark,x,y\na,one,1,2\na,two,,\nb,Two,5,6\n")
    found = points.read(tmp_path / "p.csv")
    assert found.names == ("one", "two")
    assert [label.points for label in found.labels] == [(("one", 1.0, 2.0),), (("Two", 5.0, 6.0),)]


def test_every_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("file,landmark,x,y\na,one,1,?\na,two,abc,2\n")
    problem = points.read(tmp_path / "p.csv").labels[0].problem
    assert problem is not None
    assert "line 2, one" in problem.detail
    assert "line 3, two" in problem.detail


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "file,x1\na,1\n", "file,landmark\na,one\n"])
def test_a_table_of_another_kind_says_what_is_expected(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(StageError, match=r"expected columns file,landmark,x,y.*found"):
        points.read(tmp_path / "p.csv")


def test_coco_annotations_that_point_nowhere_are_all_named(drawn: Drawn, tmp_path: Path) -> None:
    file = drawn.write_coco(tmp_path / "coco.json")
    content = json.loads(file.read_text())
    content["annotations"][0]["image_id"] = 99
    content["annotations"][1]["category_id"] = 7
    file.write_text(json.dumps(content))
    with pytest.raises(StageError, match=r"(?s)annotation 0: image 99.*annotation 1: .*category 7"):
        coco.read(file)


def test_forms_are_told_apart(drawn: Drawn, tmp_path: Path) -> None:
    assert form_of(drawn.write_coco(tmp_path / "c.json")) == "coco"
    assert form_of(drawn.write_labelme(tmp_path / "l")) == "labelme"
    assert form_of(drawn.write_points(tmp_path / "p.csv")) == "points"
    (tmp_path / "other.json").write_text("[]")
    for path in (tmp_path / "other.json", tmp_path / "nothing", drawn.folder):
        with pytest.raises(StageError, match="labels are expected to be"):
            form_of(path)


def test_labels_beside_films_are_found_once(drawn: Drawn) -> None:
    with pytest.raises(StageError, match="nothing of the kind"):
        find_labels(drawn.folder)
    table = drawn.write_points(drawn.folder / "points.csv")
    assert find_labels(drawn.folder) == table
    drawn.write_labelme(drawn.folder / "labels")
    with pytest.raises(StageError, match=r"there is labels, points\.csv"):
        find_labels(drawn.folder)
    table.unlink()
    assert find_labels(drawn.folder) == drawn.folder / "labels"


def test_a_folder_without_labelme_files_says_what_is_wrong_with_each(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(StageError, match="a.json: not a labelme file"):
        labelme.read(tmp_path)


def test_a_description_comes_back_as_written_and_names_every_fault(tmp_path: Path) -> None:
    whole = described(
        "coco",
        mirror=(("left_upper", "right_upper"),),
        skeleton=(("top", "bottom"),),
        groups={"axis": ("top", "bottom")},
    )
    write_description(tmp_path / "thing.json", whole)
    assert read_description(tmp_path / "thing.json") == whole
    assert whole.schema.swap.tolist() == [0, 1, 3, 2, 4, 5]
    content = json.loads((tmp_path / "thing.json").read_text())
    content |= {"spacing_mm": -1, "colour": "red"}
    (tmp_path / "thing.json").write_text(json.dumps(content))
    with pytest.raises(StageError, match=r"(?s)spacing_mm.*colour"):
        read_description(tmp_path / "thing.json")
    with pytest.raises(ValueError, match="no landmarks elbow"):
        LaneDescription(
            name="a", title="", dataset="own", form="coco", landmarks=NAMES, skeleton=(("top", "elbow"),)
        )

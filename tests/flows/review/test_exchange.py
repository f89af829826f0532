"""Points to other annotation programs and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.review.config import ReviewConfig
from flows.review.desk import Desk, Said
from flows.review.exchange import FORMATS, FilmPoints
from flows.review.exchange.record import Placed
from flows.review.exchange.transfer import export_review, import_review
from stages.core.errors import StageError
from stages.core.review.events import standing
from tests.flows.review.desks import BLINDED, FILMS, HEIGHT, SCHEMA, WIDTH, verdict_on

PATHS = {"label-studio": "tasks.json", "labelme": "labelme", "coco": "coco.json"}
NUMBERS = st.floats(0, 299, allow_nan=False).map(lambda v: round(v, 3))
POINT = st.builds(Placed, NUMBERS, NUMBERS, st.booleans())


@st.composite
def films(draw: st.DrawFn) -> list[FilmPoints]:
    """Up to three films, each with some landmarks placed and some not visible."""
    found = []
    for film in FILMS[: draw(st.integers(1, 3))]:
        points = draw(st.dictionaries(st.sampled_from(SCHEMA.names), POINT))
        hidden = draw(st.sets(st.sampled_from(SCHEMA.names))) - set(points)
        found.append(FilmPoints(film, WIDTH, HEIGHT, points, frozenset(hidden)))
    return found


def _annotate(path: Path, name: str) -> None:
    """What Label Studio does when a person submits every task as it is."""
    if name == "label-studio":
        tasks = json.loads(path.read_text())
        for task in tasks:
            task["annotations"] = task["predictions"]
        path.write_text(json.dumps(tasks))


def _without_hidden(film: FilmPoints) -> FilmPoints:
    return replace(film, hidden=frozenset())


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None)
@given(drawn=films())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, drawn: list[FilmPoints]
) -> None:
    path = tmp_path_factory.mktemp("exchange") / PATHS[name]
    FORMATS[name].write(path, drawn, SCHEMA)
    _annotate(path, name)
    back = FORMATS[name].read(path, SCHEMA)
    expected = drawn if name == "label-studio" else [_without_hidden(film) for film in drawn]
    assert len(back) == len(expected)
    for one, other in zip(back, expected, strict=True):
        assert (one.film, one.width, one.height, one.hidden) == (
            other.film, other.width, other.height, other.hidden,
        )  # fmt: skip
        assert set(one.points) == set(other.points)
        for landmark, point in other.points.items():
            found = one.points[landmark]
            assert (found.x, found.y) == pytest.approx((point.x, point.y), abs=1e-9)
            assert found.visible == point.visible


def _films() -> list[FilmPoints]:
    points = {"sella": Placed(75.0, 90.0), "gonion": Placed(150.0, 180.0, visible=False)}
    return [FilmPoints(FILMS[0], WIDTH, HEIGHT, points, frozenset({"menton"}))]


def test_label_studio_counts_in_percent_of_the_film(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    FORMATS["label-studio"].write(file, _films(), SCHEMA)
    (task,) = json.loads(file.read_text())
    first = task["predictions"][0]["result"][0]
    assert (first["value"]["x"], first["value"]["y"]) == (25.0, 25.0)
    assert (first["original_width"], first["original_height"]) == (WIDTH, HEIGHT)
    interface = file.with_suffix(".xml").read_text()
    assert all(f'<Label value="{name}"/>' in interface for name in SCHEMA.names)


def test_label_studio_gives_back_the_last_annotation_that_was_not_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    FORMATS["label-studio"].write(file, _films(), SCHEMA)
    (task,) = json.loads(file.read_text())
    moved = json.loads(json.dumps(task["predictions"][0]["result"]))
    moved[0]["value"]["x"] = 50.0
    later = json.loads(json.dumps(moved))
    later[0]["value"]["x"] = 99.0
    task["annotations"] = [{"result": moved}, {"result": later, "was_cancelled": True}]
    file.write_text(json.dumps([task]))
    (film,) = FORMATS["label-studio"].read(file, SCHEMA)
    assert film.points["sella"].x == pytest.approx(150.0)


def test_label_studio_tasks_that_nobody_annotated_do_not_come_back(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    FORMATS["label-studio"].write(file, _films(), SCHEMA)
    assert FORMATS["label-studio"].read(file, SCHEMA) == []


def test_coco_tells_visibility_and_counts_its_skeleton_from_one(tmp_path: Path) -> None:
    file = tmp_path / "coco.json"
    FORMATS["coco"].write(file, _films(), SCHEMA)
    content = json.loads(file.read_text())
    flat = content["annotations"][0]["keypoints"]
    assert dict(zip(SCHEMA.names, flat[2::3], strict=True)) == {
        "sella": 2, "nasion": 0, "gonion": 1, "menton": 0, "upper_incisor": 0,
    }  # fmt: skip
    assert content["annotations"][0]["num_keypoints"] == 2
    assert content["annotations"][0]["bbox"] == [75.0, 90.0, 75.0, 90.0]
    assert content["categories"][0]["skeleton"] == [[1, 2], [3, 4]]


def test_coco_key_points_are_known_by_name_not_by_place(tmp_path: Path) -> None:
    file = tmp_path / "coco.json"
    FORMATS["coco"].write(file, _films(), SCHEMA)
    content = json.loads(file.read_text())
    flat = content["annotations"][0]["keypoints"]
    triples = [flat[i : i + 3] for i in range(0, len(flat), 3)]
    content["categories"][0]["keypoints"].reverse()
    content["annotations"][0]["keypoints"] = [v for triple in reversed(triples) for v in triple]
    file.write_text(json.dumps(content))
    assert FORMATS["coco"].read(file, SCHEMA) == [_without_hidden(_films()[0])]


def test_files_of_the_two_reader_set_are_labelme_files(tmp_path: Path) -> None:
    file = tmp_path / f"{FILMS[0]}.json"
    shape = {"label": "sella", "points": [[7.5, 9.25]], "group_id": None, "shape_type": "point", "flags": {}}
    file.write_text(json.dumps({"shapes": [shape], "imageWidth": WIDTH, "imageHeight": HEIGHT}))
    (film,) = FORMATS["labelme"].read(file, SCHEMA)
    assert film.points == {"sella": Placed(7.5, 9.25)}


WRONG: list[tuple[str, Any, str]] = [
    ("coco", {}, "no COCO file"),
    ("coco", [], "no COCO file"),
    ("labelme", {"shapes": 5}, "not a labelme file"),
    ("label-studio", {"tasks": []}, "no list of tasks"),
    ("label-studio", [{"data": {}, "annotations": [{}]}], "task 0 is none of key points"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_other_files_are_refused_in_words(tmp_path: Path, name: str, content: Any, message: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(content))
    with pytest.raises(StageError, match=message):
        FORMATS[name].read(file, SCHEMA)
    file.write_text("{")
    with pytest.raises(StageError, match="not a JSON file"):
        FORMATS[name].read(file, SCHEMA)


@pytest.mark.parametrize("name", FORMATS)
def test_landmarks_of_another_lane_are_named(tmp_path: Path, name: str) -> None:
    other = replace(SCHEMA, names=("L1", "nasion", "gonion", "menton", "L5"))
    path = tmp_path / PATHS[name]
    film = FilmPoints(FILMS[0], WIDTH, HEIGHT, {"L1": Placed(1, 2), "L5": Placed(3, 4)})
    FORMATS[name].write(path, [film], other)
    _annotate(path, name)
    with pytest.raises(StageError, match="L1, L5"):
        FORMATS[name].read(path, SCHEMA)


@pytest.mark.parametrize("name", FORMATS)
def test_a_review_goes_out_and_what_was_changed_there_comes_back(
    tmp_path: Path, config: ReviewConfig, name: str
) -> None:
    path = tmp_path / PATHS[name]
    desk = Desk(config)
    desk.submit(2, "Ada", [Said(**verdict_on("sella", "correct", x=12.5, y=33.25))], "page")
    assert export_review(config, name, path) == len(FILMS)
    _annotate(path, name)
    out = {film.film: film for film in FORMATS[name].read(path, SCHEMA)}
    assert out[FILMS[1]].points["sella"] == Placed(12.5, 33.25), "what a reviewer said goes before the model"
    assert out[FILMS[BLINDED - 1]].points == {}, "a blinded film goes out without the model's points"
    changed = dict(out[FILMS[0]].points)
    changed["nasion"] = Placed(222.0, 99.0)
    del changed["menton"]
    path = tmp_path / "back" / PATHS[name]
    FORMATS[name].write(path, [replace(out[FILMS[0]], points=changed)], SCHEMA)
    _annotate(path, name)
    told = import_review(config, name, path, "Ben")
    assert (told.stored, told.known, told.films) == (4, 0, 1)
    again = import_review(config, name, path, "Ben")
    assert (again.stored, again.known) == (0, 4)
    ben = {e.landmark: e.verdict for e in standing(desk.events()) if e.annotator == "Ben"}
    assert ben == {"sella": "accept", "nasion": "correct", "gonion": "accept", "upper_incisor": "accept"}


def test_films_that_are_not_in_the_queue_or_of_another_size_are_named(
    tmp_path: Path, config: ReviewConfig
) -> None:
    file = tmp_path / "coco.json"
    point = {"sella": Placed(1.0, 2.0)}
    FORMATS["coco"].write(file, [FilmPoints("ceph-other", WIDTH, HEIGHT, point)], SCHEMA)
    with pytest.raises(StageError, match="not in the queue: ceph-other"):
        import_review(config, "coco", file, "Ben")
    FORMATS["coco"].write(file, [FilmPoints(FILMS[0], 10, 20, point)], SCHEMA)
    with pytest.raises(StageError, match=r"another size.*10 x 20"):
        import_review(config, "coco", file, "Ben")
    with pytest.raises(StageError, match="no format 'cvat'; there are label-studio, labelme, coco"):
        import_review(config, "cvat", file, "Ben")


def test_a_film_that_somebody_is_reviewing_is_not_written_over(tmp_path: Path, config: ReviewConfig) -> None:
    file = tmp_path / "coco.json"
    FORMATS["coco"].write(file, [FilmPoints(FILMS[0], WIDTH, HEIGHT, {"sella": Placed(1.0, 2.0)})], SCHEMA)
    desk = Desk(config)
    desk.open(1, "Ada")
    with pytest.raises(StageError, match="Ada is reviewing"):
        import_review(config, "coco", file, "Ben")
    assert desk.events() == []
    assert desk.store.aside(1) == []

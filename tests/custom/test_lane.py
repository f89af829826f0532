"""A lane by description, made from each form of labels on drawn films and built up to its report."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.lanes import known_lanes, lane
from flows.newlane.make import make
from flows.newlane.remove import remove
from stages.core.data.films import FilmSet
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.model.card import load_card
from stages.core.promotion.candidate import read_candidate
from stages.core.report.page import read_summary
from tests.custom.checkout import build, checkout, make_small, tracked
from tests.custom.drawn import NAMES, SKELETON, Drawn, draw

WRITERS = {
    "coco": lambda drawn, folder: drawn.write_coco(folder / "coco.json"),
    "labelme": lambda drawn, folder: drawn.write_labelme(folder / "labels"),
    "points": lambda drawn, folder: drawn.write_points(folder / "points.csv"),
}


@dataclass(frozen=True)
class Built:
    """A checkout with a built lane `thing`, its files before, and what its stages told."""

    root: Path
    drawn: Drawn
    before: dict[str, bytes]
    told: dict[str, dict[str, float]]
    form: str


@pytest.fixture(scope="module", params=list(WRITERS))
def built(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp(request.param)
    drawn = draw(folder / "films", 60 if request.param == "points" else 40)
    drawn.points["film003.jpg"].pop("bottom")
    labels = WRITERS[request.param](drawn, folder)
    target = checkout(root, folder / "checkout")
    before = tracked(target)
    make(target, "thing", labels, drawn.folder)
    make_small(target, "thing")
    return Built(target, drawn, before, build(target, "thing"), request.param)


def test_its_landmarks_are_those_of_the_labels(built: Built) -> None:
    described = json.loads((built.root / "data/lanes/thing.json").read_text())
    assert described["landmarks"] == list(NAMES)
    assert described["mirror"] == [["left_upper", "right_upper"], ["left_lower", "right_lower"]]
    assert described["skeleton"] == ([list(e) for e in SKELETON] if built.form == "coco" else [])
    assert described["dataset"] == "phantom"


def test_labels_of_every_form_arrive_where_they_were_drawn(built: Built) -> None:
    films = FilmSet.open(built.root / "data/thing/films")
    assert built.told["convert"]["n_missing_point"] == 1
    drawn = {built.drawn.sizes[name]: own for name, own in built.drawn.points.items()}
    sizes = [tuple(size) for size in films.sizes_raw.tolist()]
    alone = {size for size in sizes if sizes.count(size) == 1}
    assert alone
    for size, points in zip(sizes, films.landmarks_raw, strict=True):
        if size in alone:
            wanted = [drawn[size].get(name, (np.nan, np.nan)) for name in NAMES]
            np.testing.assert_allclose(points, wanted, atol=1e-3)


def test_every_role_has_enough_films_and_patients_never_part(built: Built) -> None:
    split = read_split(built.root / "data/thing/split.parquet")
    counts = split.groupby("role")["patient"].nunique()
    assert counts["gate"] >= 6
    assert counts["test"] >= 6
    assert (split.groupby("patient")["role"].nunique() == 1).all()
    by_patient = split.groupby("patient").size()
    assert (by_patient == (2 if built.form == "points" else 1)).all(), "the table's column says who is whose"


def test_its_report_and_candidate_speak_of_the_lane(built: Built) -> None:
    summary = read_summary(built.root / "reports/thing.html")
    assert (summary.lane, summary.phantom, summary.unit) == ("thing", True, "% of extent")
    assert {m.key for m in summary.methods} == {"network", "mean_shape", "pca_shape", "hog_kernel_ridge"}
    assert summary.methods[0].error.has_interval
    candidate = read_candidate(built.root / "models/thing/candidate.json")
    assert candidate.registry_name == "thing-phantom"
    assert candidate.unit == "percent_extent"
    assert len(candidate.errors) == candidate.n_gate


def test_the_commands_know_the_lane(built: Built, tmp_path: Path) -> None:
    assert "thing" in known_lanes(built.root)
    found = lane("thing", built.root)
    model = built.root / found.model
    film = built.drawn.folder / "film000.jpg"
    (answer,) = found.module("predict").predict_files(model, [film], tmp_path / "out")
    assert [point["name"] for point in answer["landmarks"]] == list(NAMES)
    assert (answer["width"], answer["height"]) == built.drawn.sizes["film000.jpg"]
    assert (tmp_path / "out" / answer["overlay"]).is_file()
    own = tmp_path / "folder"
    shutil.copytree(built.drawn.folder, own / "films")
    built.drawn.write_points(own / "points.csv", wide=True)
    judged: dict[str, Any] = found.module(found.judge).evaluate_folder(model, own, tmp_path / "scratch", 1)
    assert judged["n_films"] == len(built.drawn.sizes)
    assert set(judged["by_landmark"]) == set(NAMES)
    assert judged["trained_on"] == "phantom"


def test_a_phantom_s_model_reads_no_person_s_film(built: Built, tmp_path: Path) -> None:
    person = draw(tmp_path / "person", 1, seed=9, phantom=False)
    model = built.root / "models/thing/network"
    with pytest.raises(StageError, match="must not read a person's film"):
        lane("thing", built.root).module("predict").predict_files(
            model, [person.folder / "film000.jpg"], tmp_path / "out"
        )


def test_the_same_films_give_the_same_bytes(built: Built) -> None:
    if built.form != "points":
        pytest.skip("one form is enough: labels of all forms are the same from the store on")
    model, card = (
        built.root / "models/thing/network/weights.pt",
        load_card(built.root / "models/thing/network"),
    )
    before = model.read_bytes(), (built.root / "reports/thing.html").read_bytes()
    build(built.root, "thing")
    assert (model.read_bytes(), (built.root / "reports/thing.html").read_bytes()) == before
    assert card.landmarks == NAMES


def test_removing_restores_every_file_byte_for_byte(built: Built, tmp_path: Path) -> None:
    target = shutil.copytree(built.root, tmp_path / "copy", symlinks=True)
    remove(target, "thing")
    assert tracked(target) == built.before
    assert "thing" not in known_lanes(target)
    assert not list(target.rglob("thing*"))
    with pytest.raises(StageError, match="no described lane 'thing'"):
        remove(target, "thing")

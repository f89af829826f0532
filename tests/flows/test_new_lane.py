"""`plumbline new-lane`: what it guesses, what it refuses, and that a lane comes and goes without a trace."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from flows.newlane import text
from flows.newlane.guess import landmarks_of, mirror_partners
from flows.newlane.make import make, refused_name
from flows.review.launch import prepare
from flows.serving.source import reads_films
from stages.core.errors import StageError
from stages.core.promotion.candidate import read_candidate
from stages.custom.raw.record import FilmLabel, LabelSet
from tests.custom.checkout import checkout, make_small, tracked
from tests.custom.drawn import NAMES, draw


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("left_eye", "nose", "right_eye"), [("left_eye", "right_eye")]),
        (("EyeRight", "EyeLeft"), [("EyeRight", "EyeLeft")]),
        (("hip_L", "hip_R", "C7"), [("hip_L", "hip_R")]),
        (("l hip", "r hip"), [("l hip", "r hip")]),
        (("kneeL", "kneeR"), [("kneeL", "kneeR")]),
        (("l1", "r1", "left", "upper_r"), []),
        (("bright", "upright", "leftover"), []),
        (("sella", "nasion", "lower_lip", "upper_lip"), []),
    ],
)
def test_mirror_partners_are_names_that_differ_in_the_side_alone(
    names: tuple[str, ...], pairs: list[tuple[str, str]]
) -> None:
    assert list(mirror_partners(names)) == pairs


def test_a_name_that_few_films_have_is_no_landmark() -> None:
    both = FilmLabel("", ("a",), (("one", 0.0, 0.0), ("Two", 1.0, 1.0)))
    slip = FilmLabel("", ("b",), (("one", 0.0, 0.0), ("two", 1.0, 1.0), ("tow", 1.0, 1.0)))
    assert landmarks_of(LabelSet((*[both] * 9, slip), ("one", "Two", "tow"))) == (("one", "Two"), ("tow",))


LOCK = "schema: '2.0'\nstages:\n  a-x:\n    cmd: one\n    deps:\n    - path: b\n  b-x:\n    cmd: two\n"


def test_what_is_put_into_a_text_comes_out_again() -> None:
    params = "seed: 1\n\nraw:   # folders\n  a: data/raw/a\n\na:\n  raw: 1\n\nindex: {}\n"
    stages = "stages:\n\n  # ------------ a: one\n\n  a-x:\n    cmd: one\n\n  index:\n    cmd: two\n"
    with_key = text.append_to_section(params, "raw", "  raw: x\n  raw_labels: y\n", Path("params.yaml"))
    whole = text.insert_before(with_key, "index:", "raw_too:\n  a: 1\n\n", Path("params.yaml"))
    assert yaml.safe_load(whole)["raw"] == {"a": "data/raw/a", "raw": "x", "raw_labels": "y"}
    back = text.without_section(text.without_keys(whole, "raw", ("raw", "raw_labels")), "raw_too")
    assert back == params, "and a key of the same name in another section is left alone"
    block = "  # ------------ b: two\n\n  b-x:\n    cmd: three\n\n"
    both = text.insert_before(stages, "  index:", block, Path("dvc.yaml"))
    assert text.without_block(both, "  # ------------ b: ", ("  # ------------ ", "  index:")) == stages
    assert text.without_entries(LOCK + "  c-x:\n    cmd: three\n", "c-") == LOCK
    assert text.without_entries(LOCK, "a-") == LOCK.replace(
        "  a-x:\n    cmd: one\n    deps:\n    - path: b\n", ""
    )
    with pytest.raises(StageError, match="has no line 'end:'"):
        text.insert_before(params, "end:", "", Path("params.yaml"))


@pytest.mark.parametrize(
    "name", ["spine", "core", "index", "registry", "seed", "My_lane", "a-b", "ceph_clinic"]
)
def test_names_that_are_taken_or_unfit_are_refused(root: Path, name: str) -> None:
    assert refused_name(root, name)
    assert refused_name(root, "hands") is None


@pytest.fixture
def target(root: Path, tmp_path: Path) -> Path:
    return checkout(root, tmp_path / "checkout")


def test_where_it_fails_nothing_is_written(target: Path, tmp_path: Path) -> None:
    before = tracked(target)
    few = draw(tmp_path / "few", 12)
    with pytest.raises(StageError, match="12 patients .* too few"):
        make(target, "thing", few.write_coco(tmp_path / "few.json"), few.folder)
    with pytest.raises(StageError, match="is not a folder"):
        make(target, "thing", tmp_path / "few.json", tmp_path / "nowhere")
    with pytest.raises(StageError, match=r"nothing\.json does not exist"):
        make(target, "thing", tmp_path / "nothing.json", few.folder)
    with pytest.raises(StageError, match="labels are expected to be"):
        make(target, "thing", few.folder, few.folder)
    with pytest.raises(StageError, match="no regular expression"):
        make(target, "thing", tmp_path / "few.json", few.folder, patients="(")
    assert tracked(target) == before


def test_labels_beside_the_films_are_one_dependency(target: Path, tmp_path: Path) -> None:
    drawn = draw(tmp_path / "films", 32)
    drawn.write_labelme(drawn.folder)
    made = make(target, "thing", drawn.folder, drawn.folder)
    stage = yaml.safe_load((target / "dvc.yaml").read_text())["stages"]["thing-convert"]
    assert [d for d in stage["deps"] if d.startswith("${raw")] == ["${raw.thing}"]
    assert made.described.landmarks == NAMES
    raw = yaml.safe_load((target / "params.yaml").read_text())["raw"]
    assert raw["thing"] == drawn.folder.as_posix()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_command_goes_from_films_to_a_champion_and_another_back(target: Path, tmp_path: Path) -> None:
    drawn = draw(tmp_path / "films", 40)
    labels = drawn.write_coco(tmp_path / "coco.json")
    before = tracked(target)
    environment = os.environ | {
        "PYTHONPATH": str(target),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=target,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def plumbline(*arguments: str) -> str:
        return python("-c", "from flows.cli import app; app()", *arguments)

    said = plumbline(
        "new-lane", "thing", "--from", str(labels), "--films", str(drawn.folder), "--title", "Things"
    )
    assert "left_upper / right_upper" in said
    make_small(target, "thing")
    python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_dvc_yaml.py",
        "-k",
        "thing or cover or every_parameter or dvc_finds",
    )
    python("-m", "flows.quick_dvc", "repro", "thing-report", "thing-candidate")
    assert (target / "reports/thing.html").is_file()
    candidate = read_candidate(target / "models/thing/candidate.json")
    assert candidate.registry_name == "thing-phantom"
    assert "thing-phantom: version 1 is champion" in plumbline(
        "promote", "thing", "--force", "--reason", "a test"
    )
    assert reads_films("thing", target)
    items = prepare("thing", target, say=lambda line: None).items
    assert len(items[0].points) == len(NAMES)
    assert all(item.score >= other.score for item, other in pairwise(items))
    plumbline("new-lane", "thing", "--remove")
    assert tracked(target) == before

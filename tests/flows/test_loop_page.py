"""The command's page adds what the registry and the journal of a checkout say, and writes into no output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from flows import loop_page
from flows.registry.log import LOG, Event, event
from stages.core.errors import StageError
from tests.ceph.judged import Judged, evaluated, write_lane
from tests.ceph.test_dashboard import params
from tests.report_pages import read_page


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    lane = write_lane(tmp_path_factory.mktemp("lane") / "ceph")
    evaluated(lane)
    return lane


@pytest.fixture
def root(built: Judged, tmp_path: Path) -> Path:
    """A checkout as a build leaves it."""
    places = {
        "reports/ceph/evaluation": built.evaluation,
        "reports/ceph/verdict.json": built.verdict,
        "data/ceph/labels.parquet": built.labels,
        "data/ceph/queue.parquet": built.queue,
        "data/ceph/simulated": built.events,
        "models/ceph/base": built.base,
        "models/ceph/tuned": built.tuned,
    }
    for place, made in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if made.is_dir() else shutil.copyfile)(made, tmp_path / place)
    settings = params().model_dump(mode="json", exclude={"seed"})
    tree = {
        "profile": "demo",
        "seed": 1,
        "ceph": {"events": "data/ceph/simulated", "dashboard": settings},
        "profiles": {"demo": {}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def remember(root: Path, *entries: Event) -> None:
    (root / LOG).parent.mkdir(exist_ok=True)
    lines = [json.dumps(e.model_dump(mode="json", by_alias=True, exclude_defaults=True)) for e in entries]
    (root / LOG).write_text("".join(f"{line}\n" for line in lines))


def journal(root: Path, stage: str, key: str, seconds: float) -> None:
    file = root / ".plumbline" / "journal" / stage / f"{key}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"stage": stage, "key": key, "seconds": seconds}))


def test_a_checkout_that_promoted_nothing_says_so(root: Path) -> None:
    page = loop_page.write_loop_page(root, "ceph")
    assert page == root / ".plumbline" / "pages" / "ceph-loop.html"
    text = read_page(page).text
    assert "none promoted yet" in text
    assert "No model of this data set was registered yet" in text


def test_champion_and_deployments_are_those_of_the_log(root: Path) -> None:
    about = {"name": "ceph-phantom", "version": 1, "key": "base-key"}
    remember(
        root,
        event("registered", **about),
        event("promoted", **about, **{"from": None, "to": 1}, why="first"),
        event("registered", name="ceph-isbi", version=7, key="other"),
        event("registered", **(about | {"version": 2, "key": "tuned-key"})),
        event("refused", **(about | {"version": 2, "key": "tuned-key"}), refusals=("gonion <worse>",)),
    )
    known = loop_page.what_is_known(root, "ceph")
    assert known.active == "version 1 of ceph-phantom"
    assert [row[1] for row in known.deployments] == ["refused", "promoted"]
    assert [row[0] for row in known.versions] == ["1", "2"]
    assert [row[-1] for row in known.versions] == ["champion", "challenger"]
    text = read_page(loop_page.write_loop_page(root, "ceph")).text
    assert "gonion <worse>" in text
    assert "gone from the shelf" in text
    assert "isbi" not in text


def test_training_times_are_those_of_the_models_that_lie_here(root: Path) -> None:
    journal(root, "ceph-base", "base-key", 1800.0)
    journal(root, "ceph-tuned", "an-older-key", 5.0)
    assert loop_page.training_seconds(root, "ceph") == {"ceph-base": 1800.0}
    assert "30.0 min" in read_page(loop_page.write_loop_page(root, "ceph")).text


def test_a_lane_without_reviewers_is_refused(root: Path) -> None:
    with pytest.raises(StageError, match="chest does not learn from reviewers; there is ceph"):
        loop_page.write_loop_page(root, "chest")

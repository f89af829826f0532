"""A round closes once, whatever kills it; its events are what the stages learn from, and it ends in an offer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing as closed
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import publishing, registry
from flows import round as rounds
from flows.lanes import LANES, Lane
from flows.registry.gate import Policy, judge
from flows.review.store import EventStore, database_file
from flows.rounds import closing
from flows.rounds.pointing import events_file, point_at
from flows.serving import golden
from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.data.split import SPLIT_SCHEMA
from stages.core.errors import StageError
from stages.core.model.card import folder_digest
from stages.core.promotion.candidate import Candidate, FloorComparison, read_candidate, write_candidate
from stages.core.review.events import ReviewEvent, read_events, write_events
from tests.mlflow_checkout import Checkout, card

POOL = [f"film-{i:02}" for i in range(8)]
GATE = "film-gate"
NEEDED = 3
PARAMS = f"""\
profile: demo   # a comment
seed: 3
ceph:
  events: data/ceph/simulated/events.parquet   # what reviewers said
  labels:
    ready_after: {NEEDED}   # films
    fold: {{tolerance_mm: 2.0, tolerance_px: 8.0, accepted: 0.5, corrected: 1.0, hidden: 1.0}}
profiles: {{demo: {{}}}}
"""
STAGES = {
    "stages": {
        "ceph-labels": {
            "cmd": "cp ${ceph.events} labels.parquet",
            "deps": ["${ceph.events}"],
            "outs": ["labels.parquet"],
        },
        "ceph-tuned": {
            "cmd": "test ! -e broken && cp labels.parquet tuned.parquet",
            "deps": ["labels.parquet"],
            "outs": ["tuned.parquet"],
        },
    }
}


@pytest.fixture
def root(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose lane ceph has a clinic's split and two stages that copy events."""
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    (root / "params.yaml").write_text(PARAMS)
    (root / "dvc.yaml").write_text(yaml.safe_dump(STAGES))
    ids = [*POOL, GATE]
    split = pd.DataFrame({"id": ids, "patient": ids, "role": ["train"] * len(POOL) + ["gate"]})
    tables.write_table(root / "data" / "ceph" / "clinic-split.parquet", split, SPLIT_SCHEMA)
    monkeypatch.chdir(root)
    monkeypatch.setitem(LANES, "ceph", Lane("ceph", Path("models/ceph/tuned")))
    return root


def event(number: int, film: str, round_: int, **changes: Any) -> ReviewEvent:
    values: dict[str, Any] = {
        "event_id": f"{number:032x}",
        "ts_utc": f"2026-01-0{round_}T00:00:{number % 60:02}+00:00",
        "lane": "ceph",
        "round": round_,
        "film": film,
        "landmark": CEPH.names[0],
        "model_key": "k",
        "queue_kind": "uncertain",
        "blinded": False,
        "rank": 1,
        "uncertainty": 1.0,
        "pred_x": 1.0,
        "pred_y": 2.0,
        "verdict": "correct",
        "x": float(number),
        "y": 2.0,
        "dwell_ms": 10,
        "annotator": "ann",
        "ui_version": "test",
    }
    return ReviewEvent(**(values | changes))


def review(
    root: Path, films: list[str], round_: int = 1, first: int = 0, **changes: Any
) -> list[ReviewEvent]:
    """What the review page would leave behind; events are numbered from `first` on within the round."""
    events = [event(100 * round_ + first + i, film, round_, **changes) for i, film in enumerate(films)]
    with closed(EventStore(database_file(root, "ceph"), lambda: 0.0)) as store, store.writing():
        for one in events:
            store.add(one)
    return events


def in_git(root: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_round_is_ready_when_enough_films_of_the_pool_are_reviewed(root: Path) -> None:
    review(root, POOL[:2])
    found = closing.readiness(root, "ceph")
    assert (found.round, found.films, found.needed, found.ready) == (1, 2, NEEDED, False)
    review(root, [GATE], blinded=True, first=10)
    review(root, [POOL[3]], verdict="unsure", x=None, y=None, first=20)
    assert closing.readiness(root, "ceph").films == 2, "neither is a place to learn"
    review(root, [POOL[4]], first=30)
    assert closing.readiness(root, "ceph").ready


def test_what_must_not_be_learned_from_stops_a_round_before_it_is_closed(root: Path) -> None:
    review(root, [*POOL[:4], GATE])
    with pytest.raises(StageError, match=GATE):
        closing.readiness(root, "ceph")


def test_closing_writes_the_events_once_and_dvc_tracks_them(root: Path) -> None:
    said = review(root, POOL[:4])
    file = closing.close_round("ceph", 1, root)
    assert file == root / "data/reviews/ceph/round-1/events.parquet"
    assert read_events(file) == said
    pointer = file.with_name("events.parquet.dvc")
    before = (file.read_bytes(), pointer.read_bytes())
    assert closing.close_round("ceph", 1, root) == file
    assert (file.read_bytes(), pointer.read_bytes()) == before
    assert "events.parquet.dvc" in in_git(root)
    assert not in_git(root).count("events.parquet\n"), "Git must not take the events themselves"


def _write_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "write_events", die)


def _add_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "_track", die)


@pytest.mark.parametrize("kill", [_write_fails, _add_fails])
def test_a_round_that_was_killed_ends_with_the_bytes_of_an_unbroken_one(
    root: Path, tmp_path: Path, kill: Callable[[pytest.MonkeyPatch], None]
) -> None:
    said = review(root, POOL[:4])
    write_events(tmp_path / "unbroken.parquet", said)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch)
        with pytest.raises(KeyboardInterrupt):
            closing.close_round("ceph", 1, root)
    file = closing.close_round("ceph", 1, root)
    assert file.read_bytes() == (tmp_path / "unbroken.parquet").read_bytes()
    assert file.with_name("events.parquet.dvc").is_file()


def test_a_later_round_holds_all_events_before_it(root: Path) -> None:
    first = review(root, POOL[:3], 1)
    closing.close_round("ceph", 1, root)
    second = review(root, POOL[2:6], 2)
    found = closing.readiness(root, "ceph")
    assert (found.round, found.films, found.fresh) == (2, 6, 3)
    assert read_events(closing.close_round("ceph", 2, root)) == [*first, *second]


def test_a_round_without_films_of_its_own_is_not_ready(root: Path) -> None:
    review(root, POOL[:5], 1)
    closing.close_round("ceph", 1, root)
    review(root, POOL[:2], 2)
    assert not closing.readiness(root, "ceph").ready


def test_only_the_open_round_with_events_can_be_closed(root: Path) -> None:
    review(root, POOL[:3])
    with pytest.raises(StageError, match="open round of ceph is 1"):
        closing.close_round("ceph", 2, root)
    closing.close_round("ceph", 1, root)
    with pytest.raises(StageError, match="nothing was reviewed"):
        closing.close_round("ceph", 2, root)


def test_two_rounds_at_once_are_one_too_many(root: Path) -> None:
    review(root, POOL[:4])
    code = "import sys, pathlib; from flows.rounds import closing; closing.close_round('ceph', 1, pathlib.Path('.'))"
    with closing.alone(root, "ceph"):
        other = _python(root, code)
    assert other.returncode == 1
    assert "another round of ceph is being run" in other.stderr
    assert not (root / "data" / "reviews").exists()


def test_the_command_finds_its_server_before_prefect_is_imported_and_refuses_without_one(root: Path) -> None:
    review(root, POOL[:2])
    code = (
        "import sys; import flows.cli; from flows.rounds.command import run\n"
        "try:\n    run('ceph')\nfinally:\n    print('prefect' in sys.modules)"
    )
    done = _python(root, code)
    assert "2 films are reviewed" in done.stderr
    assert "review 1 more" in done.stderr
    assert done.stdout.split() == ["False"]


def _python(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, env=_environment(), capture_output=True, text=True, check=False)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_changed_snapshot_is_refused_and_a_missing_one_is_fetched_not_written_anew(root: Path) -> None:
    review(root, POOL[:4])
    file = closing.close_round("ceph", 1, root)
    whole = file.read_bytes()
    file.unlink()  # DVC may have linked it to its cache
    file.write_bytes(whole + b"x")
    with pytest.raises(StageError, match="was changed after its round was closed"):
        closing.close_round("ceph", 1, root)
    file.unlink()
    with pytest.raises(StageError, match="dvc pull"):
        closing.close_round("ceph", 1, root)
    review(root, POOL[4:6], 2)
    with pytest.raises(StageError, match="dvc pull"):
        closing.readiness(root, "ceph")
    assert not file.exists()


def test_pointing_changes_one_value_and_keeps_comments(root: Path) -> None:
    before = (root / "params.yaml").read_text()
    assert point_at(root, "ceph", "data/reviews/ceph/round-1/events.parquet")
    after = (root / "params.yaml").read_text()
    expected = before.replace(
        "data/ceph/simulated/events.parquet", "data/reviews/ceph/round-1/events.parquet"
    )
    assert re.sub(" +#", " #", after) == re.sub(" +#", " #", expected)
    assert not point_at(root, "ceph", "data/reviews/ceph/round-1/events.parquet")
    assert events_file(root, "ceph") == "data/reviews/ceph/round-1/events.parquet"
    with pytest.raises(StageError, match=r"chest\.events"):
        point_at(root, "chest", "x")


def test_lanes_that_do_not_learn_from_reviews_are_refused(root: Path) -> None:
    for name in ("chest", "nothing"):
        with pytest.raises(StageError, match=f"no rounds of {name}"):
            closing.readiness(root, name)


@pytest.fixture
def flow(
    root: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[bool, str]]]:
    """Run the flow: whether it completed, and what it said."""
    monkeypatch.setenv("PLUMBLINE_TRACK", "journal")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(rounds, "offer", lambda root, lane, reason: [f"{lane} offered: {reason}"])

    def run(**told: Any) -> tuple[bool, str]:
        state = rounds.review_round("ceph", return_state=True, **told)
        return state.is_completed(), str(state.message)

    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: root / "home"}):
        yield run


def test_a_round_from_reviews_to_an_offer(root: Path, flow: Callable[..., tuple[bool, str]]) -> None:
    review(root, POOL[:2])
    completed, said = flow()
    assert not completed
    assert "2 films are reviewed" in said
    assert "review 1 more" in said
    assert events_file(root, "ceph") == "data/ceph/simulated/events.parquet", (
        "a refused round changes nothing"
    )
    assert closing.pending(root, "ceph") is None

    review(root, POOL[2:5], first=50)
    (root / "broken").touch()
    completed, said = flow()
    assert not completed
    assert "run it again" in said
    assert closing.pending(root, "ceph") == 1

    (root / "broken").unlink()
    completed, said = flow()
    assert completed, said
    assert "ceph offered: after a round on data/reviews/ceph/round-1" in said
    assert "git add data/reviews/ceph/round-1/events.parquet.dvc" in said
    assert closing.pending(root, "ceph") is None
    assert len(read_events(root / "tuned.parquet")) == 5
    assert events_file(root, "ceph") == "data/reviews/ceph/round-1/events.parquet"
    assert not flow()[0], "the next round has no events yet"


def test_simulated_events_are_learned_from_as_they_are(
    root: Path, flow: Callable[..., tuple[bool, str]]
) -> None:
    point_at(root, "ceph", "elsewhere")
    write_events(root / "data/ceph/simulated/events.parquet", [event(1, POOL[0], 1)])
    completed, said = flow(simulated=True, workers=1)
    assert completed, said
    assert "data/ceph/simulated/events.parquet" in said
    assert len(read_events(root / "tuned.parquet")) == 1
    assert not (root / "data" / "reviews").exists()


def candidate(letter: str, error: float, objections: tuple[str, ...] = ()) -> Candidate:
    """A model whose errors on 24 gate films are `error` and a little more."""
    films = [f"film{n:02}" for n in range(24)]
    floor = FloorComparison(
        floor="mean_shape", mean_difference=error - 9, low=-5, high=-1, p_wilcoxon=0.01, n_films=24, n_groups=24,
        verdict="better",
    )  # fmt: skip
    return Candidate(
        lane="toy",
        dataset="phantom",
        registry_name="toy-phantom",
        model_sha256=letter * 64,
        key=letter * 64,
        gate_sha256="1" * 64,
        n_gate=24,
        unit="percent_sn",
        errors={film: error + 0.1 * (n % 5) for n, film in enumerate(films)},
        groups={film: film for film in films},
        metrics={},
        floors={"mean_shape": 9.0},
        against_floor=floor,
        objections=objections,
    )


POLICY = {
    "require_floor": True,
    "against_champion": "not_worse",
    "tolerance": 0.02,
    "bootstrap": {"resamples": 400, "level": 0.95, "method": "percentile", "minimum_groups": 6},
}


def test_what_the_lane_holds_against_a_model_keeps_it_from_the_champions_place() -> None:
    policy = Policy.model_validate(POLICY | {"seed": 3})
    champion = candidate("a", 4.0)
    assert judge(candidate("b", 3.0), champion, policy).refusals == ()
    held = judge(candidate("b", 3.0, ("landmark porion: worse",)), champion, policy)
    assert held.outdone == ("landmark porion: worse",)
    assert held.unfit == (), "it is registered, as challenger"
    assert judge(candidate("b", 3.0, ("no",)), None, policy).refusals == ("no",)


def test_candidates_written_without_objections_are_still_read(tmp_path: Path) -> None:
    plain = candidate("a", 4.0)
    text = plain.model_dump_json(exclude={"objections"})
    (tmp_path / "candidate.json").write_text(text)
    assert read_candidate(tmp_path / "candidate.json") == plain


def offered(checkout: Checkout, name: str, made: Candidate, file: str) -> None:
    """Leave a model folder and its candidate as a build does."""
    folder = checkout.root / "models" / "toy" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_bytes(card(key=made.key))
    (folder / "weights.pt").write_text(name)
    whole = made.model_copy(update={"model_sha256": folder_digest(folder)})
    write_candidate(checkout.root / "models" / "toy" / file, whole)


def test_the_base_is_champion_before_any_round_and_is_offered_once(
    tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checkout = Checkout(tmp_path / "checkout", empty_mlflow)
    checkout.params |= {"seed": 3, "registry": POLICY, "profiles": {"demo": {}}}
    checkout.write_settings()
    monkeypatch.setitem(LANES, "toy", Lane("toy", Path("models/toy/tuned"), earlier=("base_candidate.json",)))
    monkeypatch.setattr(golden, "record_registered", lambda shelf: None)  # the lane has no code
    offered(checkout, "base", candidate("a", 4.0), "base_candidate.json")
    offered(checkout, "tuned", candidate("b", 3.0, ("landmark porion",)), "candidate.json")
    said = list(publishing.offer(checkout.root, "toy", reason="test"))
    assert "version 1 is champion, the first" in said[0]
    assert "version 2 is not promoted" in said[1]
    offered(checkout, "tuned", candidate("c", 3.0), "candidate.json")
    said = list(publishing.offer(checkout.root, "toy", reason="test"))
    assert len(said) == 1, "the base is not offered against its successor"
    assert "version 3 is champion (was 1)" in said[0]
    back = registry.rollback("toy", checkout.root, reason="test")
    assert (back.version, back.before) == (1, 3)

"""The loaded models follow the registry, and nothing that is wrong with registry or model reaches an answer."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.registry.log import LOG
from flows.serving import canary
from flows.serving.follower import Follower
from flows.serving.source import LogSource, sources
from stages.core.errors import StageError
from tests.flows.serving.toy_lane import PARAMS, Behaviour, release, roll_back, shelf_of

Follow = Callable[..., Follower]


def champion(follower: Follower) -> int | None:
    assert follower.lineup is not None
    return follower.lineup.champion.target.version


def test_the_alias_is_followed_forward_and_back(root: Path, follow: Follow) -> None:
    release(root, 1)
    follower = follow()
    follower.refresh()
    assert (champion(follower), follower.swaps) == (1, 0)
    release(root, 2)
    follower.refresh()
    assert (champion(follower), follower.swaps) == (2, 1)
    roll_back(root, to=1)
    follower.refresh()
    assert (champion(follower), follower.swaps) == (1, 2)
    assert follower.complaints == []


def test_a_model_is_loaded_once(root: Path, follow: Follow, behaviour: Behaviour) -> None:
    release(root, 1)
    follower = follow()
    for _ in range(4):
        follower.refresh()
    assert behaviour.opened == [1]


def test_what_serves_goes_on_when_the_registry_is_down(
    root: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(root, 1)
    follower = follow(params=PARAMS.model_copy(update={"stale_s": 0.0}))
    follower.refresh()
    with monkeypatch.context() as patch:

        def down(self: LogSource, alias: str) -> None:
            raise ConnectionError("registry down")

        patch.setattr(LogSource, "resolve", down)
        follower.refresh()
        assert champion(follower) == 1
        (complaint,) = follower.complaints
        assert "has not answered for" in complaint
        assert "registry down" in complaint
    release(root, 2)
    follower.refresh()
    assert champion(follower) == 2
    assert follower.complaints == []


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_log_that_is_lost_or_damaged_stops_nothing(root: Path, follow: Follow, damage: str) -> None:
    release(root, 1)
    follower = follow()
    follower.refresh()
    if damage == "lost":
        (root / LOG).unlink()
    else:
        (root / LOG).write_text('{"event": "demoted"}\n')
    follower.refresh()
    assert champion(follower) == 1
    assert ("has no champion" if damage == "lost" else "damaged") in follower.complaints[0]


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone", "not loadable"])
def test_a_corrupt_model_is_not_let_in(
    root: Path, follow: Follow, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(root, 1)
    follower = follow()
    follower.refresh()
    folder = shelf_of(root, release(root, 2))
    weights = folder / "mean" / "weights.pt"
    whole = weights.read_bytes()
    if damage == "changed":
        weights.write_text(json.dumps({"place": 7.0}))
    elif damage == "cut short":
        weights.write_bytes(whole[:-3])
    elif damage == "gone":
        folder.rename(folder.with_name("elsewhere"))
    else:
        # Whole by its digest, yet this code cannot open it: the digest is not the only guard.
        monkeypatch.setattr("flows.registry.shelf.folder_digest", lambda _: "")
        weights.write_text("no json")
    follower.refresh()
    assert champion(follower) == 1
    assert follower.refusals == 1
    assert "version 2" in follower.complaints[0]
    assert "not let in" in follower.complaints[0]
    monkeypatch.undo()


def test_a_refused_model_is_tried_again_after_a_while(root: Path, follow: Follow) -> None:
    release(root, 1)
    follower, patient = follow(), follow(params=PARAMS.model_copy(update={"retry_s": 3600}))
    weights = shelf_of(root, release(root, 2)) / "mean" / "weights.pt"
    whole = weights.read_bytes()
    weights.write_bytes(b"")
    for one in (follower, patient):
        one.refresh()
        assert one.lineup is None
    weights.write_bytes(whole)
    for one in (follower, patient):
        one.refresh()
    assert champion(follower) == 2
    assert follower.complaints == []
    assert patient.lineup is None


def test_a_refusal_is_forgotten_when_the_alias_moves_on(root: Path, follow: Follow) -> None:
    release(root, 1)
    follower = follow()
    follower.refresh()
    (shelf_of(root, release(root, 2)) / "mean" / "weights.pt").write_bytes(b"")
    follower.refresh()
    assert follower.complaints
    roll_back(root, to=1)
    follower.refresh()
    assert follower.complaints == []


def test_at_most_two_models_are_loaded(root: Path, follow: Follow) -> None:
    release(root, 1)
    release(root, 2, promote=False)
    follower = follow(shadow=True)
    loaded: list[weakref.ref[object]] = []
    most = 0

    def count() -> int:
        gc.collect()
        return sum(ref() is not None for ref in loaded)

    original = follower._load

    def counting(target: object, folder: Path) -> object:
        nonlocal most
        served = original(target, folder)  # type: ignore[arg-type]
        loaded.append(weakref.ref(served))
        most = max(most, count())
        return served

    follower._load = counting  # type: ignore[assignment]
    follower.refresh()
    assert follower.lineup is not None
    assert follower.lineup.challenger is not None
    release(root, 3)  # a third model becomes champion
    follower.refresh()
    release(root, 4, promote=False)  # and a fourth challenger
    follower.refresh()
    assert follower.lineup.champion.target.version == 3
    assert follower.lineup.challenger is not None
    assert follower.lineup.challenger.target.version == 4
    assert most == 2


def test_a_promoted_challenger_is_swapped_in_without_loading(
    root: Path, follow: Follow, behaviour: Behaviour
) -> None:
    release(root, 1)
    release(root, 2, promote=False)
    follower = follow(shadow=True)
    follower.refresh()
    release(root, 2, promote=True)
    follower.refresh()
    assert champion(follower) == 2
    assert behaviour.opened == [1, 2]
    assert follower.lineup is not None
    assert follower.lineup.challenger is None


def test_a_challenger_is_loaded_only_if_somebody_asks_for_it(
    root: Path, follow: Follow, behaviour: Behaviour
) -> None:
    release(root, 1)
    key = release(root, 2, promote=False)
    follower = follow()
    follower.refresh()
    assert behaviour.opened == [1]
    canary.decide(root, "toy-phantom", key, 25)
    follower.refresh()
    assert behaviour.opened == [1, 2]
    assert follower.lineup is not None
    assert follower.lineup.percent == 25


def test_a_halt_holds_at_once_over_polls_and_over_a_restart_until_a_person_decides(
    root: Path, follow: Follow
) -> None:
    release(root, 1)
    key = release(root, 2, promote=False)
    follower = follow(percent=50, shadow=True)
    follower.refresh()
    assert follower.lineup is not None
    assert follower.lineup.challenger is not None
    assert follower.lineup.percent == 50
    follower.halt(follower.lineup.challenger, "too many failures")
    assert follower.lineup.percent == 0
    for one in (follower, follow(percent=50, shadow=True)):
        one.refresh()
        assert one.lineup is not None
        assert one.lineup.percent == 0
    assert canary.decisions(root)["toy-phantom"].halted == "too many failures"
    canary.decide(root, "toy-phantom", key, 20)
    follower.refresh()
    assert follower.lineup.percent == 20


def test_a_halt_that_cannot_be_written_down_holds_too(
    root: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(root, 1)
    canary.decide(root, "toy-phantom", release(root, 2, promote=False), 50)
    follower = follow(shadow=True)
    follower.refresh()
    assert follower.lineup is not None
    assert follower.lineup.challenger is not None

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("flows.serving.follower.decide", full)
    follower.halt(follower.lineup.challenger, "too slow")
    follower.refresh()
    assert follower.lineup.percent == 0


def test_a_decision_holds_for_its_challenger_only(root: Path, follow: Follow) -> None:
    release(root, 1)
    canary.decide(root, "toy-phantom", release(root, 2, promote=False), 0, halted="slow")
    release(root, 3, promote=False)
    follower = follow(percent=10)
    follower.refresh()
    assert follower.lineup is not None
    assert follower.lineup.challenger is not None
    assert follower.lineup.challenger.target.version == 3
    assert follower.lineup.percent == 10


def test_names_that_stand_for_nothing_are_all_named(root: Path) -> None:
    release(root, 1)
    release(root, 2, dataset="clinic")
    with pytest.raises(
        StageError,
        match=r"'gait': no lane that reads films; the lanes are toy\n  'toy': no registered.*toy-clinic, toy-phantom",
    ):
        sources(root, ["gait", "toy"])
    (one,) = sources(root, ["toy-clinic"])
    assert one.name == "toy-clinic"
    with pytest.raises(StageError, match="served already, by toy-clinic"):
        sources(root, ["toy-clinic", "toy-phantom"])


def test_all_stands_for_the_film_lanes_that_have_a_model(root: Path) -> None:
    with pytest.raises(StageError, match="no film lane has a registered model"):
        sources(root, ["all"])
    release(root, 1)
    assert [source.name for source in sources(root, ["all"])] == ["toy-phantom"]


def test_a_folder_is_served_as_it_is(root: Path) -> None:
    release(root, 5)
    (source,) = sources(root, ["all"], root / "models" / "toy" / "mean")
    target = source.resolve("champion")
    assert target is not None
    assert (target.name, target.version) == ("toy-phantom", None)
    with pytest.raises(StageError, match="not of spine"):
        sources(root, ["spine"], root / "models" / "toy" / "mean")

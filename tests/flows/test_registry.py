"""Promotion, rollback and repair: one version a model, aliases that follow the log, crashes that heal."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import publishing, registry
from flows.lanes import Lane
from flows.registry import commands
from flows.registry.log import LOG, Event, Registered, append, event, fold, locked, read_log
from flows.serving.source import LogSource, MlflowSource
from stages.core import tracking
from stages.core.errors import StageError
from stages.core.model.card import folder_digest
from stages.core.params import load_params
from stages.core.promotion.candidate import Candidate, FloorComparison, write_candidate
from tests.mlflow_checkout import Checkout, card

FILMS = [f"film{n:02}" for n in range(24)]
SPREAD = [0.1 * (n % 5) for n in range(24)]
BOOTSTRAP = {"resamples": 400, "level": 0.95, "method": "percentile", "minimum_groups": 6}
POLICY = {"require_floor": True, "against_champion": "not_worse", "tolerance": 0.02, "bootstrap": BOOTSTRAP}


@pytest.fixture
def checkout(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_STRICT", "1")
    checkout = Checkout(tmp_path / "checkout", empty_mlflow)
    checkout.params |= {"seed": 3, "registry": POLICY, "profiles": {"demo": {}}}
    checkout.write_settings()
    return checkout


def build(
    checkout: Checkout,
    model: str,
    error: float,
    *,
    dataset: str = "phantom",
    gate: str = "1",
    beats_floor: bool = True,
    films: list[str] = FILMS,
    **changes: Any,
) -> str:
    """Leave a model folder and its candidate as a build does, with this mean error; returns its key."""
    key = (model * 64)[:64]
    folder = checkout.root / "models/toy/mean"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "card.json").write_bytes(card(dataset=dataset, key=key))
    (folder / "weights.pt").write_text(changes.pop("weights", model))
    candidate = Candidate(
        lane="toy",
        dataset=dataset,
        registry_name=f"toy-{dataset}",
        model_sha256=folder_digest(folder),
        key=key,
        gate_sha256=gate * 64,
        n_gate=len(films),
        unit=changes.pop("unit", "raw_px"),
        errors={film: error + spread for film, spread in zip(films, SPREAD, strict=False)},
        groups={film: film for film in films},
        metrics={"gate_mean@raw": error},
        floors={"mean_shape": 9.0},
        against_floor=FloorComparison(
            floor="mean_shape",
            mean_difference=error - 9.0,
            low=-5.0,
            high=-1.0 if beats_floor else 1.0,
            p_wilcoxon=0.01,
            n_films=24,
            n_groups=24,
            verdict="better" if beats_floor else "no difference",
        ),
    )
    write_candidate(checkout.root / "models/toy/candidate.json", candidate)
    return key


def promote(checkout: Checkout, **options: Any) -> registry.Decision:
    return registry.promote("toy", checkout.root, **options)


def in_mlflow(checkout: Checkout, name: str = "toy-phantom") -> tuple[dict[int, str], dict[str, int]]:
    """Version -> first letter of its key, alias -> version, as MLflow has them."""
    with tracking.connected(checkout.root) as client:
        found = client.search_model_versions(f"name = '{name}'")
        aliases = client.get_registered_model(name).aliases
    keys = {int(v.version): v.tags["dvc.key"][0] for v in found}
    return dict(sorted(keys.items())), {alias: int(v) for alias, v in aliases.items()}


def kinds(checkout: Checkout) -> list[str]:
    return [entry.event for entry in registry.history("toy", checkout.root)]


def test_registering_twice_gives_one_version(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    first, second = promote(checkout), promote(checkout)
    assert (first.version, first.promoted, first.before) == (1, True, None)
    assert (second.version, second.promoted) == (1, True)
    assert "already" in str(second)
    assert in_mlflow(checkout) == ({1: "a"}, {"champion": 1})
    assert kinds(checkout) == ["registered", "promoted"]
    with tracking.connected(checkout.root) as client:
        (version,) = client.search_model_versions("name = 'toy-phantom'")
        model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "toy-phantom", "version": "1"}]


def test_promote_two_roll_back_and_restore_the_first(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 3.0)
    assert promote(checkout, reason="smaller errors").version == 2
    assert in_mlflow(checkout)[1] == {"champion": 2, "previous": 1}

    back = registry.rollback("toy", checkout.root, reason="fails on lateral films")
    assert (back.version, back.before) == (1, 2)
    assert in_mlflow(checkout)[1] == {"champion": 1}
    again = promote(checkout)
    assert not again.promoted
    assert "fails on lateral films" in str(again), (
        "a model taken out of use must not return with the next build"
    )

    build(checkout, "a", 4.0)
    assert promote(checkout).version == 1
    assert in_mlflow(checkout)[0] == {1: "a", 2: "b"}
    build(checkout, "b", 3.0)
    assert promote(checkout, force=True, reason="lateral films are out of scope").version == 2
    last = registry.history("toy", checkout.root)[-1]
    assert (last.source, last.target, last.why, last.forced) == (1, 2, "lateral films are out of scope", True)


def test_a_former_champion_that_is_restored_keeps_its_number(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 4.0)
    assert promote(checkout).version == 2
    build(checkout, "a", 4.0)
    restored = promote(checkout)
    assert (restored.version, restored.promoted) == (1, True)
    assert kinds(checkout) == ["registered", "promoted", "registered", "promoted", "promoted"]
    assert in_mlflow(checkout) == ({1: "a", 2: "b"}, {"champion": 1, "previous": 2})


def test_a_worse_candidate_becomes_challenger(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 5.0)
    refused = promote(checkout)
    assert (refused.version, refused.promoted, refused.champion) == (2, False, 1)
    assert "worse than the champion" in str(refused)
    assert "+1 raw_px" in str(refused)
    assert in_mlflow(checkout)[1] == {"champion": 1, "challenger": 2}
    promote(checkout)
    assert kinds(checkout) == ["registered", "promoted", "registered", "refused"], (
        "builds repeat, the log need not"
    )


def test_a_candidate_below_its_floor_is_not_registered(checkout: Checkout) -> None:
    build(checkout, "a", 8.5, beats_floor=False)
    refused = promote(checkout)
    assert (refused.version, refused.champion) == (None, None)
    assert "does not beat its floor 'mean_shape'" in str(refused)
    assert kinds(checkout) == ["refused"]
    with tracking.connected(checkout.root) as client:
        assert client.search_registered_models() == []
    checkout.params["profiles"]["demo"] = {"registry": {"require_floor": False}}
    checkout.write_settings()
    assert promote(checkout).promoted
    with tracking.connected(checkout.root) as client:
        assert "is not beaten beyond doubt" in client.get_model_version("toy-phantom", "1").description


def test_another_gate_set_is_not_compared(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 1.0, gate="2")
    refused = promote(checkout)
    assert not refused.promoted
    assert "another gate set (111111111111, 24 films) than the candidate (222222222222" in str(refused)
    assert registry.history("toy", checkout.root)[-1].comparison is None
    with pytest.raises(StageError, match="needs a reason"):
        promote(checkout, force=True)
    assert promote(checkout, force=True, reason="new gate set").promoted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "px224"}, "its errors are in px224, the champion's in raw_px"),
        ({"films": FILMS[:-2]}, "no error for 2 gate films that the champion answered: film22, film23"),
    ],
)
def test_errors_that_do_not_pair_are_named(checkout: Checkout, changes: dict[str, Any], words: str) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 1.0, **changes)
    assert words in str(promote(checkout))


@pytest.mark.parametrize(
    ("policy", "error", "promoted"),
    [
        ({}, 4.0, True),
        ({}, 4.05, False),  # certainly worse, by little
        ({"against_champion": "better"}, 4.0, False),
        ({"against_champion": "better"}, 3.9, True),
        ({"bootstrap": BOOTSTRAP | {"minimum_groups": 25}}, 3.0, False),
    ],
)
def test_the_policy_decides(checkout: Checkout, policy: dict[str, Any], error: float, promoted: bool) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    checkout.params["registry"] = POLICY | policy
    checkout.write_settings()
    build(checkout, "b", error)
    assert promote(checkout).promoted is promoted


def test_a_wide_interval_does_not_let_errors_creep_up() -> None:
    from flows.registry.gate import judge

    policy = registry.Policy(seed=1, **POLICY)
    champion = dict.fromkeys(FILMS, 4.0)
    noisy = {film: 4.0 + (3.0 if n % 2 else -2.6) for n, film in enumerate(FILMS)}
    same = {"unit": "raw_px", "gate_sha256": "1" * 64, "groups": {f: f for f in FILMS}, "n_gate": 24}
    a, b = Candidate.model_construct(errors=noisy, **same), Candidate.model_construct(errors=champion, **same)
    a = a.model_copy(update={"key": "k", "against_floor": FloorComparison.model_construct(verdict="better")})
    judgement = judge(a, b, policy)
    assert judgement.comparison is not None
    assert judgement.comparison.verdict == "no difference"
    assert "exceeds the champion's by more than 2.0%" in judgement.refusals[0]


def test_phantoms_never_compete_with_real_models(checkout: Checkout) -> None:
    build(checkout, "a", 1.0)
    promote(checkout)
    build(checkout, "b", 6.0, dataset="aasce")
    assert promote(checkout).promoted, "its only rival is a phantom model"
    assert in_mlflow(checkout) == ({1: "a"}, {"champion": 1})
    assert in_mlflow(checkout, "toy-aasce") == ({1: "b"}, {"champion": 1})
    assert [e.name for e in registry.history("toy", checkout.root)][::2] == ["toy-phantom", "toy-aasce"]


def test_a_wiped_store_is_repaired_by_one_call(checkout: Checkout) -> None:
    for model, error in (("a", 4.0), ("b", 3.0), ("c", 5.0), ("d", 2.0)):
        build(checkout, model, error)
        promote(checkout)
    registry.rollback("toy", checkout.root)
    before = in_mlflow(checkout)
    assert before == ({1: "a", 2: "b", 3: "c", 4: "d"}, {"champion": 2, "previous": 1, "challenger": 3})
    with tracking.connected(checkout.root) as client:
        described = client.get_model_version("toy-phantom", "4").description
    (checkout.root / "mlflow.db").unlink()
    shutil.rmtree(checkout.root / "mlartifacts")

    report = registry.repair(checkout.root)
    assert report.versions == {"toy-phantom": (1, 2, 3, 4)}
    assert in_mlflow(checkout) == before
    with tracking.connected(checkout.root) as client:
        assert client.get_model_version("toy-phantom", "4").description == described
    assert registry.repair(checkout.root).versions == {"toy-phantom": ()}


def test_numbers_return_though_a_version_between_was_deleted(checkout: Checkout, empty_mlflow: Path) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    with tracking.connected(checkout.root) as client:
        model = client.search_model_versions("name = 'toy-phantom'")[0].source
        client.create_model_version("toy-phantom", model)
    build(checkout, "b", 3.0)
    assert promote(checkout).version == 3
    with tracking.connected(checkout.root) as client:
        client.delete_model_version("toy-phantom", "2")
    shutil.copyfile(empty_mlflow, checkout.root / "mlflow.db")
    registry.repair(checkout.root)
    assert in_mlflow(checkout) == ({1: "a", 3: "b"}, {"champion": 3, "previous": 1})


def test_aliases_moved_by_hand_follow_the_log_again(checkout: Checkout) -> None:
    for model, error in (("a", 4.0), ("b", 3.0)):
        build(checkout, model, error)
        promote(checkout)
    with tracking.connected(checkout.root) as client:
        client.set_registered_model_alias("toy-phantom", "champion", "1")
        client.set_registered_model_alias("toy-phantom", "challenger", "1")
    promote(checkout)
    assert in_mlflow(checkout)[1] == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("step", ["shelve", "register", "append registered", "append promoted", "match"])
def test_a_promotion_killed_between_two_steps_is_completed(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 3.0)
    function, _, kind = step.partition(" ")
    original: Callable[..., Any] = getattr(commands, function)
    calls = 0

    def die(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if kind and arguments[1].event != kind:
            return original(*arguments)
        if function == "match" and calls == 1:
            return original(*arguments)
        if function in ("shelve", "register"):
            original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commands, function, die)
        with pytest.raises(KeyboardInterrupt):
            promote(checkout)
    assert promote(checkout).champion == 2
    assert in_mlflow(checkout) == ({1: "a", 2: "b"}, {"champion": 2, "previous": 1})
    assert kinds(checkout) == ["registered", "promoted"] * 2


def test_two_promotions_at_once_give_one_version(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    with ThreadPoolExecutor(2) as pool:
        said = sorted(str(decision) for decision in pool.map(lambda _: promote(checkout), range(2)))
    assert said == [
        "toy-phantom: version 1 is champion already",
        "toy-phantom: version 1 is champion, the first",
    ]
    assert in_mlflow(checkout) == ({1: "a"}, {"champion": 1})
    assert kinds(checkout) == ["registered", "promoted"]


def test_a_promotion_waits_for_another_command(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    other = threading.Thread(target=promote, args=(checkout,))
    with locked(checkout.root):
        other.start()
        other.join(2)
        assert other.is_alive()
        assert kinds(checkout) == []
    other.join()
    assert kinds(checkout) == ["registered", "promoted"]


def test_a_line_that_a_crash_cut_short_never_happened(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    log = checkout.root / LOG
    with log.open("ab") as stream:
        stream.write(b'{"event": "rolled ba')
    assert kinds(checkout) == ["registered", "promoted"]
    build(checkout, "b", 3.0)
    promote(checkout)
    assert kinds(checkout) == ["registered", "promoted"] * 2
    log.write_bytes(log.read_bytes().replace(b'"promoted"', b'"demoted"', 1))
    with pytest.raises(StageError, match="line 2: event"):
        promote(checkout)


def test_a_model_that_is_not_the_judged_one_is_refused(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    (checkout.root / "models/toy/mean/weights.pt").write_text("other")
    with pytest.raises(StageError, match=r"not there any more; found models/toy/mean\. Run `dvc repro`"):
        promote(checkout)
    shutil.rmtree(checkout.root / "models/toy/mean")
    with pytest.raises(StageError, match="found no model folder"):
        promote(checkout)


def test_other_bytes_under_a_registered_key_are_refused(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "a", 3.0, weights="trained on another machine")
    with pytest.raises(StageError, match="another model under the key aaaaaaaaaaaa"):
        promote(checkout)


def test_a_model_built_outside_dvc_is_refused(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    file = checkout.root / "models/toy/candidate.json"
    folder = checkout.root / "models/toy/mean"
    (folder / "card.json").write_bytes(card(key="untracked"))
    changed = json.loads(file.read_text()) | {"key": "untracked", "model_sha256": folder_digest(folder)}
    file.write_text(json.dumps(changed))
    assert "was not built by DVC" in str(promote(checkout))


def test_rollback_says_what_is_possible(checkout: Checkout) -> None:
    with pytest.raises(StageError, match="does not know the lane"):
        registry.rollback("toy", checkout.root)
    for model, error in (("a", 4.0), ("b", 3.0), ("c", 9.0)):
        build(checkout, model, error)
        promote(checkout)
    with pytest.raises(StageError, match="version 3 was never champion.* 1, 2"):
        registry.rollback("toy", checkout.root, to=3)
    with pytest.raises(StageError, match="champion already"):
        registry.rollback("toy", checkout.root, to=2)
    registry.rollback("toy", checkout.root, to=1)
    with pytest.raises(StageError, match="first champion"):
        registry.rollback("toy", checkout.root)
    assert registry.rollback("toy", checkout.root, to=2).champion == 2
    assert in_mlflow(checkout)[1] == {"champion": 2, "previous": 1, "challenger": 3}


def test_a_rollback_that_mlflow_did_not_hear_of_says_that_it_happened(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model, error in (("a", 4.0), ("b", 3.0)):
        build(checkout, model, error)
        promote(checkout)

    def away(*_: object) -> None:
        raise StageError("MLflow is away")

    monkeypatch.setattr("flows.registry.commands.match", away)
    with pytest.raises(StageError, match=r"version 1 is champion again \(was 2\), but .*: MLflow is away"):
        registry.rollback("toy", checkout.root)
    assert registry.history("toy", checkout.root)[-1].target == 1


def test_trouble_in_one_lane_holds_up_no_other(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    build(checkout, "a", 4.0)
    broken = checkout.root / "models/bad/candidate.json"
    broken.parent.mkdir()
    broken.write_text("{}")
    lanes = {name: Lane(name, Path("models") / name / "mean") for name in ("bad", "toy")}
    monkeypatch.setattr(publishing, "LANES", lanes)
    monkeypatch.delenv("MLFLOW_STRICT")
    said = list(publishing.publish(checkout.root, promote=True))
    assert "bad was not offered for promotion" in said[1]
    assert said[2] == "toy-phantom: version 1 is champion, the first"
    monkeypatch.setenv("MLFLOW_STRICT", "1")
    with pytest.raises(StageError, match="is not a candidate"):
        list(publishing.publish(checkout.root, promote=True))


def test_models_are_found_by_any_name(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for model, error in (("a", 4.0), ("b", 3.0)):
        build(checkout, model, error)
        promote(checkout)
    shutil.rmtree(checkout.root / "models/toy/mean")
    names = {
        "toy-phantom@champion": "b",
        "models:/toy-phantom@previous": "a",
        "models:/toy-phantom/1": "a",
    }
    found = {spec: registry.resolve_model(spec, checkout.root) for spec in names}
    assert {spec: (path / "weights.pt").read_text() for spec, path in found.items()} == names
    assert {path.name for path in found.values()} == {"mean"}
    monkeypatch.chdir(found["toy-phantom@champion"].parent)
    assert registry.resolve_model("mean", checkout.root) == Path("mean")
    with pytest.raises(StageError, match=r"versions 1, 2 and the aliases champion = 2, previous = 1"):
        registry.resolve_model("toy-phantom@challenger", checkout.root)
    with pytest.raises(StageError, match="not registered in MLflow; this checkout registered toy-phantom"):
        registry.resolve_model("toy-aasce@champion", checkout.root)
    with pytest.raises(StageError, match="expected a folder"):
        registry.resolve_model("models/toy/none", checkout.root)


def test_a_model_of_another_checkout_is_fetched_from_a_shared_mlflow(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri(checkout.root))
    other = Checkout(tmp_path / "other")
    folder = registry.resolve_model("toy-phantom@champion", other.root)
    assert folder.is_relative_to(other.root)
    assert (folder / "weights.pt").read_text() == "a"


def test_a_damaged_shelf_is_noticed(checkout: Checkout) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    (registry.resolve_model("toy-phantom@champion", checkout.root) / "weights.pt").write_text("damage")
    with pytest.raises(StageError, match="was changed after it was registered"):
        registry.resolve_model("toy-phantom@champion", checkout.root)


def test_the_champion_answers_through_mlflow(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import types

    import mlflow
    import pandas as pd

    module = types.ModuleType("stages.toy.predict")
    module.predict_files = lambda model, files, out, allow: [  # type: ignore[attr-defined]
        {"file": str(file), "weights": (model / "weights.pt").read_text()} for file in files
    ]
    monkeypatch.setitem(sys.modules, "stages.toy", types.ModuleType("stages.toy"))
    monkeypatch.setitem(sys.modules, "stages.toy.predict", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    build(checkout, "a", 4.0)
    promote(checkout)
    with tracking.connected(checkout.root):
        served = mlflow.pyfunc.load_model("models:/toy-phantom@champion")
        films = [tmp_path / "one.jpg", tmp_path / "two.jpg"]
        for film in films:
            film.write_bytes(b"film")
        answers = served.predict(pd.DataFrame({"path": [str(film) for film in films]}))
    assert list(answers["file"]) == ["one.jpg", "two.jpg"]
    assert json.loads(answers["answer"][0])["weights"] == "a"


@pytest.mark.parametrize("profile", ["cpu", "full"])
def test_with_real_films_the_floor_has_to_be_beaten(root: Path, profile: str) -> None:
    assert load_params(registry.Policy, root / "params.yaml", profile).require_floor


def lines(commands: list[tuple[str, int]]) -> list[Event]:
    """A log in which versions 1 to 4 are given out, and then these commands happen."""
    made = [event("registered", name="toy-x", key=str(v), version=v) for v in range(1, 5)]
    return made + [event(kind, name="toy-x", key=str(v), version=v) for kind, v in commands]


Commands = st.lists(
    st.tuples(st.sampled_from(["promoted", "refused", "rolled back"]), st.integers(1, 4)), max_size=12
)


@given(Commands)
def test_the_champion_is_who_was_enthroned_last(commands: list[tuple[str, int]]) -> None:
    state = fold(lines(commands)).get("toy-x") or Registered("toy-x")
    enthroned = [version for kind, version in commands if kind != "refused"]
    assert state.champion == (enthroned[-1] if enthroned else None)
    if state.champion:
        assert [alias for alias, version in state.aliases.items() if version == state.champion] == [
            "champion"
        ]
        assert str(state.champion) not in state.withdrawn


@settings(max_examples=15, deadline=None)  # every line is forced to the disk
@given(Commands)
def test_the_log_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, commands: list[tuple[str, int]]
) -> None:
    root = tmp_path_factory.mktemp("log")
    (root / LOG).parent.mkdir()
    written = lines(commands)
    for entry in written:
        append(root, entry)
    assert read_log(root) == written


def test_a_service_in_another_checkout_follows_the_shared_mlflow(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(checkout, "a", 4.0)
    promote(checkout)
    build(checkout, "b", 3.0)
    promote(checkout)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{checkout.root / 'mlflow.db'}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = MlflowSource(elsewhere, "toy", "toy-phantom")
    champion, previous = source.resolve("champion"), source.resolve("previous")
    assert champion is not None
    assert previous is not None
    assert (champion.version, champion.key[0], previous.version) == (2, "b", 1)
    assert champion == LogSource(checkout.root, "toy", "toy-phantom").resolve("champion")
    assert (source.folder(champion) / "weights.pt").read_text() == "b"
    assert source.resolve("nobody") is None
    with pytest.raises(StageError, match="came damaged out of MLflow"):
        source.folder(dataclasses.replace(champion, model_sha256="0" * 64))
    with pytest.raises(StageError, match="unknown-phantom"):
        MlflowSource(elsewhere, "toy", "unknown-phantom").resolve("champion")

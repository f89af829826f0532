"""The two decisions: promote the lane's candidate, roll back to an earlier champion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.registry.gate import Policy, judge
from flows.registry.log import LOG, Event, Registered, append, event, fold, locked, read_log, registered_as
from flows.registry.shelf import SHELF, Shelved, candidate_and_model, shelve, shelved
from flows.registry.versions import match, mlflow_client, register
from flows.registry.wording import outcome
from stages.core import tracking
from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.promotion.candidate import Candidate


@dataclass(frozen=True)
class Decision:
    """The outcome of a promotion or rollback.

    Attributes:
        name: registered model.
        version: the version that the command was about; None for a candidate that was not registered.
        champion: the champion's version now; None where there is none yet.
        before: the champion's version before.
        refusals: what spoke against it.
        text: the outcome in words.
    """

    name: str
    version: int | None
    champion: int | None
    before: int | None
    refusals: tuple[str, ...]
    text: str

    @property
    def promoted(self) -> bool:
        """Whether the command's version is champion now."""
        return self.version is not None and self.version == self.champion

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def promote(
    lane: str, root: Path, force: bool = False, reason: str = "", file: str = "candidate.json"
) -> Decision:
    """Offer a candidate of the lane for promotion; register it and make it champion if it passes the gate.

    Idempotent: the champion is left alone, a model that was registered before keeps its version, and a
    command that was killed half way is completed by the next one.

    Args:
        lane: spine, chest, ...
        root: the checkout.
        force: promote in spite of refusals; needs a reason.
        reason: goes into the log.
        file: the candidate, under models/<lane>.
    Raises:
        StageError: if there is no candidate, or its model is not the one that was judged.
    """
    if force and not reason.strip():
        raise StageError("a forced promotion needs a reason: --reason 'why the gate is wrong here'")
    candidate, model = candidate_and_model(root, lane, file)
    policy = load_params(Policy, root / "params.yaml")
    tracking.sync(root)
    with locked(root):
        registered = registered_as(root, candidate.registry_name)
        before = registered.champion
        if candidate.key == _champion_key(registered):
            shelve(root, candidate, model)  # raises if the bytes differ from those registered
            _show(root, registered)
            text = f"version {before} is champion already"
            return Decision(registered.name, before, before, before, (), text)

        judgement = judge(candidate, _champion_candidate(root, registered), policy)
        refusals = judgement.refusals + _withdrawn(registered, candidate)
        refused = bool(refusals) and not force
        if judgement.unfit and refused:
            version = registered.version_of(candidate.key)
        else:
            version = _register(root, registered, shelve(root, candidate, model))
        entry = event(
            "refused" if refused else "promoted",
            name=registered.name,
            key=candidate.key,
            version=version,
            model_sha256=candidate.model_sha256,
            source=before,
            target=before if refused else version,
            why=reason,
            refusals=refusals,
            forced=bool(refusals) and force,
            comparison=judgement.comparison,
        )
        if not _said_already(root, entry):
            append(root, entry)
        registered = registered_as(root, registered.name)
        _show(root, registered)
    text = outcome(entry, candidate.unit)
    return Decision(registered.name, version, registered.champion, before, refusals, text)


def rollback(
    lane: str, root: Path, to: int | None = None, reason: str = "", name: str | None = None
) -> Decision:
    """Make an earlier champion champion again. The model that it replaces is not promoted again by itself.

    Args:
        lane, root: as for `promote`.
        to: version; default the champion before the present one.
        reason: goes into the log.
        name: registered model; default that of the lane's present data set.
    Raises:
        StageError: if there is nothing to go back to, or `to` was never champion.
    """
    with locked(root):
        events = read_log(root)
        registered = fold(events).get(name or _name_of(lane, root, events))
        if registered is None or registered.champion is None:
            raise StageError(f"{name or lane}: nothing was promoted yet, so there is nothing to roll back")
        target = _rollback_target(registered, events, to)
        entry = registered.versions[target]
        append(
            root,
            event(
                "rolled back",
                name=registered.name,
                key=entry.key,
                version=target,
                model_sha256=entry.model_sha256,
                source=registered.champion,
                target=target,
                why=reason,
            ),
        )
        before = registered.champion
        text = f"version {target} is champion again (was {before})"
        try:
            _show(root, registered_as(root, registered.name))
        except StageError as error:
            raise StageError(f"{registered.name}: {text}, but MLflow does not show it yet: {error}") from None
    return Decision(registered.name, target, target, before, (), text)


def _champion_key(registered: Registered) -> str | None:
    return None if registered.champion is None else registered.versions[registered.champion].key


def _champion_candidate(root: Path, registered: Registered) -> Candidate | None:
    key = _champion_key(registered)
    found = shelved(root, registered.name, key) if key else None
    if key and found is None:
        raise StageError(
            f"the champion of {registered.name}, version {registered.champion}, is gone from {SHELF}"
        )
    return found.candidate if found else None


def _withdrawn(registered: Registered, candidate: Candidate) -> tuple[str, ...]:
    """A model that a person took out of use does not come back because the next build offers it again."""
    taken = registered.withdrawn.get(candidate.key)
    if taken is None:
        return ()
    why = f": {taken.why}" if taken.why else ""
    return (
        f"it was rolled back on {taken.when:%Y-%m-%d} by {taken.who}{why}; --force with a --reason brings it back",
    )


def _register(root: Path, registered: Registered, shelf: Shelved) -> int:
    """Give the model its version, in MLflow and then in the log; what is there already stays."""
    from flows.serving import golden  # which reads the registry

    candidate = shelf.candidate
    known = registered.version_of(candidate.key)
    if known is not None:
        return known
    with mlflow_client(root) as client:
        match(client, root, registered)
        version = register(client, root, shelf)
    append(
        root,
        event(
            "registered",
            name=candidate.registry_name,
            key=candidate.key,
            version=version,
            model_sha256=candidate.model_sha256,
        ),
    )
    golden.record_registered(shelf)
    return version


def _show(root: Path, registered: Registered) -> None:
    """Bring MLflow's versions, descriptions and aliases in line with the log."""
    if registered.versions:
        with mlflow_client(root) as client:
            match(client, root, registered)


def _said_already(root: Path, entry: Event) -> bool:
    """Whether the last word on this name was the same refusal: builds repeat, the log need not."""
    said = [e for e in read_log(root) if e.name == entry.name and e.event != "registered"]
    same = ("event", "key", "version", "source", "refusals")
    return (
        entry.event == "refused"
        and bool(said)
        and all(getattr(said[-1], f) == getattr(entry, f) for f in same)
    )


def _name_of(lane: str, root: Path, events: list[Event]) -> str:
    """The registered model of the lane's present data set; without a candidate, the only one there is."""
    if (root / "models" / lane / "candidate.json").is_file():
        return candidate_and_model(root, lane)[0].registry_name
    names = sorted({entry.name for entry in events if entry.lane == lane})
    if len(names) == 1:
        return names[0]
    known = f"choose one of {', '.join(names)}" if names else f"{LOG} does not know the lane"
    raise StageError(f"{lane}: no candidate says which data set is in use; {known}")


def _rollback_target(registered: Registered, events: list[Event], to: int | None) -> int:
    if to is None:
        if len(registered.champions) < 2:
            raise StageError(f"{registered.name}: version {registered.champion} is the first champion")
        return registered.champions[-2]
    was_champion = [e for e in events if e.name == registered.name and e.event in ("promoted", "rolled back")]
    once = {e.version for e in was_champion if e.version is not None}
    if to == registered.champion:
        raise StageError(f"{registered.name}: version {to} is champion already")
    if to not in once:
        raise StageError(
            f"{registered.name}: version {to} was never champion, so there is no going back to it; "
            f"these were: {', '.join(map(str, sorted(once)))}"
        )
    return to

"""What an alias stands for right now, and the model folder behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flows.lanes import known_lanes
from flows.registry import resolve_model
from flows.registry.log import fold, read_log, registered_as
from flows.registry.shelf import SHELF, shelved
from flows.registry.versions import mlflow_client
from stages.core.errors import StageError
from stages.core.model.card import folder_digest, load_card
from stages.core.promotion.candidate import read_candidate
from stages.core.tracking.store import KEY_TAG


@dataclass(frozen=True)
class Target:
    """One model that can be served.

    Attributes:
        name: registered model, `<lane>-<data set>`.
        version: its number; None for a folder that nobody registered.
        key: DVC key of its training run.
        model_sha256: digest of its folder.
    """

    name: str
    version: int | None
    key: str
    model_sha256: str

    def __str__(self) -> str:
        number = "unregistered" if self.version is None else f"version {self.version}"
        return f"{self.name} {number} ({self.key[:12]})"


class Source(Protocol):
    """Where the models of one lane come from."""

    @property
    def lane(self) -> str: ...

    @property
    def name(self) -> str: ...

    def resolve(self, alias: str) -> Target | None:
        """The model of an alias, or None where it stands for none; a StageError if the registry is down."""
        ...

    def folder(self, target: Target) -> Path:
        """Its folder, whole; a StageError if it is gone or damaged."""
        ...


@dataclass(frozen=True)
class LogSource:
    """Models that this checkout registered: its log and its shelf, without MLflow."""

    root: Path
    lane: str
    name: str

    def resolve(self, alias: str) -> Target | None:
        registered = registered_as(self.root, self.name)
        version = registered.aliases.get(alias)
        if version is None:
            return None
        entry = registered.versions[version]
        return Target(self.name, version, entry.key, entry.model_sha256)

    def folder(self, target: Target) -> Path:
        found = shelved(self.root, self.name, target.key)
        if found is None:
            raise StageError(f"{target} is gone from {SHELF}")
        if found.candidate.model_sha256 != target.model_sha256:
            raise StageError(f"{target} on {SHELF} is another model than the one that the log speaks of")
        return found.model


@dataclass(frozen=True)
class MlflowSource:
    """Models that another checkout registered in a shared MLflow."""

    root: Path
    lane: str
    name: str

    def resolve(self, alias: str) -> Target | None:
        with mlflow_client(self.root) as client:
            aliases = client.get_registered_model(self.name).aliases
            if alias not in aliases:
                return None
            found = client.get_model_version(self.name, str(aliases[alias]))
        tags = found.tags
        if absent := [tag for tag in (KEY_TAG, "model_sha256") if tag not in tags]:
            raise StageError(
                f"version {found.version} of {self.name} in MLflow was not registered by Plumbline: "
                f"it lacks the tags {', '.join(absent)}"
            )
        return Target(self.name, int(found.version), tags[KEY_TAG], tags["model_sha256"])

    def folder(self, target: Target) -> Path:
        model = resolve_model(f"models:/{self.name}/{target.version}", self.root)
        if folder_digest(model) != target.model_sha256:
            raise StageError(f"{target} came damaged out of MLflow: its files do not match its model_sha256")
        return model


@dataclass(frozen=True)
class FolderSource:
    """One model folder, whatever the alias; it never changes."""

    lane: str
    path: Path

    @property
    def name(self) -> str:
        return load_card(self.path).registry_name

    def resolve(self, alias: str) -> Target | None:
        card = load_card(self.path)
        return Target(card.registry_name, None, card.key, folder_digest(self.path))

    def folder(self, target: Target) -> Path:
        return self.path


def reads_films(lane: str, root: Path | None = None) -> bool:
    """Whether there is such a lane and its `predict` answers one decoded film."""
    known = known_lanes(root)
    return lane in known and hasattr(known[lane].module("predict"), "predict_film")


def sources(root: Path, wanted: list[str], model: Path | None = None) -> list[Source]:
    """A source for each lane to serve.

    Args:
        root: the checkout.
        wanted: lanes, registered names (`chest-covid`) or `all`, which stands for every film lane that has a
            registered model.
        model: a folder that is served as it is; for one lane only.
    Raises:
        StageError: names every word that stands for nothing, or for a lane twice.
    """
    if model is not None:
        return [_of_folder(root, model, wanted)]
    if wanted == ["all"]:
        there = {entry.lane for entry in read_log(root)}
        wanted = [name for name in known_lanes(root) if name in there and reads_films(name, root)]
        if not wanted:
            raise StageError(
                "no film lane has a registered model: run `make repro`, or `plumbline promote LANE`"
            )
    problems: list[str] = []
    found: dict[str, Source] = {}
    for word in wanted:
        lane = word.partition("-")[0]
        if not reads_films(lane, root):
            known = ", ".join(name for name in known_lanes(root) if reads_films(name, root))
            problems.append(f"'{word}': no lane that reads films; the lanes are {known}")
        elif lane in found:
            problems.append(f"'{word}': the lane {lane} is served already, by {found[lane].name}")
        else:
            try:
                found[lane] = _of_registry(root, lane, word if "-" in word else None)
            except StageError as error:
                problems.append(f"'{word}': {error}")
    if problems:
        raise StageError("cannot serve:\n  " + "\n  ".join(problems))
    return list(found.values())


def _of_folder(root: Path, model: Path, wanted: list[str]) -> FolderSource:
    lane = load_card(model).lane
    if not reads_films(lane, root):
        raise StageError(f"{model} is a model of the lane {lane}, which reads no films")
    if wanted not in (["all"], [lane]):
        raise StageError(f"{model} is a model of the lane {lane}, not of {', '.join(wanted)}")
    return FolderSource(lane, model)


def _of_registry(root: Path, lane: str, name: str | None) -> Source:
    known = sorted(n for n, registered in fold(read_log(root)).items() if registered.versions)
    own = [n for n in known if n.partition("-")[0] == lane]
    if name is None:
        candidate = root / known_lanes(root)[lane].candidate
        present = read_candidate(candidate).registry_name if candidate.is_file() else None
        if present not in own and len(own) != 1:
            said = (
                f"choose one of {', '.join(own)}"
                if own
                else f"run `make repro`, or `plumbline promote {lane}`"
            )
            raise StageError(f"no registered model of the lane's present data set; {said}")
        name = present if present in own else own[0]
    assert name is not None
    return LogSource(root, lane, name) if name in own else MlflowSource(root, lane, name)

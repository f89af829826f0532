"""What the registry knows: a lane's history, a model by its name, and MLflow rebuilt from log and shelf."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flows.registry.log import Event, Registered, fold, locked, read_log, registered_as
from flows.registry.shelf import SHELF, shelved
from flows.registry.versions import match, mlflow_client
from stages.core import tracking
from stages.core.errors import StageError
from stages.core.model.card import load_card

_DOWNLOADS = Path(".plumbline") / "downloads"


@dataclass(frozen=True)
class RepairReport:
    """What a repair brought back: runs, and versions by name."""

    runs: tracking.SyncReport
    versions: dict[str, tuple[int, ...]]

    def __str__(self) -> str:
        made = sum(len(versions) for versions in self.versions.values())
        names = ", ".join(self.versions) or "no model"
        return f"{self.runs}\nRegistry: {made} versions restored; aliases as in the log of {names}"


def history(lane: str, root: Path) -> list[Event]:
    """What happened to the lane's models, oldest first, over all its data sets."""
    return [entry for entry in read_log(root) if entry.lane == lane]


def repair(root: Path) -> RepairReport:
    """Rebuild MLflow from journal, dvc.lock, log and shelf: runs, versions with their numbers, aliases."""
    runs = tracking.rebuild(root)
    with locked(root):
        found = fold(read_log(root))
        with mlflow_client(root) as client:
            made = {name: tuple(match(client, root, registered)) for name, registered in found.items()}
    return RepairReport(runs, made)


def resolve_model(spec: str, root: Path) -> Path:
    """A model folder from what a person may write.

    Args:
        spec: a folder, relative to the current one or to the checkout; `NAME@ALIAS` or `models:/NAME@ALIAS`;
            `models:/NAME/VERSION`. Names that this checkout never registered are looked up in MLflow.
        root: the checkout.
    Raises:
        StageError: saying what is known, if there is no such model.
    """
    folder = next((f for f in (Path(spec), root / spec) if (f / "card.json").is_file()), None)
    if folder is not None:
        load_card(folder)
        return folder
    named = re.fullmatch(r"(?:models:/)?([^/@:]+)@([^/@]+)|models:/([^/@]+)/(\d+)", spec)
    if named is None:
        raise StageError(
            f"'{spec}' is no model: expected a folder with a card.json, NAME@champion or models:/NAME/VERSION"
        )
    name, alias, number = named[1] or named[3], named[2], named[4]
    registered = registered_as(root, name)
    if not registered.versions:
        return _download(root, f"models:/{name}@{alias}" if alias else f"models:/{name}/{number}")
    return _from_shelf(root, spec, registered, registered.aliases.get(alias) if alias else int(number))


def _from_shelf(root: Path, spec: str, registered: Registered, version: int | None) -> Path:
    if version is None or version not in registered.versions:
        aliases = ", ".join(f"{alias} = {number}" for alias, number in registered.aliases.items()) or "none"
        numbers = ", ".join(map(str, registered.versions))
        raise StageError(f"'{spec}': {registered.name} has the versions {numbers} and the aliases {aliases}")
    found = shelved(root, registered.name, registered.versions[version].key)
    if found is None:
        raise StageError(f"'{spec}': version {version} of {registered.name} is gone from {SHELF}")
    return found.model


def _download(root: Path, uri: str) -> Path:
    """The model folder inside a version that another checkout registered in a shared MLflow."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    names = ", ".join(sorted(fold(read_log(root)))) or "nothing yet"
    with mlflow_client(root), tempfile.TemporaryDirectory(prefix="plumbline-") as temporary:
        try:
            bundle = Path(download_artifacts(uri, dst_path=temporary))
        except MlflowException:
            raise StageError(
                f"'{uri}' is not registered in MLflow; this checkout registered {names}"
            ) from None
        card = next(bundle.glob("artifacts/*/card.json"), None)
        if card is None:
            raise StageError(f"'{uri}' was not registered by Plumbline: it holds no model folder")
        target = root / _DOWNLOADS / load_card(card.parent).key / card.parent.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(card.parent, target)
    return target

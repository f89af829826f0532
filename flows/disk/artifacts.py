"""MLflow's own copies: models that were never registered, folders that its database does not know."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING

from flows.disk import Area, Holding, newest, size
from stages.core import tracking
from stages.core.tracking.runs import all_pages
from stages.core.tracking.store import ARTIFACTS, DATABASE, KEY_TAG, is_own_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel


def holdings(root: Path, wanted: Set[str]) -> list[Holding]:
    """The checkout's own store; nothing where MLFLOW_TRACKING_URI names another.

    Args:
        root: the checkout.
        wanted: DVC keys whose models stay: those of dvc.lock, and of runs that can be switched back to.
    """
    if not is_own_store(root) or not (root / DATABASE).is_file():
        return []
    with tracking.connected(root) as client:
        models, registered, runs = _models(client), _registered(client), _runs(client)
    found = [_model(root, model, registered, wanted) for model in models]
    known = {model.model_id for model in models} | runs
    return [*found, *_unknown(root, known), *_rest(root, known), *_set_aside(root)]


def _models(client: MlflowClient) -> list[LoggedModel]:
    experiments = _experiments(client)
    return list(
        all_pages(lambda token: client.search_logged_models(experiments, max_results=50, page_token=token))
    )


def _experiments(client: MlflowClient) -> list[str]:
    from mlflow.entities import ViewType

    return [e.experiment_id for e in client.search_experiments(view_type=ViewType.ALL)]


def _registered(client: MlflowClient) -> set[str]:
    """Ids of logged models that are a registered version."""
    return {str(version.source).removeprefix("models:/") for version in client.search_model_versions()}


def _runs(client: MlflowClient) -> set[str]:
    """Runs that are not deleted."""
    experiments = _experiments(client)
    runs = all_pages(lambda token: client.search_runs(experiments, max_results=1000, page_token=token))
    return {run.info.run_id for run in runs}


def _model(root: Path, model: LoggedModel, registered: Set[str], wanted: Set[str]) -> Holding:
    folder = root / ARTIFACTS / _experiment_folder(model) / "models" / model.model_id
    key = model.tags.get(KEY_TAG, "")
    why = "neither registered, nor of a run that the checkout can restore"
    if model.model_id in registered:
        why = "a registered version"
    elif key in wanted:
        why = "of the current build, or of one that can be switched back to"
    elif not key:
        why = "not logged by Plumbline"
    removable = why.startswith("neither")
    return Holding(
        area=Area.MLFLOW,
        what=f"models {model.name}",
        bytes=size(folder),
        why=why,
        paths=(folder,) if removable else (),
        touched=newest(folder),
        models=(model.model_id,) if removable else (),
    )


def _experiment_folder(model: LoggedModel) -> str:
    return Path(model.artifact_location).parts[-4]


def _unknown(root: Path, known: set[str]) -> Iterator[Holding]:
    """Folders of runs and models that were deleted in the UI, or that a killed command left."""
    for folder in _folders(root):
        if folder.name not in known:
            name = folder.relative_to(root).as_posix()
            why = "MLflow knows no such run or model, or somebody deleted it"
            yield Holding(Area.MLFLOW, name, size(folder), why, (folder,), newest(folder))


def _rest(root: Path, known: set[str]) -> Iterator[Holding]:
    runs = [f for f in _folders(root) if f.name in known and f.parent.name != "models"]
    pictures = sum(map(size, runs))
    yield Holding(Area.MLFLOW, f"pages and pictures of {len(runs)} runs", pictures, "shown in MLflow")
    yield Holding(Area.MLFLOW, DATABASE, size(root / DATABASE), "runs, figures and the registry")


def _folders(root: Path) -> list[Path]:
    artifacts = root / ARTIFACTS
    runs = (f for f in artifacts.glob("*/*") if f.name != "models")
    return sorted(f for f in (*runs, *artifacts.glob("*/models/*")) if f.is_dir())


def _set_aside(root: Path) -> Iterator[Holding]:
    for file in sorted(root.glob(f"{DATABASE}.moved-*")):
        why = "of another folder, put aside by `plumbline repair`"
        yield Holding(Area.MLFLOW, file.name, size(file), why, (file,), newest(file))

"""The registry in MLflow: a version per registered model and the aliases, made to match the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.registry.log import CHALLENGER, CHAMPION, PREVIOUS, Registered
from flows.registry.shelf import SHELF, Shelved, shelved
from flows.registry.wording import description
from stages.core import tracking
from stages.core.errors import StageError
from stages.core.promotion.candidate import Candidate
from stages.core.tracking.models import find_model, log_model, name_version
from stages.core.tracking.runs import ensure_experiment, metric_name
from stages.core.tracking.store import KEY_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@contextmanager
def mlflow_client(root: Path) -> Iterator[MlflowClient]:
    """`tracking.connected` for commands: what fails there is said in words."""
    from mlflow.exceptions import MlflowException

    try:
        with tracking.connected(root) as client:
            yield client
    except (tracking.TrackingError, MlflowException) as error:
        raise StageError(f"MLflow ({tracking.tracking_uri(root)}): {error}") from error


def register(client: MlflowClient, root: Path, shelf: Shelved) -> int:
    """The version of a shelved model: the one with its key, or the next number."""
    candidate = shelf.candidate
    name, key = candidate.registry_name, candidate.key
    _ensure_name(client, candidate)
    found = client.search_model_versions(f"name = '{name}' and tags.`{KEY_TAG}` = '{key}'")
    if found:
        return min(int(version.version) for version in found)
    return _create(client, root, shelf)


def match(client: MlflowClient, root: Path, registered: Registered) -> list[int]:
    """Give MLflow every version, description and alias that follows from the log; returns the versions made.

    Raises:
        StageError: if a number is taken by another model, or a model is gone from the shelf.
    """
    made = []
    for version, entry in sorted(registered.versions.items()):
        shelf = shelved(root, registered.name, entry.key)
        if shelf is None:
            raise StageError(f"version {version} of {registered.name} is gone from {SHELF}")
        present = _version(client, registered.name, version)
        if present is None:
            _ensure_name(client, shelf.candidate)
            _create_as(client, root, shelf, version)
            made.append(version)
        elif present.tags.get(KEY_TAG) != entry.key:
            raise StageError(
                f"version {version} of {registered.name} in MLflow is another model than in the log "
                f"(key {entry.key[:12]}): the store belongs to another checkout; set MLFLOW_TRACKING_URI to "
                "this one's"
            )
        said = description(shelf.candidate, registered, version)
        if present is None or present.description != said:
            client.update_model_version(registered.name, str(version), description=said)
    _set_aliases(client, registered)
    return made


def _ensure_name(client: MlflowClient, candidate: Candidate) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(candidate.registry_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(
            candidate.registry_name,
            tags={"lane": candidate.lane, "dataset": candidate.dataset},
            description=(
                f"Landmark models of the lane {candidate.lane}, trained on the data set {candidate.dataset}. "
                "Research use only. Aliases: champion (in use), previous (the champion before it), "
                "challenger (the candidate refused last). Changed by `plumbline promote` and "
                "`plumbline rollback`."
            ),
        )


def _create_as(client: MlflowClient, root: Path, shelf: Shelved, number: int) -> None:
    """Create a version under a given number. MLflow only counts up, so skipped numbers are used up."""
    name = shelf.candidate.registry_name
    while (created := _create(client, root, shelf)) < number:
        client.delete_model_version(name, str(created))
    if created > number:
        client.delete_model_version(name, str(created))
        raise StageError(
            f"{name}: MLflow has given out numbers up to {created - 1} and cannot make version {number} "
            "again. Move the database away and run `plumbline repair`."
        )


def _create(client: MlflowClient, root: Path, shelf: Shelved) -> int:
    candidate = shelf.candidate
    experiment_id = ensure_experiment(client, root, candidate.lane)
    model = find_model(client, [experiment_id], candidate.key)
    if model is None:
        runs = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{candidate.key}'", max_results=1)
        tags = {KEY_TAG: candidate.key, "dataset": candidate.dataset}
        run_id = runs[0].info.run_id if runs else None
        model_id = log_model(client, experiment_id, shelf.model, tags, {}, run_id)
    else:
        model_id, run_id = model.model_id, model.source_run_id
    created = client.create_model_version(
        candidate.registry_name,
        source=f"models:/{model_id}",
        run_id=run_id,
        model_id=model_id,
        tags={
            KEY_TAG: candidate.key,
            "model_sha256": candidate.model_sha256,
            "gate_sha256": candidate.gate_sha256,
            "floor": candidate.against_floor.floor,
            **{metric_name(name): f"{value:.6g}" for name, value in candidate.metrics.items()},
        },
    )
    name_version(client, model_id, candidate.registry_name, int(created.version))
    return int(created.version)


def _version(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    """A version, or None where there is no such number."""
    found = client.search_model_versions(f"name = '{name}' and version_number = {version}")
    return found[0] if found else None


def _set_aliases(client: MlflowClient, registered: Registered) -> None:
    if not registered.versions:
        return
    present = {alias: int(v) for alias, v in client.get_registered_model(registered.name).aliases.items()}
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        wanted = registered.aliases.get(alias)
        if wanted is not None and present.get(alias) != wanted:
            client.set_registered_model_alias(registered.name, alias, str(wanted))
        elif wanted is None and alias in present:
            client.delete_registered_model_alias(registered.name, alias)

"""One record as one MLflow run: tags, parameters, figures, inputs, pictures and the model."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stages.core.tracking.contents import Contents
from stages.core.tracking.journal import Record
from stages.core.tracking.models import find_model, log_model, models_of
from stages.core.tracking.store import KEY_TAG, LANE_TAG, artifact_location

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.store.entities import PagedList

_ARTIFACT_BYTES = 5_000_000
"""Larger files stay with DVC: MLflow shows pictures and pages, it does not store data."""
_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 1000
"""Limits of MLflow's log_batch."""

_LANES = {
    "spine": "68 landmarks on frontal spine films.",
    "chest": "15 landmarks on chest films.",
    "ceph": "19 landmarks on lateral skull films.",
    "pose": "Depth of 17 body joints in motion capture.",
    "project": "Stages that span lanes.",
}
_NOTE = (
    "{about}\n\nOne run per stage and distinct input, named like the stage in `dvc.yaml`; tag `dvc.key` "
    "is DVC's own key of the run. Filter by `tags.dvc.stage = '...'` to compare the runs of one stage."
)


@dataclass(frozen=True)
class StageNotes:
    """What dvc.yaml says of a stage in words."""

    descriptions: Mapping[str, str]

    def of(self, record: Record) -> str:
        commit = f"at commit `{record.git_commit[:10]}`" if record.git_commit else "at an unknown commit"
        dirty = " with uncommitted changes" if record.git_dirty else ""
        name, _, item = record.stage.partition("@")  # of a stage that DVC repeats over a list of items
        said = self.descriptions.get(name, "").replace("${key}", item)
        built = f"Stage `{record.stage}`, built {commit}{dirty}."
        return f"{said}\n\n{built} Again: `dvc repro {record.stage}`.".strip()


def known_keys(client: MlflowClient) -> set[str]:
    """Keys of all finished runs. Runs that a killed sync left half written are removed on the way.

    A finished run that somebody deleted in the UI stays known: it does not come back.
    """
    from mlflow.entities import ViewType

    known = set()
    ids = [e.experiment_id for e in client.search_experiments(view_type=ViewType.ALL)]
    for run in _tracked_runs(client, ids):
        if run.info.status == "FINISHED":
            known.add(run.data.tags[KEY_TAG])
        elif run.info.lifecycle_stage == "active":
            for model in models_of(client, run):
                client.delete_logged_model(model.model_id)
            client.delete_run(run.info.run_id)
    return known


def log_run(client: MlflowClient, contents: Contents, record: Record, notes: StageNotes, images: bool) -> str:
    """Write one record as a run that stays RUNNING until everything is there; returns the run's id.

    Args:
        images: whether pictures and pages, which may show films, are copied.
    """
    from mlflow.entities import Param

    outputs, inputs = contents.outputs(record), contents.inputs(record)
    start, end = _span_ms(record)
    experiment_id = ensure_experiment(client, contents.root, record.lane)
    dataset = _dataset_name([*inputs.values(), *outputs.values()])
    run_id = client.create_run(
        experiment_id, start_time=start, run_name=record.stage, tags=_tags(record, dataset, notes)
    ).info.run_id

    params = flatten(record.params)
    for batch in _batches([Param(k, v) for k, v in params.items()], _PARAMS_A_BATCH):
        client.log_batch(run_id, params=batch)
    _log_inputs(client, run_id, record)
    _log_artifacts(client, run_id, outputs, images)

    model_id = None
    for path, files in outputs.items():
        if {"card.json", "weights.pt"} <= files.keys():
            with staged(files, Path(path).name) as folder:
                tags = {KEY_TAG: record.key, "dvc.stage": record.stage, "dataset": dataset}
                model_id = log_model(client, experiment_id, folder, tags, params, run_id)
    if model_id is None:
        model_id = _log_used_models(client, run_id, experiment_id, inputs)
    for metrics in _batches(_metrics(record, end, model_id), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics)
    client.set_terminated(run_id, "FINISHED", end_time=end)
    return run_id


def ensure_experiment(client: MlflowClient, root: Path, lane: str) -> str:
    """The id of the lane's experiment, created on first use, brought back if it was deleted."""
    found = client.get_experiment_by_name(lane)
    if found is None:
        tags = {
            LANE_TAG: lane,
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.note.content": _NOTE.format(about=_LANES.get(lane, f"Lane {lane}.")),
        }
        return client.create_experiment(lane, artifact_location=artifact_location(root, lane), tags=tags)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names; a list of scalars is one value, a list of tables is numbered.

    >>> flatten({"epochs": 3, "loss": {"sigma": 1.5}, "phases": [{"lr": 1}, {"lr": 2}], "size": [8, 4]})
    {'epochs': '3', 'loss.sigma': '1.5', 'phases.0.lr': '1', 'phases.1.lr': '2', 'size': '[8, 4]'}
    """
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            flat |= flatten({str(i): v for i, v in enumerate(value)}, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def metric_name(name: str) -> str:
    """A name that MLflow accepts: `mre_raw_px@0` becomes `mre_raw_px_at_0`."""
    return re.sub(r"[^/\w.\- ]", "_", name.replace("@", "_at_").replace("%", "_percent"))


def _tracked_runs(client: MlflowClient, experiment_ids: list[str]) -> Iterator[Run]:
    """All runs with a key, those deleted in the UI too."""
    from mlflow.entities import ViewType

    tracked = f"tags.`{KEY_TAG}` != ''"
    return all_pages(
        lambda token: client.search_runs(
            experiment_ids, tracked, ViewType.ALL, max_results=1000, page_token=token
        )
    )


def all_pages(search: Callable[[str | None], PagedList[Item]]) -> Iterator[Item]:
    """Everything that a search of MLflow finds, given how to ask for the page of a token."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _span_ms(record: Record) -> tuple[int, int]:
    started = record.started or datetime.datetime.now(datetime.UTC)
    start = int(started.timestamp() * 1000)
    return start, start + int(record.seconds * 1000)


def _tags(record: Record, dataset: str, notes: StageNotes) -> dict[str, str]:
    tags = {
        "dvc.stage": record.stage,
        KEY_TAG: record.key,
        "git.commit": record.git_commit,
        "git.dirty": str(record.git_dirty).lower(),
        "profile": record.profile,
        "dataset": dataset,
        "host": record.host,
        "python": record.python,
        "torch": record.torch or "",
        "backfilled": "true" if record.backfilled else "",
        "mlflow.source.name": record.stage,
        "mlflow.source.type": "PROJECT",
        "mlflow.source.git.commit": record.git_commit,
        "mlflow.note.content": notes.of(record),
    }
    return {name: value for name, value in tags.items() if value}


def _log_inputs(client: MlflowClient, run_id: str, record: Record) -> None:
    """Each data input, its digest DVC's hash: MLflow allows 36 characters, as many as `<md5>.dir` has."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entries = [
        DatasetInput(
            Dataset(_shown(d.path), d.md5, source_type="dvc", source=json.dumps({"uri": _shown(d.path)})),
            [InputTag("mlflow.data.context", record.step)],
        )
        for d in record.data
    ]
    if entries:
        client.log_inputs(run_id, datasets=entries)


def _shown(path: str) -> str:
    """An input's path; of one outside the checkout the last part alone, for its folders may name people."""
    return Path(path).name if Path(path).is_absolute() else path


def _dataset_name(folders: Sequence[Mapping[str, Path]]) -> str:
    """The data set that the first input or output with a dataset.json or card.json names; "" without one."""
    for name, field in (("dataset.json", "name"), ("card.json", "dataset")):
        for files in folders:
            if name in files:
                return str(json.loads(files[name].read_bytes()).get(field, ""))
    return ""


def _log_artifacts(
    client: MlflowClient, run_id: str, outputs: Mapping[str, Mapping[str, Path]], images: bool
) -> None:
    """Pictures, pages and small JSON below reports/ and models/, under their paths in the checkout."""
    kinds = {".json", ".png", ".html"} if images else {".json"}
    chosen = {}
    for path, files in outputs.items():
        if path.startswith(("reports/", "models/")):
            for name, file in files.items():
                whole = f"{path}/{name}" if name else path
                if Path(whole).suffix in kinds and file.stat().st_size <= _ARTIFACT_BYTES:
                    chosen[whole] = file
    if chosen:
        with staged(chosen, "artifacts") as folder:
            client.log_artifacts(run_id, str(folder))


@contextmanager
def staged(files: Mapping[str, Path], name: str) -> Iterator[Path]:
    """A temporary folder `name` with copies of files under their own names, which DVC's cache lacks."""
    with tempfile.TemporaryDirectory(prefix="plumbline-") as temporary:
        folder = Path(temporary) / name
        for relative, file in files.items():
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        yield folder


def _log_used_models(
    client: MlflowClient, run_id: str, experiment_id: str, inputs: Mapping[str, Mapping[str, Path]]
) -> str | None:
    """Link the run to the logged models among its inputs: an evaluation's figures then stand at the model."""
    from mlflow.entities import LoggedModelInput

    used = None
    for files in inputs.values():
        if {"card.json", "weights.pt"} <= files.keys():
            model = find_model(client, [experiment_id], json.loads(files["card.json"].read_bytes())["key"])
            if model is not None:
                client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
                used = model.model_id
    return used


def _metrics(record: Record, end: int, model_id: str | None) -> list[Metric]:
    """Final figures under their names, the figures of each epoch as `history/NAME`."""
    from mlflow.entities import Metric

    measured_on: dict[str, str] = {}
    if model_id is not None and (films := next((d for d in record.data if d.path.startswith("data/")), None)):
        measured_on = {"dataset_name": films.path, "dataset_digest": films.md5}
    metrics = [
        Metric(metric_name(name), value, end, 0, model_id=model_id, **measured_on)
        for name, value in record.metrics.items()
        if value is not None
    ]
    for row in record.history:
        step = int(row["step"] or 0)
        metrics += [
            Metric(metric_name(f"history/{name}"), value, end, step)
            for name, value in row.items()
            if name != "step" and value is not None
        ]
    return metrics


Item = TypeVar("Item")


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

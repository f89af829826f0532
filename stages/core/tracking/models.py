"""Model folders as MLflow models: a thin pyfunc around `stages.<lane>.predict`, signature and packages."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.tracking.example import input_example
from stages.core.tracking.store import KEY_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import ModelSignature

_VERSIONS_TAG = "mlflow.modelVersions"
SERVING_PACKAGES = (
    "albumentations",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "pydicom",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchvision",
)
"""What `stages.<lane>.predict` needs. Named here because MLflow would load the model to find out."""


def log_model(
    client: MlflowClient,
    experiment_id: str,
    folder: Path,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    run_id: str | None,
) -> str:
    """Log a model folder together with the code that runs it; returns the id of the logged model.

    Built from the client's own steps, because `mlflow.pyfunc.log_model` would run the model on its example
    and needs an active run.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    import stages

    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    of_films = card["input"] is not None
    logged = client.create_logged_model(
        experiment_id,
        name=f"{card['lane']}-{folder.name}",
        source_run_id=run_id,
        tags={"mlflow.note.content": _note(card)} | {k: v for k, v in tags.items() if v},
        params=dict(params),
        model_type=str(card["architecture"]),
    )
    with tempfile.TemporaryDirectory(prefix="plumbline-") as temporary:
        target = Path(temporary) / "model"
        mlflow.pyfunc.save_model(
            target,
            python_model=str(Path(__file__).with_name("bundle.py")),
            artifacts={"model": str(folder)},
            code_paths=[str(Path(str(stages.__file__)).parent)],
            signature=signature(of_films),
            input_example=input_example(card["input"]),
            pip_requirements=requirements(),
            metadata={k: card[k] for k in ("lane", "dataset", "key", "research_use_only") if k in card},
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_id=logged.model_id,
                model_uuid=logged.model_id,
            ),
        )
        client.log_model_artifacts(logged.model_id, str(target))
    client.finalize_logged_model(logged.model_id, "READY")
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return logged.model_id


def name_version(client: MlflowClient, model_id: str, name: str, version: int) -> None:
    """Note at a logged model that it is registered; MLflow does so only behind a server."""
    said = client.get_logged_model(model_id).tags.get(_VERSIONS_TAG)
    registered = json.loads(said) if said else []
    entry = {"name": name, "version": str(version)}
    if entry not in registered:
        client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps([*registered, entry])})


def find_model(client: MlflowClient, experiment_ids: Sequence[str], key: str) -> LoggedModel | None:
    """The finished logged model of this DVC key, or None."""
    found = client.search_logged_models(list(experiment_ids), filter_string=f"tags.`{KEY_TAG}` = '{key}'")
    return next((m for m in found if m.status.name == "READY"), None)


def _note(card: Mapping[str, object]) -> str:
    return (
        f"Landmarks of the lane {card['lane']}, trained on the data set {card['dataset']}. "
        "Research use only.\n\nGive it a table with a column `path` or `content`, one file a row: "
        "`mlflow.pyfunc.load_model(...).predict(table)`, or serve it: `mlflow models serve --env-manager local`. "
        "`serving_input_example.json` among its files is a request that it answers."
    )


def models_of(client: MlflowClient, run: Run) -> list[LoggedModel]:
    """The logged models of a run, finished or not."""
    made_by = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models([run.info.experiment_id], filter_string=made_by))


def signature(of_films: bool) -> ModelSignature:
    """What the served model takes and gives: one row a file, by path on the server or by content, with hints.

    Landmarks are a list of points for a film, and a list of those, one a frame, for a file of poses.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, DataType

    points = Array(Array(DataType.double))
    landmarks = points if of_films else Array(points)
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.string, "path", required=False),
                ColSpec(DataType.binary, "content", required=False),
                ColSpec(DataType.string, "hints", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.string, "file"),
                ColSpec(landmarks, "landmarks"),
                ColSpec(DataType.string, "answer"),
            ]
        ),
        params=ParamSchema([ParamSpec("allow_phantom", DataType.boolean, False)]),
    )


def requirements() -> list[str]:
    """The serving packages at the versions installed here, local build labels (`+cpu`) left off."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in SERVING_PACKAGES]

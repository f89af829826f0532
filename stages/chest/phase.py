"""Stage chest-phase@NAME: one phase of the regressor's curriculum, from the weights of its parent.

A phase is data: its entry in `chest.phases` of params.yaml names the parent, the losses and their weights, and
the learning rates. Losses are in px at 224 and mirrored films exchange their sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stages.chest.regressor.settings import TrainingParams
from stages.chest.schema import CHEST
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.stage import Observer, stage_main

if TYPE_CHECKING:
    from stages.core.model.card import ModelCard

PREDICTED_ROLES = ("val", "gate", "test")


class Params(TrainingParams):
    """What all phases share, with one phase's entry laid over it.

    Attributes:
        parent: name of the phase (or `start`) whose weights this one goes on from.
        attention: whether the network has attention; one that the parent lacks starts afresh.
    """

    section: ClassVar[str] = "chest.regressor"
    each: ClassVar[str | None] = "chest.phases"
    parent: str
    attention: bool


def run(
    params: Params, films: Path, split: Path, parent: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Train on the role train, choose the epoch on val, and write the model folder.

    Beside the model stands predictions.parquet (id, role, method, landmarks in raw px), the method being
    the phase's name, for every film of the roles val, gate and test.

    Raises:
        StageError: `parent` is another than the phase's, was made from another split, or does not fit.
    """
    from stages.chest.regressor.inference import load_network, predict_raw
    from stages.chest.regressor.predictions import write_predictions
    from stages.chest.regressor.training import Judge, train
    from stages.core.model.card import InputSize, ModelCard, load_card, save_model
    from stages.core.model.inputs import n_parameters
    from stages.core.train import runtime

    data, digest = LabelledFilms.open(films, split), split_digest(read_split(split))
    ancestor = load_card(parent)
    _require_parent(params, parent, ancestor, digest)
    device = runtime.prepare(params.device, params.threads, params.seed)
    size = (params.input, params.input)
    started_at = Judge(data, size).error(load_network(parent, ancestor).to(device), device)
    # Seeded again: fresh weights must not hang on what was built before them.
    runtime.seed_everything(params.seed)
    network = load_network(parent, ancestor, params.attention)
    fitted = train(network, data, params, device, observe, output.name)

    rows = data.rows(*PREDICTED_ROLES)
    architecture = network.architecture.model_dump(mode="json")
    card = ModelCard(
        lane=CHEST.lane,
        dataset=data.films.info.name,
        architecture="resnet-regressor",
        key=observe.key,
        params=params.model_dump(mode="json") | {"architecture": architecture},
        input=InputSize(height=params.input, width=params.input),
        schema=CHEST.names,
        n_train=len(data.trainable()),
        split_sha256=digest,
    )
    save_model(output, network, card)
    write_predictions(
        output / "predictions.parquet",
        data,
        rows,
        output.name,
        predict_raw(network, data, rows, size, device),
    )
    return {
        "n_train": len(data.trainable()),
        "n_val": len(data.trainable("val")),
        "n_parameters": n_parameters(network),
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs,
        "val_error_px224": fitted.best_value,
        "parent_val_error_px224": started_at,
        "change_px224": fitted.best_value - started_at,
    }


def _require_parent(params: Params, parent: Path, card: ModelCard, split_sha256: str) -> None:
    if parent.name != params.parent:
        raise StageError(f"this phase goes on from '{params.parent}', but --parent is {parent}")
    if card.split_sha256 != split_sha256:
        raise StageError(f"{parent} was made from another split: run `dvc repro` to make it again")


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""The model folder of a network that learned from an error set: Detector and Corrector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.model.card import InputSize, ModelCard, save_model
from stages.core.stage import Observer
from stages.spine.error_set import ErrorSet
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import nn

    from stages.core.train.trainer import Fitted


def save_learned(
    output: Path,
    network: nn.Module,
    fitted: Fitted,
    architecture: str,
    size: tuple[int, int],
    params: dict[str, Any],
    data: LabelledFilms,
    examples: ErrorSet,
    split: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the model folder of a network that learned from an error set; returns the metrics of its training.

    Args:
        size: (height, width) of the films that it reads, px.
        params: of the stage; its seed says which patients were held out.
    """
    from stages.core.model.inputs import n_parameters

    card = ModelCard(
        lane=SCHEMA.lane,
        dataset=data.films.info.name,
        architecture=architecture,
        key=observe.key,
        params=params,
        input=InputSize(height=size[0], width=size[1]),
        schema=SCHEMA.names,
        n_train=len(set(examples.hold_out(params["seed"])[0].rows)),
        split_sha256=split_digest(read_split(split)),
    )
    save_model(output, network, card)
    best = observe.history[fitted.best_epoch]
    return {
        "n_examples": len(examples),
        "n_films": len(set(examples.rows)),
        "n_parameters": n_parameters(network),
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs,
        **{name: value for name, value in best.items() if name.startswith("val_")},
    }

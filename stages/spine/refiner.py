"""Stage spine-refiner: a network from films and hints to the corners of the vertebrae."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.refining.pairs import Pairs
from stages.spine.refining.settings import RefinerSettings
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from stages.core.train.trainer import Fitted
    from stages.spine.refining.inference import Refiner


class Params(StageParams, RefinerSettings):
    section: ClassVar[str] = "spine.refiner"
    seed: int
    threads: int
    device: str
    world_size: int = Field(ge=1)


def run(
    params: Params, films: Path, audit: Path, split: Path, pairs: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Train on the role train, choose the epoch on val, and write the model folder."""
    from stages.core.model.card import ModelCard, save_model
    from stages.core.model.inputs import n_parameters
    from stages.core.train import distributed

    data = LabelledFilms.open(films, split, audit)
    refiner, fitted = distributed.launch(
        params.world_size, params.device, _train, params, films, audit, split, pairs, observe
    )
    network = refiner.members[0].network
    card = ModelCard(
        lane=SCHEMA.lane,
        dataset=data.films.info.name,
        architecture=f"refiner-{params.network.form}",
        key=observe.key,
        params=params.model_dump(mode="json"),
        input=params.input,
        schema=SCHEMA.names,
        n_train=len(data.trainable()),
        split_sha256=split_digest(read_split(split)),
    )
    save_model(output, network, card)
    return {
        "n_train": len(data.trainable()),
        "n_val": len(data.trainable("val")),
        "n_parameters": n_parameters(network),
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs,
        "val_error_raw_px": fitted.best_value,
    }


def _train(
    params: Params, films: Path, audit: Path, split: Path, pairs: Path, observe: Observer
) -> tuple[Refiner, Fitted]:
    """Fit the network; in every process of a team, which is why it opens the files itself."""
    from stages.spine.refining.training import train_refiner

    data = LabelledFilms.open(films, split, audit)
    watched = Pairs.load(pairs) if params.needs_pairs else None
    return train_refiner(
        data,
        data.trainable("train"),
        data.trainable("val"),
        SCHEMA,
        params,
        params.seed,
        params.threads,
        params.device,
        watched,
        observe,
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

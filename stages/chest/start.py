"""Stage chest-start: the weights that the regressor's phases begin with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.chest.regressor.architecture import Architecture
from stages.chest.schema import CHEST
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

RANDOM = "random"


class Params(StageParams):
    """Where the weights come from.

    Attributes:
        weights: `random`, or the path of a state dict (see stages/chest/regressor/pretrained.py) whose
            backbone is taken; the head is random in any case.
        weights_sha256: of that file.
        architecture: of this network and of all phases that descend from it, but for attention.
    """

    section: ClassVar[str] = "chest.start"
    seed: int
    threads: int
    weights: str
    weights_sha256: str
    architecture: Architecture


def run(params: Params, films: Path, split: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write a model folder whose network answers about the mean shape of the training films."""
    import torch

    from stages.chest.regressor.network import LandmarkRegressor
    from stages.chest.regressor.pretrained import checked_digest, load_backbone
    from stages.core.model.card import InputSize, ModelCard, save_model
    from stages.core.model.inputs import n_parameters
    from stages.core.train import runtime

    data = LabelledFilms.open(films, split)
    rows = data.trainable()
    runtime.prepare("cpu", params.threads, params.seed)
    network = LandmarkRegressor(params.architecture, CHEST.n_points)
    origin = RANDOM
    if params.weights != RANDOM:
        file = Path(params.weights)
        origin = f"sha256:{checked_digest(file, params.weights_sha256)}"
        load_backbone(network.backbone, params.architecture, file)
    mean_shape = torch.tensor(data.landmarks_model[rows].mean(0), dtype=torch.float32)
    network.start_at(mean_shape, *data.films.model_size)
    card = ModelCard(
        lane=CHEST.lane,
        dataset=data.films.info.name,
        architecture="resnet-regressor",
        key=observe.key,
        params={
            "seed": params.seed,
            "start": origin,
            "architecture": params.architecture.model_dump(mode="json"),
        },
        input=InputSize(height=data.films.model_size[0], width=data.films.model_size[1]),
        schema=CHEST.names,
        n_train=len(rows),
        split_sha256=split_digest(read_split(split)),
    )
    save_model(output, network, card)
    return {"n_train": len(rows), "n_parameters": n_parameters(network)}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

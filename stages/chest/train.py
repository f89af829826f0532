"""Stage chest-train: a network from films to points; wing loss in px at 224, mirrors exchange the sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.chest.regressor.architecture import Architecture
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from stages.chest.regressor.network import LandmarkRegressor
    from stages.core.train.trainer import Batch, Fitted


class Wing(BaseModel):
    """Parameters of the wing loss in px of a film stretched to 224 x 224, whatever size the network reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    width_px224: float = Field(gt=0)
    curvature_px224: float = Field(gt=0)


class Params(StageParams):
    section: ClassVar[str] = "chest.train"
    seed: int
    threads: int
    device: str
    input: int = Field(ge=32)
    architecture: Architecture
    wing: Wing
    augment: Augmentation
    fit: Plan

    @model_validator(mode="after")
    def _the_loss_has_a_weight(self) -> Params:
        for phase in self.fit.phases:
            if phase.weights.keys() != {"wing"}:
                raise ValueError(f"phase '{phase.name}': the weight of 'wing' expected")
        return self


def run(params: Params, films: Path, split: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Train on the role train, choose the epoch on val, and write the model folder."""
    from stages.chest.regressor.network import n_parameters
    from stages.core.model.card import InputSize, ModelCard, save_model

    data = LabelledFilms.open(films, split)
    network, fitted = train_network(data, params, observe)
    card = ModelCard(
        lane=CHEST.lane,
        dataset=data.films.info.name,
        architecture="resnet-regressor",
        key=observe.key,
        params=params.model_dump(mode="json") | {"stored_size": list(data.films.model_size)},
        input=InputSize(height=params.input, width=params.input),
        schema=CHEST.names,
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
        "val_error_px224": fitted.best_value,
    }


def train_network(data: LabelledFilms, params: Params, observe: Observer) -> tuple[LandmarkRegressor, Fitted]:
    """Fit a network to the films of the role train; the epoch with the lowest error on val is kept."""
    import torch

    from stages.chest.regressor.inference import predict_input, to_input
    from stages.chest.regressor.loss import wing_loss
    from stages.chest.regressor.network import LandmarkRegressor
    from stages.core.evaluate.errors import film_errors, scaled_errors
    from stages.core.train import runtime, trainer
    from stages.core.train.augment import Photometry, draw_warps, warp_films, warp_points

    rows, val = data.trainable("train"), data.trainable("val")
    size = (params.input, params.input)
    to_network = geometry.resize_matrix(data.films.model_size, size)
    points = geometry.apply(to_network, data.landmarks_model[rows])
    sizes_raw = data.films.sizes_raw
    inputs, val_inputs = (to_input(data.films.images[r], size) for r in (rows, val))

    device = runtime.prepare(params.device, params.threads, params.seed)
    network = LandmarkRegressor(params.architecture, CHEST.n_points)
    network.start_at(torch.tensor(points.mean(0), dtype=torch.float32), *size)
    network.to(device)
    photometry = Photometry(params.augment.photometric)
    to_px224 = REPORT_FRAME[0] / params.input

    def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        warps = draw_warps(batch.rng, params.augment, sizes_raw[rows[batch.samples]], size)
        films = photometry(warp_films(inputs[batch.samples], warps), batch.rng)
        truth = torch.from_numpy(warp_points(points[batch.samples], warps, CHEST)).float().to(device)
        predicted = network(torch.from_numpy(films).to(device).float() / 255)
        error_px224 = (predicted - truth) * to_px224
        wing = wing_loss(error_px224, params.wing.width_px224, params.wing.curvature_px224)
        return batch.phase.weights["wing"] * wing, {"wing": wing}

    def validate() -> dict[str, float]:
        stored = geometry.apply(geometry.invert(to_network), predict_input(network, val_inputs, device))
        predicted_raw = data.films.to_raw(stored, val)
        errors = scaled_errors(predicted_raw, data.landmarks_raw[val], sizes_raw[val], REPORT_FRAME)
        return {"val_error_px224": float(np.mean(film_errors(errors)))}

    groups = {"backbone": network.backbone, "head": network.head}
    fitted = trainer.fit(
        network,
        groups,
        len(rows),
        loss,
        validate,
        params.fit,
        params.seed,
        device,
        observe,
        name="regressor",
    )
    return network, fitted


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

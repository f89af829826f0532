"""Stage spine-train: a heatmap network from films to the corners of the vertebrae."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import read_split, split_digest
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan
from stages.spine.heatmap.architecture import Architecture
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

    from stages.core.train.trainer import Batch, Fitted
    from stages.spine.heatmap.network import HeatmapNetwork


LOSSES = ("cross_entropy", "l1_cells")


class InputSize(BaseModel):
    """Size of the films that the network reads, in px; stored films are resized to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    height: int = Field(ge=32)
    width: int = Field(ge=32)

    @property
    def size(self) -> geometry.Size:
        return self.height, self.width


class Params(StageParams):
    section: ClassVar[str] = "spine.train"
    seed: int
    threads: int
    device: str
    input: InputSize
    network: Architecture
    augment: Augmentation
    fit: Plan

    @model_validator(mode="after")
    def _every_loss_has_a_weight(self) -> Params:
        for phase in self.fit.phases:
            if phase.weights.keys() != set(LOSSES):
                raise ValueError(f"phase '{phase.name}': weights of {', '.join(LOSSES)} expected")
        return self


def run(
    params: Params, films: Path, audit: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Train on the role train, choose the epoch on val, and write the model folder."""
    from stages.core.model.card import InputSize as CardInput
    from stages.core.model.card import ModelCard, save_model
    from stages.spine.heatmap.network import n_parameters

    data = LabelledFilms.open(films, split, audit)
    network, fitted = train_network(data, SCHEMA, params, observe)
    card = ModelCard(
        lane=SCHEMA.lane,
        dataset=data.films.info.name,
        architecture="heatmap-network",
        key=observe.key,
        params=params.model_dump(mode="json"),
        input=CardInput(height=params.input.height, width=params.input.width),
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


def train_network(
    data: LabelledFilms, schema: LandmarkSchema, params: Params, observe: Observer
) -> tuple[HeatmapNetwork, Fitted]:
    """Fit a network to the films of role train whose labels the audit lets be used; any vertebral schema."""
    import torch

    from stages.core.evaluate.errors import film_errors, radial_errors
    from stages.core.model.codecs import SoftmaxHeatmap
    from stages.core.train import runtime, trainer
    from stages.core.train.augment import Photometry, draw_warps, warp_films, warp_points
    from stages.spine.heatmap import loss as losses
    from stages.spine.heatmap.inference import predict_input, to_input
    from stages.spine.heatmap.network import HeatmapNetwork, as_input

    rows, val = data.trainable("train"), data.trainable("val")
    size = params.input.size
    to_network = geometry.resize_matrix(data.films.model_size, size)
    points = geometry.apply(to_network, data.landmarks_model[rows])
    sizes_raw = data.films.sizes_raw[rows]
    inputs, val_inputs = (to_input(data.films.images[r], size) for r in (rows, val))

    device = runtime.prepare(params.device, params.threads, params.seed)
    built = params.network
    network = HeatmapNetwork(built, schema.n_points, size).to(device)
    codec = SoftmaxHeatmap(sigma=built.sigma, stride=built.stride)
    photometry = Photometry(params.augment.photometric)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        warps = draw_warps(batch.rng, params.augment, sizes_raw[batch.samples], size)
        images = photometry(warp_films(inputs[batch.samples], warps), batch.rng)
        truth = torch.from_numpy(warp_points(points[batch.samples], warps, schema)).float().to(device)
        logits = network(as_input(torch.from_numpy(images).to(device)))
        counted = losses.inside(truth, size)
        parts = {
            "cross_entropy": losses.cross_entropy(logits, codec.encode(truth, size), counted),
            "l1_cells": losses.l1(codec.decode(logits.float()), truth, counted) / built.stride,
        }
        return torch.stack([batch.phase.weights[name] * parts[name] for name in LOSSES]).sum(), parts

    def validate() -> dict[str, float]:
        predicted = predict_input(network, codec, schema, built.average_mirror, val_inputs, device)
        predicted_raw = data.films.to_raw(geometry.apply(geometry.invert(to_network), predicted), val)
        errors = radial_errors(predicted_raw, data.landmarks_raw[val])
        return {"val_error_raw_px": float(np.mean(film_errors(errors)))}

    groups = {"backbone": network.backbone, "head": network.head}
    fitted = trainer.fit(
        network, groups, len(rows), loss, validate, params.fit, params.seed, device, observe, name="heatmap"
    )
    return network, fitted


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

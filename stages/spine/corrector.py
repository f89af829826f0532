"""Stage spine-corrector: a network that moves points which may be wrong to where they should be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan
from stages.spine.correcting.architecture import LOSSES, Architecture
from stages.spine.error_set import ErrorSet
from stages.spine.learned import save_learned
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

    from stages.core.train.trainer import Batch, Fitted
    from stages.spine.correcting.network import DeepLabCorrector, HeatmapCorrector


class Params(StageParams):
    """See params.yaml for what each key means."""

    section: ClassVar[str] = "spine.corrector"
    seed: int
    threads: int
    device: str
    network: Architecture
    samples_per_epoch: int = Field(ge=1)
    augment: Augmentation
    fit: Plan

    @model_validator(mode="after")
    def _every_loss_has_a_weight(self) -> Params:
        losses = LOSSES[self.network.form]
        for phase in self.fit.phases:
            if phase.weights.keys() != set(losses):
                raise ValueError(
                    f"phase '{phase.name}': weights of {', '.join(losses)} expected for {self.network.form}"
                )
        return self


def run(
    params: Params, films: Path, audit: Path, split: Path, errors: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Train on the error set, choose the epoch on its patients held out, and write the model folder."""
    data = LabelledFilms.open(films, split, audit)
    examples = ErrorSet.open(errors, data)
    network, fitted = train_corrector(data, SCHEMA, examples, params, observe)
    return save_learned(
        output, network, fitted, f"spine-corrector-{params.network.form}", params.network.input.size,
        params.model_dump(mode="json"), data, examples, split, observe,
    )  # fmt: skip


def train_corrector(
    data: LabelledFilms, schema: LandmarkSchema, examples: ErrorSet, params: Params, observe: Observer
) -> tuple[DeepLabCorrector | HeatmapCorrector, Fitted]:
    """Fit a Corrector to an error set, its target the labels; any vertebral schema.

    Validation looks at out-of-fold examples without clicks, of patients that training does not see.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from stages.core.evaluate.errors import radial_errors
    from stages.core.model import imagenet
    from stages.core.model import landmark_loss as losses
    from stages.core.model.inputs import as_input, to_input
    from stages.core.train import runtime, trainer
    from stages.core.train.augment import Photometry, draw_warps, warp_films, warp_points
    from stages.spine.correcting.inference import propose_input
    from stages.spine.correcting.network import HeatmapCorrector, build_network

    train, held = examples.hold_out(params.seed)
    held = held.unassisted()
    size = params.network.input.size
    matrix = geometry.resize_matrix(data.films.model_size, size)
    # One picture a film, however many examples it has; `place` finds a film's picture.
    own = np.unique(train.rows)
    place = np.searchsorted(own, train.rows)
    images, held_images = (to_input(data.films.images[rows], size) for rows in (own, held.rows))
    given, held_given = (geometry.apply(matrix, part.landmarks_model) for part in (train, held))
    labels = geometry.apply(matrix, data.landmarks_model[own])

    device = runtime.prepare(params.device, params.threads, params.seed)
    network = build_network(params.network, schema)
    heatmaps = params.network.heatmaps
    if isinstance(network, HeatmapCorrector) and heatmaps.weights == "imagenet":
        imagenet.load(network.network.backbone, heatmaps.backbone)
    network.to(device)
    photometry = Photometry(params.augment.photometric)
    stride = network.codec.stride

    def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = train.draw(batch.rng, len(batch.samples))
        warps = draw_warps(batch.rng, params.augment, data.films.sizes_raw[train.rows[drawn]], size)
        films = photometry(warp_films(images[place[drawn]], warps), batch.rng)
        points, truth = (
            torch.from_numpy(warp_points(p, warps, schema)).float().to(device)
            for p in (given[drawn], labels[place[drawn]])
        )
        logits = network(as_input(torch.from_numpy(films).to(device)), points)
        target = network.codec.encode(truth, size)
        if params.network.form == "deeplab":
            parts = {"bce": binary_cross_entropy_with_logits(logits, target)}
        else:
            counted = losses.inside(truth, size)
            l1 = losses.l1(network.codec.decode(logits.float()), truth, counted)
            parts = {
                "cross_entropy": losses.cross_entropy(logits, target, counted),
                "l1_cells": l1 / stride,
            }
        return torch.stack([batch.phase.weights[name] * part for name, part in parts.items()]).sum(), parts

    def validate() -> dict[str, float]:
        proposed = geometry.apply(
            geometry.invert(matrix), propose_input(network, schema, held_images, held_given, device)
        )
        errors = radial_errors(data.films.to_raw(proposed, held.rows), data.landmarks_raw[held.rows])
        return {
            "val_error_raw_px": float(errors.mean()),
            "val_input_error_raw_px": float(held.errors_raw.mean()),
        }

    fitted = trainer.fit(
        network, {"network": network}, params.samples_per_epoch, loss, validate, params.fit, params.seed,
        device, observe, name="corrector",
    )  # fmt: skip
    return network, fitted


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

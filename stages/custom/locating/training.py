"""Fitting the network of a described lane, step by step from small pictures to those that prediction reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.model import imagenet
from stages.core.model import landmark_loss as losses
from stages.core.model.inputs import as_input
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train.augment import Photometry, draw_warps, warp_films, warp_points
from stages.custom.locating.inference import Locator
from stages.custom.locating.network import LandmarkNetwork, codec
from stages.custom.locating.pictures import apply_each, to_pictures
from stages.custom.locating.settings import LOSSES, LocatorSettings, Step

WATCHED = 12
"""val films that each epoch is judged on; no epoch is chosen by them"""


@dataclass(frozen=True)
class Films:
    """Stored films (N, H, W) uint8, points (N, K, 2) in their px with NaN where one is missing, raw sizes (N, 2)."""

    images: np.ndarray
    points: np.ndarray
    sizes_raw: np.ndarray


def fit(
    settings: LocatorSettings,
    schema: LandmarkSchema,
    train: Films,
    val: Films,
    observe: Observer,
    seed: int,
    threads: int,
    device_name: str,
) -> tuple[LandmarkNetwork, int]:
    """Fit a network; returns it on the CPU, and how many epochs it took.

    Raises:
        StageError: a phase weighs a loss that there is not, or the plan does not fit the films.
    """
    weighed = {name for step in settings.steps for phase in step.fit.phases for name in phase.weights}
    if unknown := sorted(weighed - set(LOSSES)):
        raise StageError(f"no losses {', '.join(unknown)}; there are {', '.join(LOSSES)}")
    device = runtime.prepare(device_name, threads, seed)
    # Deterministic mode also clears all fresh memory, a quarter of a step's time; nothing here reads it unset.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    network = LandmarkNetwork(settings.network, schema.n_points)
    if settings.network.weights == "imagenet":
        imagenet.load(network.backbone, settings.network.backbone)
    network.to(device)
    epochs = 0
    for number, step in enumerate(settings.steps):
        told = _Later(observe, epochs)
        learn = _Learning(network, settings, step, schema, train, val, device)
        fitted = trainer.fit(
            network,
            network.groups(),
            len(train.images),
            learn.loss,
            learn.validate,
            step.fit,
            seed + number,
            device,
            told,
            name=f"step-{number}",
        )
        epochs += fitted.epochs
    return network.cpu().eval(), epochs


class _Learning:
    """Loss and validation of one step."""

    def __init__(
        self,
        network: LandmarkNetwork,
        settings: LocatorSettings,
        step: Step,
        schema: LandmarkSchema,
        train: Films,
        val: Films,
        device: torch.device,
    ) -> None:
        self.network, self.settings, self.schema, self.device = network, settings, schema, device
        self.size: geometry.Size = step.input.size
        self.pictures, maps = to_pictures(train.images, train.sizes_raw, self.size)
        self.points = apply_each(maps, train.points)
        self.val = Films(val.images[:WATCHED], val.points[:WATCHED], val.sizes_raw[:WATCHED])
        # Points without mirror partners are those of films that are taken from one side only.
        mirror = settings.augment.mirror if schema.pairs else 0.0
        self.augment = settings.augment.model_copy(update={"mirror": mirror})
        self.photometry = Photometry(settings.augment.photometric)
        self.codec = codec(settings.network)

    def loss(self, batch: trainer.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        rows = batch.samples
        sides = np.broadcast_to((self.size[1], self.size[0]), (len(rows), 2))
        warps = draw_warps(batch.rng, self.augment, sides, self.size)
        films = self.photometry(warp_films(self.pictures[rows], warps), batch.rng)
        truth = torch.from_numpy(warp_points(self.points[rows], warps, self.schema)).float().to(self.device)
        logits = self.network(as_input(torch.from_numpy(films).to(self.device))).float()
        counted = losses.inside(truth, self.size)
        parts = {
            "cross_entropy": losses.cross_entropy(logits, self.codec.encode(truth, self.size), counted),
            "l1_cells": losses.l1(self.codec.decode(logits), truth, counted) / self.settings.network.stride,
        }
        weights = {name: share for name, share in batch.phase.weights.items() if share}
        total = torch.stack([share * parts[name] for name, share in weights.items()]).sum()
        return total, {name: parts[name] for name in weights}

    def validate(self) -> dict[str, float]:
        locator = Locator(self.network, self.settings, self.size, self.device)
        found = locator.locate(self.val.images, self.val.sizes_raw, (0.0,)).points
        return {"val_error_model_px": float(np.nanmean(film_errors(radial_errors(found, self.val.points))))}


class _Later(Observer):
    """Tells another observer of epochs that are counted on from those of an earlier step."""

    def __init__(self, observe: Observer, first_epoch: int) -> None:
        super().__init__(observe._scratch, observe.key, echo=False)
        self._told, self._first_epoch = observe, first_epoch

    def __call__(self, step: int, **metrics: float) -> None:
        self._told(self._first_epoch + step, **metrics)

    def progress(self, done: int, total: int, unit: str) -> None:
        self._told.progress(done, total, unit)

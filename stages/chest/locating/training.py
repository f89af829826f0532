"""Fitting one locating network: what all folds of chest-coarse and chest-fine share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from stages.chest.alignment import apply_each
from stages.chest.locating.frames import Frames
from stages.chest.locating.inference import TrainedLocator, augmented, crop
from stages.chest.locating.network import Locator
from stages.chest.locating.settings import LocatorSettings
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.errors import film_errors, scaled_errors
from stages.core.model import imagenet
from stages.core.model import landmark_loss as losses
from stages.core.model.inputs import as_input
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train.augment import Photometry, draw_warps

WATCHED = 48
"""Held-out films that each epoch is judged on, for the curve alone: no epoch is chosen."""


def train_locator(
    data: LabelledFilms,
    learn: np.ndarray,
    held_out: np.ndarray,
    frames: Frames,
    settings: LocatorSettings,
    seed: int,
    threads: int,
    device_name: str,
    observe: Observer,
    name: str,
) -> TrainedLocator:
    """Fit a network to the films `learn`, and keep the last epoch's weights.

    Args:
        data: films with whole labels.
        learn, held_out: row numbers of `data`.
        frames: which part of a film the network reads.
        name: tells apart several fits of one stage.
    """
    size = settings.size
    labels = data.landmarks_model
    images = data.films.images
    sides = np.full((len(images), 2), settings.input)

    device = runtime.prepare(device_name, threads, seed)
    network = Locator(settings.network, CHEST.n_points, settings.input)
    if settings.network.weights == "imagenet":
        imagenet.load(network.backbone, settings.network.backbone)
    network.to(device)
    trained = TrainedLocator((network,), settings, device)
    codec, cell = trained.codec, settings.network.cell
    photometry = Photometry(settings.augment.photometric)
    watched = held_out[:WATCHED]

    def loss(batch: trainer.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        rows = learn[batch.samples]
        warps = augmented(
            frames.drawn(batch.rng, rows), draw_warps(batch.rng, settings.augment, sides[rows], size)
        )
        films = photometry(crop(images[rows], warps.matrices, size), batch.rng)
        points = apply_each(warps.matrices, labels[rows])
        points[warps.mirrored] = points[warps.mirrored][:, CHEST.swap]
        truth = torch.from_numpy(points).float().to(device)
        logits = network(as_input(torch.from_numpy(films).to(device))).float()
        counted = losses.inside(truth, size)
        parts = {
            "cross_entropy": losses.cross_entropy(logits, codec.encode(truth, size), counted),
            "l1_cells": losses.l1(codec.decode(logits), truth, counted) / cell,
        }
        weights = {part: weight for part, weight in batch.phase.weights.items() if weight}
        total = torch.stack([weight * parts[part] for part, weight in weights.items()]).sum()
        return total, {part: parts[part] for part in weights}

    def validate() -> dict[str, float]:
        return {"val_error_px224": float(np.mean(errors_px224(data, watched, trained, frames)))}

    groups: dict[str, nn.Module] = {"backbone": network.backbone, "head": network.head}
    trainer.fit(
        network, groups, len(learn), loss, validate, settings.fit, seed, device, observe, name=name
    )  # fmt: skip
    return trained


def errors_px224(
    data: LabelledFilms, rows: np.ndarray, trained: TrainedLocator, frames: Frames
) -> np.ndarray:
    """Mean error of each film of `rows`, px at 224."""
    found = trained.locate(data.films.images[rows], frames.fixed(rows)).points
    raw = data.films.to_raw(found, rows)
    return film_errors(scaled_errors(raw, data.landmarks_raw[rows], data.films.sizes_raw[rows], REPORT_FRAME))

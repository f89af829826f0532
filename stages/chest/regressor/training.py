"""Training of a regressor on the role train: films moved and mirrored, losses in px at 224, val chooses the epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.chest.regressor.inference import predict_input
from stages.chest.regressor.loss import PointLoss, build_losses
from stages.chest.regressor.network import LandmarkRegressor
from stages.chest.regressor.settings import Symmetry, TrainingParams, Wing
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.errors import film_errors, scaled_errors
from stages.core.model.inputs import to_input
from stages.core.stage import Observer
from stages.core.train import trainer
from stages.core.train.augment import Photometry, Warps, draw_warps, warp_films, warp_points
from stages.core.train.trainer import Batch, Fitted


def move_points(points: np.ndarray, warps: Warps, size: geometry.Size) -> np.ndarray:
    """Points (B, 15, 2) where their films go; a mirror exchanges left and right, and none is kept on the film."""
    return warp_points(points, warps, CHEST)


@dataclass(frozen=True)
class Recipe:
    """The steps of training that comparisons exchange (see stages/chest/reference.py).

    Attributes:
        move: points (B, 15, 2) in input px, the maps of their films and the films' size -> moved points.
        losses: parameters and training labels (N, 15, 2) in px at 224 -> the losses by name.
    """

    move: Callable[[np.ndarray, Warps, geometry.Size], np.ndarray] = move_points
    losses: Callable[[Wing, Symmetry, Tensor], dict[str, PointLoss]] = build_losses


OURS = Recipe()


def train(
    network: LandmarkRegressor,
    data: LabelledFilms,
    params: TrainingParams,
    device: torch.device,
    observe: Observer,
    name: str,
    recipe: Recipe = OURS,
) -> Fitted:
    """Go on training `network` in place; the epoch with the lowest mean error on val is kept.

    Args:
        network: with the weights to start from; moved to `device`.
        data: roles train and val are read.
        params: `input` is the side of the films that the network reads.
        device: as `runtime.prepare` gave it.
        name: of the checkpoint.
        recipe: steps to exchange.
    """
    rows = data.trainable()
    size = (params.input, params.input)
    points = geometry.apply(geometry.resize_matrix(data.films.model_size, size), data.landmarks_model[rows])
    inputs, sizes_raw = to_input(data.films.images[rows], size), data.films.sizes_raw[rows]
    network.to(device)
    photometry = Photometry(params.augment.photometric)
    to_px224 = REPORT_FRAME[0] / params.input
    labels = torch.from_numpy(points * to_px224).float().to(device)
    losses = recipe.losses(params.wing, params.symmetry, labels)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        warps = draw_warps(batch.rng, params.augment, sizes_raw[batch.samples], size)
        films = photometry(warp_films(inputs[batch.samples], warps), batch.rng)
        truth = torch.from_numpy(recipe.move(points[batch.samples], warps, size)).float().to(device)
        predicted = network(torch.from_numpy(films).to(device).float() / 255)
        parts = {
            part: losses[part](predicted.float() * to_px224, truth * to_px224) for part in batch.phase.weights
        }
        return torch.stack([batch.phase.weights[part] * value for part, value in parts.items()]).sum(), parts

    judge = Judge(data, size)

    def validate() -> dict[str, float]:
        return {"val_error_px224": judge.error(network, device)}

    return trainer.fit(
        network, network.groups, len(rows), loss, validate, params.fit, params.seed, device, observe, name
    )


class Judge:
    """The films of val as a network reads them, kept for every epoch."""

    def __init__(self, data: LabelledFilms, size: geometry.Size) -> None:
        self.data, self.size = data, size
        self.rows = data.trainable("val")
        self.inputs = to_input(data.films.images[self.rows], size)

    def error(self, network: LandmarkRegressor, device: torch.device) -> float:
        """Mean over films of their mean error, px at 224; the network is in eval mode."""
        films, rows = self.data.films, self.rows
        stored = geometry.apply(
            geometry.resize_matrix(self.size, films.model_size), predict_input(network, self.inputs, device)
        )
        truth, sizes_raw = self.data.landmarks_raw[rows], films.sizes_raw[rows]
        errors = scaled_errors(films.to_raw(stored, rows), truth, sizes_raw, REPORT_FRAME)
        return float(np.mean(film_errors(errors)))

"""From stored films to points: the one path that validation and prediction share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stages.chest.regressor.architecture import Architecture
from stages.chest.regressor.network import LandmarkRegressor
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_weights
from stages.core.model.inputs import to_input

BATCH = 64


def predict_input(network: LandmarkRegressor, inputs: np.ndarray, device: torch.device) -> np.ndarray:
    """Points (N, K, 2) float64 in input px of films (N, h, w) uint8; the network is in eval mode."""
    points = []
    with torch.inference_mode():
        for start in range(0, len(inputs), BATCH):
            films = torch.from_numpy(np.array(inputs[start : start + BATCH])).to(device)
            points.append(network(films.float() / 255).double().cpu().numpy())
    return np.concatenate(points) if points else np.empty((0, network.n_points, 2))


def predict_raw(
    network: LandmarkRegressor,
    data: LabelledFilms,
    rows: np.ndarray,
    size: geometry.Size,
    device: torch.device,
) -> np.ndarray:
    """Points (n, K, 2) in raw px of the stored films `rows`, which the network reads in `size`."""
    points = predict_input(network, to_input(data.films.images[rows], size), device)
    stored = geometry.apply(geometry.resize_matrix(size, data.films.model_size), points)
    return data.films.to_raw(stored, rows)


def load_network(folder: Path, card: ModelCard, attention: bool | None = None) -> LandmarkRegressor:
    """The network of a model folder, in eval mode on the CPU.

    Args:
        attention: False or True to have it without or with attention, which is fresh if the folder has none;
            None for as it is.
    Raises:
        StageError: the weights do not fit.
    """
    architecture = Architecture.model_validate(card.params["architecture"])
    if attention is not None:
        if architecture.attention and not attention:
            raise StageError(f"{folder} has attention, and without it nothing can go on from its weights")
        architecture = architecture.model_copy(update={"attention": attention})
    network = LandmarkRegressor(architecture, CHEST.n_points)
    try:
        network.continue_from(load_weights(folder))
    except RuntimeError as error:
        raise StageError(f"{folder}: the weights do not fit card.json: {error}") from None
    return network.eval()

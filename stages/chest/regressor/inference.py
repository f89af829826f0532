"""From stored films to points: the one path that validation, evaluation and prediction share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages.chest.regressor.architecture import Architecture
from stages.chest.regressor.network import LandmarkRegressor
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, load_weights

BATCH = 64


def to_input(images: np.ndarray, size: geometry.Size) -> np.ndarray:
    """Stored films (N, H, W) uint8 as the network reads them: (N, h, w) uint8."""
    if images.shape[1:] == size:
        return np.asarray(images)
    return np.stack([geometry.resize(np.asarray(image), size) for image in images])


def predict_input(network: LandmarkRegressor, inputs: np.ndarray, device: torch.device) -> np.ndarray:
    """Points (N, K, 2) float64 in input px of films (N, h, w) uint8; the network is in eval mode."""
    points = []
    with torch.inference_mode():
        for start in range(0, len(inputs), BATCH):
            films = torch.from_numpy(np.array(inputs[start : start + BATCH])).to(device)
            points.append(network(films.float() / 255).double().cpu().numpy())
    return np.concatenate(points) if points else np.empty((0, network.n_points, 2))


@dataclass(frozen=True)
class TrainedRegressor:
    """A model folder of chest-train, opened on the CPU."""

    card: ModelCard
    network: LandmarkRegressor
    stored_size: geometry.Size
    """(height, width) of the films that it was trained from; every film passes through this size"""

    @classmethod
    def open(cls, folder: Path) -> TrainedRegressor:
        """Load a model folder.

        Raises:
            StageError: if it is a model of other landmarks or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.lane != CHEST.lane or card.input is None or card.landmarks != CHEST.names:
            found = f"a {card.lane} model of {len(card.landmarks)} points"
            raise StageError(f"{folder} holds {found}, expected a chest model of {CHEST.n_points}")
        network = LandmarkRegressor(Architecture.model_validate(card.params["architecture"]), CHEST.n_points)
        try:
            network.load_state_dict(load_weights(folder))
        except RuntimeError as error:
            raise StageError(f"{folder}: the weights do not fit card.json: {error}") from None
        height, width = card.params["stored_size"]
        return cls(card, network.eval(), (int(height), int(width)))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Points (N, K, 2) float64 in model px of stored films (N, H, W) uint8."""
        assert self.card.input is not None
        size = (self.card.input.height, self.card.input.width)
        points = predict_input(self.network, to_input(images, size), torch.device("cpu"))
        return geometry.apply(geometry.resize_matrix(size, images.shape[1:]), points)

    def predict_film(self, pixels: np.ndarray) -> np.ndarray:
        """Points (K, 2) in px of one film (H, W) uint8 of any size, which passes through the stored size."""
        stored = geometry.resize(pixels, self.stored_size)
        points = self.predict(stored[None])[0]
        return geometry.apply(geometry.resize_matrix(self.stored_size, pixels.shape), points)

"""A trained Detector, opened from its folder or from a table of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights
from stages.spine.checking.architecture import Architecture
from stages.spine.checking.network import GlobalDetector, WindowDetector, build_network

BATCH = 8


def detector_logits(
    network: WindowDetector | GlobalDetector, films: np.ndarray, points: np.ndarray, device: torch.device
) -> np.ndarray:
    """(N, K) float64 logits of points (N, K, 2) in px of films (N, h, w) uint8 as the network reads them."""
    logits = [np.empty((0, points.shape[1]))]
    with torch.inference_mode():
        for start in range(0, len(films), BATCH):
            some = slice(start, start + BATCH)
            judged = network(as_films(films[some], device), as_points(points[some], device))
            logits.append(judged.double().cpu().numpy())
    return np.concatenate(logits)


def read_films(
    images: np.ndarray, points: np.ndarray, size: geometry.Size | None
) -> tuple[np.ndarray, np.ndarray]:
    """Stored films (N, H, W) uint8 and points (N, K, 2) in their px, resized to `size`; None: as they are."""
    if size is None or images.shape[1:] == size:
        return np.asarray(images), np.asarray(points, np.float64)
    resized = [geometry.resize(np.asarray(image), size) for image in images]
    matrix = geometry.resize_matrix(images.shape[1:], size)
    return np.array(resized, np.uint8).reshape(-1, *size), geometry.apply(matrix, points)


def as_films(films: np.ndarray, device: torch.device) -> Tensor:
    """(B, H, W) uint8 -> (B, 1, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(films)).to(device).unsqueeze(1).float() / 255


def as_points(points: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(points, np.float32)).to(device)


@dataclass(frozen=True)
class TrainedDetector:
    """A Detector on the CPU, in eval mode."""

    architecture: Architecture
    network: WindowDetector | GlobalDetector
    schema: LandmarkSchema

    @classmethod
    def open(cls, folder: Path, schema: LandmarkSchema) -> TrainedDetector:
        """Load a model folder of spine-detector.

        Raises:
            StageError: if it is a model of other landmarks or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.lane != schema.lane or card.landmarks != schema.names or "detector" not in card.architecture:
            raise StageError(
                f"{folder} holds a {card.architecture} of the {card.lane} lane for {len(card.landmarks)} points, "
                f"expected a Detector of the {schema.lane} lane for {schema.n_points} points "
                f"{schema.names[0]} to {schema.names[-1]}"
            )
        try:
            return build(card.params, schema, load_weights(folder))
        except RuntimeError as error:
            raise StageError(f"{folder}: the weights do not fit the network in card.json: {error}") from None

    def probabilities(self, films: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(N, K) float64 probability that each point is wrong.

        Args:
            films: (N, H, W) uint8, as the film store has them.
            points: (N, K, 2) in px of these films.
        """
        inputs, places = read_films(films, points, self.architecture.size)
        logits = detector_logits(self.network, inputs, places, torch.device("cpu"))
        return 1 / (1 + np.exp(-logits))


def build(params: Mapping[str, Any], schema: LandmarkSchema, state: Mapping[str, Tensor]) -> TrainedDetector:
    """A Detector from the parameters of spine-detector (the card's `params`) and its weights.

    Raises:
        RuntimeError: the weights are of another network.
    """
    architecture = Architecture.model_validate(params["network"])
    network = build_network(architecture, schema)
    network.load_state_dict(dict(state))
    return TrainedDetector(architecture, network.eval(), schema)

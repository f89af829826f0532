"""A model folder of a described lane: the network, the radii of its points, and the description itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.card import InputSize, ModelCard, load_card, load_weights, save_model
from stages.custom.description import LaneDescription
from stages.custom.locating.inference import Locator
from stages.custom.locating.network import LandmarkNetwork
from stages.custom.locating.pictures import scales
from stages.custom.locating.settings import LocatorSettings
from stages.custom.radius import RadiusModel

ARCHITECTURE = "described-landmark-maps"
NETWORK, RADIUS, SHAPE = "network.", "radius", "mean_shape"


@dataclass(frozen=True)
class Answer:
    """Points (N, K, 2) and radii (N, K) of discs that hold the label with the model's coverage, px of the films."""

    points: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class TrainedLane:
    """A model folder of NAME-train, opened on the CPU.

    Attributes:
        mean_shape: (K, 2), which an error's percentage falls back on where labels lack points.
    """

    card: ModelCard
    described: LaneDescription
    locator: Locator
    radius: RadiusModel
    mean_shape: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> TrainedLane:
        """Load a model folder.

        Raises:
            StageError: if it is a model of another kind, or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.architecture != ARCHITECTURE:
            raise StageError(
                f"{folder} holds a {card.lane} model '{card.architecture}', expected '{ARCHITECTURE}' of a "
                "described lane"
            )
        weights = load_weights(folder)
        settings = LocatorSettings.of(card.params)
        network = LandmarkNetwork(settings.network, len(card.landmarks))
        own = {n.removeprefix(NETWORK): v for n, v in weights.items() if n.startswith(NETWORK)}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise StageError(f"{folder}: the weights do not fit the card: {error}") from None
        return cls(
            card=card,
            described=LaneDescription.model_validate(card.params["description"]),
            locator=Locator(network.eval(), settings, settings.input.size, torch.device("cpu")),
            radius=RadiusModel.from_array(weights[RADIUS].numpy()),
            mean_shape=weights[SHAPE].numpy(),
        )

    @property
    def stored_size(self) -> geometry.Size:
        """(height, width) of the films that it was trained from; every film passes through this size."""
        height, width = self.card.params["stored_size"]
        return int(height), int(width)

    def predict(self, stored: np.ndarray, sizes_raw: np.ndarray) -> Answer:
        """Answer for stored films (N, H, W) uint8 of raw sizes (N, 2: width, height), in raw px."""
        if not len(stored):
            shape = (0, len(self.card.landmarks))
            return Answer(np.empty((*shape, 2)), np.empty(shape))
        found = self.locator.locate(stored, sizes_raw)
        back = np.stack([geometry.resize_matrix(self.stored_size, (h, w)) for w, h in sizes_raw])
        points = np.stack([geometry.apply(m, p) for m, p in zip(back, found.points, strict=True)])
        return Answer(points, self.radius.radii(found.spread) * scales(back)[:, None])

    def predict_film(self, pixels: np.ndarray) -> Answer:
        """Answer for one film (H, W) uint8 of any size, which passes through the stored size; in its px."""
        stored = geometry.resize(pixels, self.stored_size)[None]
        return self.predict(stored, np.array([[pixels.shape[1], pixels.shape[0]]]))


def save_trained(
    folder: Path,
    state: Mapping[str, Tensor],
    radius: RadiusModel,
    mean_shape: np.ndarray,
    described: LaneDescription,
    *,
    key: str,
    params: dict[str, Any],
    stored_size: geometry.Size,
    n_train: int,
    split_sha256: str,
) -> None:
    """Write a model folder that `TrainedLane.open` reads; `params` hold what `LocatorSettings` has."""
    settings = LocatorSettings.of(params)
    tensors = {f"{NETWORK}{name}": value for name, value in state.items()}
    tensors |= {RADIUS: torch.from_numpy(radius.to_array()), SHAPE: torch.from_numpy(mean_shape)}
    card = ModelCard(
        lane=described.name,
        dataset=described.dataset,
        architecture=ARCHITECTURE,
        key=key,
        params=params | {"stored_size": list(stored_size), "description": described.model_dump(mode="json")},
        input=InputSize(height=settings.input.height, width=settings.input.width),
        schema=described.landmarks,
        n_train=n_train,
        split_sha256=split_sha256,
    )
    save_model(folder, tensors, card)

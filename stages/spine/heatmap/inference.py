"""From stored films to points: the one path that validation, evaluation and prediction share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, load_weights
from stages.core.model.codecs import SoftmaxHeatmap
from stages.spine.heatmap.architecture import Architecture
from stages.spine.heatmap.network import HeatmapNetwork, as_input

BATCH = 32


def to_input(images: np.ndarray, size: geometry.Size) -> np.ndarray:
    """Stored films (N, H, W) uint8 as the network reads them: (N, h, w) uint8."""
    if images.shape[1:] == size:
        return np.asarray(images)
    return np.stack([geometry.resize(np.asarray(image), size) for image in images])


def predict_input(
    network: HeatmapNetwork,
    codec: SoftmaxHeatmap,
    schema: LandmarkSchema,
    average_mirror: bool,
    inputs: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    """Points (N, K, 2) float64 in input px of films (N, h, w) uint8; the network is in eval mode.

    With `average_mirror` a film's distributions are averaged with those of its mirror, mirrored back and
    with left and right exchanged, before their means are taken.
    """
    swap = torch.from_numpy(schema.swap).to(device)
    points = []
    with torch.inference_mode():
        for start in range(0, len(inputs), BATCH):
            films = as_input(torch.from_numpy(np.array(inputs[start : start + BATCH])).to(device))
            maps = codec.activate(network(films))
            if average_mirror:
                maps = (maps + codec.activate(network(films.flip(-1))).flip(-1)[:, swap]) / 2
            points.append(codec.locate(maps).double().cpu().numpy())
    return np.concatenate(points) if points else np.empty((0, schema.n_points, 2))


@dataclass(frozen=True)
class TrainedHeatmaps:
    """A model folder of spine-train, opened on the CPU."""

    card: ModelCard
    network: HeatmapNetwork
    schema: LandmarkSchema

    @classmethod
    def open(cls, folder: Path, schema: LandmarkSchema) -> TrainedHeatmaps:
        """Load a model folder.

        Raises:
            StageError: if it is a model of other landmarks or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.lane != schema.lane or card.input is None or card.landmarks != schema.names:
            raise StageError(
                f"{folder} holds a {card.lane} model of {len(card.landmarks)} points, expected a "
                f"{schema.lane} model of the {schema.n_points} points {schema.names[0]} to {schema.names[-1]}"
            )
        built = Architecture.model_validate(card.params["network"])
        network = HeatmapNetwork(built, schema.n_points, (card.input.height, card.input.width))
        try:
            network.load_state_dict(load_weights(folder))
        except RuntimeError as error:
            raise StageError(f"{folder}: the weights do not fit the network in card.json: {error}") from None
        return cls(card, network.eval(), schema)

    @property
    def input_size(self) -> geometry.Size:
        """(height, width) of the films that the network reads."""
        assert self.card.input is not None
        return self.card.input.height, self.card.input.width

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Points (N, K, 2) float64 in px of the given films (N, H, W) uint8, whatever their size."""
        size, built = self.input_size, Architecture.model_validate(self.card.params["network"])
        codec = SoftmaxHeatmap(sigma=built.sigma, stride=built.stride)
        cpu = torch.device("cpu")
        points = predict_input(
            self.network, codec, self.schema, built.average_mirror, to_input(images, size), cpu
        )
        return geometry.apply(geometry.resize_matrix(size, images.shape[1:]), points)

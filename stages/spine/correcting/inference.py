"""A trained Corrector, opened from its folder or from a table of weights."""

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
from stages.core.model.inputs import as_input, to_input
from stages.spine.correcting.architecture import Architecture
from stages.spine.correcting.network import DeepLabCorrector, HeatmapCorrector, build_network

BATCH = 16


def propose_input(
    network: DeepLabCorrector | HeatmapCorrector,
    schema: LandmarkSchema,
    inputs: np.ndarray,
    points: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    """Better points (N, K, 2) float64 for points (N, K, 2), all in px of the films (N, h, w) uint8."""
    swap = torch.from_numpy(schema.swap).to(device)
    proposed = [np.empty((0, *points.shape[1:]))]
    with torch.inference_mode():
        for start in range(0, len(inputs), BATCH):
            some = slice(start, start + BATCH)
            films = as_input(torch.from_numpy(np.array(inputs[some])).to(device))
            given = torch.from_numpy(np.asarray(points[some], np.float32)).to(device)
            maps = network.codec.activate(network(films, given).float())
            if network.average_mirror:
                x, y = given.unbind(-1)
                mirrored = torch.stack((films.shape[-1] - 1 - x, y), -1)[:, swap]
                theirs = network.codec.activate(network(films.flip(-1), mirrored).float())
                maps = (maps + theirs.flip(-1)[:, swap]) / 2
            proposed.append(network.codec.locate(maps).double().cpu().numpy())
    return np.concatenate(proposed)


@dataclass(frozen=True)
class TrainedCorrector:
    """A Corrector on the CPU, in eval mode."""

    architecture: Architecture
    network: DeepLabCorrector | HeatmapCorrector
    schema: LandmarkSchema

    @classmethod
    def open(cls, folder: Path, schema: LandmarkSchema) -> TrainedCorrector:
        """Load a model folder of spine-corrector.

        Raises:
            StageError: if it is a model of other landmarks or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.lane != schema.lane or card.landmarks != schema.names or "corrector" not in card.architecture:
            raise StageError(
                f"{folder} holds a {card.architecture} of the {card.lane} lane for {len(card.landmarks)} points, "
                f"expected a Corrector of the {schema.lane} lane for {schema.n_points} points "
                f"{schema.names[0]} to {schema.names[-1]}"
            )
        try:
            return build(card.params, schema, load_weights(folder))
        except RuntimeError as error:
            raise StageError(f"{folder}: the weights do not fit the network in card.json: {error}") from None

    def propose(self, films: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Where the points should be: (N, K, 2) float64 in px of the films.

        Args:
            films: (N, H, W) uint8, as the film store has them.
            points: (N, K, 2) in px of these films, some of them perhaps wrong.
        """
        size = self.architecture.input.size
        matrix = geometry.resize_matrix(films.shape[1:], size)
        inputs = to_input(films, size) if len(films) else np.empty((0, *size), np.uint8)
        proposed = propose_input(
            self.network, self.schema, inputs, geometry.apply(matrix, points), torch.device("cpu")
        )
        return geometry.apply(geometry.invert(matrix), proposed)


def build(params: Mapping[str, Any], schema: LandmarkSchema, state: Mapping[str, Tensor]) -> TrainedCorrector:
    """A Corrector from the parameters of spine-corrector (the card's `params`) and its weights.

    Raises:
        RuntimeError: the weights are of another network.
    """
    architecture = Architecture.model_validate(params["network"])
    network = build_network(architecture, schema)
    network.load_state_dict(dict(state))
    return TrainedCorrector(architecture, network.eval(), schema)

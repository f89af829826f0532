"""From stored films and hints to points: the one path that validation, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, load_weights
from stages.core.model.inputs import as_input, to_input
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.heads import Head, KeyBotHead, build_head, mirrored_average
from stages.spine.refining.hints import Hints
from stages.spine.refining.keybot import folded
from stages.spine.refining.settings import RefinerSettings

BATCH = 32


@dataclass(frozen=True)
class Refined:
    """Points (N, K, 2) float64 in px of the given films, and maps (N, K, h, w) on the output grid."""

    points: np.ndarray
    maps: Tensor


@dataclass(frozen=True)
class Refiner:
    """One network or several, whose maps are averaged, ready to predict."""

    members: tuple[Head, ...]
    built: Architecture
    schema: LandmarkSchema
    input_size: geometry.Size
    device: torch.device

    def run(
        self, images: np.ndarray, hints: np.ndarray | None = None, previous: Tensor | None = None
    ) -> Refined:
        """Points of films, told by hints.

        Args:
            images: (N, H, W) uint8, of any size.
            hints: (N, K, 2) in px of `images`, NaN where there is none; None for no hint at all.
            previous: maps of an earlier run on these films, or None.
        """
        size, swap = self.input_size, torch.from_numpy(self.schema.swap).to(self.device)
        to_network = geometry.resize_matrix(images.shape[1:], size)
        places = np.full((len(images), self.schema.n_points, 2), np.nan)
        if hints is not None:
            places = geometry.apply(to_network, hints)
        inputs = to_input(images, size)
        points, maps = [], []
        for start in range(0, len(inputs), BATCH):
            part = slice(start, start + BATCH)
            films = as_input(torch.from_numpy(np.array(inputs[part])).to(self.device))
            earlier = None if previous is None else previous[part].to(self.device)
            told = Hints(torch.from_numpy(places[part]).float().to(self.device), earlier)
            seen = self._maps(films, told, swap)
            points.append(self.members[0].codec.locate(seen).double().cpu().numpy())
            maps.append(seen.cpu())
        if not points:
            return Refined(places, torch.empty(0))
        return Refined(geometry.apply(geometry.invert(to_network), np.concatenate(points)), torch.cat(maps))

    def _maps(self, films: Tensor, hints: Hints, swap: Tensor) -> Tensor:
        with torch.inference_mode():
            sums: Tensor | None = None
            for head in self.members:
                mirrors = self.built.average_mirror
                own = mirrored_average(head, films, hints, swap) if mirrors else head.maps(films, hints)
                sums = own if sums is None else sums + own
            assert sums is not None
            return sums / len(self.members)


def build(
    params: Mapping[str, Any], states: Sequence[Mapping[str, Tensor]], schema: LandmarkSchema
) -> Refiner:
    """A Refiner on the CPU from a card's parameters and its members' weights.

    Raises:
        StageError: the weights do not fit the network.
    """
    settings = RefinerSettings.of(dict(params))
    built = settings.network
    members = []
    for state in states:
        head = build_head(built, schema.n_points, settings.input.size, None)
        try:
            head.network.load_state_dict(state)
        except RuntimeError as error:
            raise StageError(f"the weights do not fit the Refiner in card.json: {error}") from None
        members.append(for_prediction(head))
    return Refiner(tuple(members), built, schema, settings.input.size, torch.device("cpu"))


def for_prediction(head: Head) -> Head:
    """A head in eval mode whose answers are the same but for rounding; it cannot be trained."""
    if isinstance(head, KeyBotHead):
        return replace(head, network=folded(head.network))
    head.network.eval()
    return head


def open_refiner(folder: Path, schema: LandmarkSchema) -> tuple[ModelCard, Refiner]:
    """A model folder of spine-refiner, on the CPU.

    Raises:
        StageError: if it is a model of other landmarks or its weights do not fit its card.
    """
    card = load_card(folder)
    if card.lane != schema.lane or card.input is None or card.landmarks != schema.names:
        raise StageError(
            f"{folder} holds a {card.lane} model of {len(card.landmarks)} points, expected a "
            f"{schema.lane} model of the {schema.n_points} points {schema.names[0]} to {schema.names[-1]}"
        )
    return card, build(card.params, [load_weights(folder)], schema)

"""The lane's model as people use it: Refiner, Detector and Corrector with the rule that joins them."""

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
from stages.core.model.card import ModelCard, load_card, load_weights
from stages.spine.checking import inference as checking
from stages.spine.correcting import inference as correcting
from stages.spine.likeness import Likeness
from stages.spine.looping.expected import ExpectedError, spread
from stages.spine.looping.loop import Loop, LoopRule, Round, State
from stages.spine.looping.propagation import Propagation
from stages.spine.measures import vertebra_heights
from stages.spine.refining import inference as refining

ARCHITECTURE = "refiner-detector-corrector"


@dataclass(frozen=True)
class Answer:
    """What the system says of films.

    Attributes:
        points: (N, K, 2) in px of the films as given.
        expected_error: (N, K) in the same px; 0 where a user gave the point.
        wrong: (N, K) the Detector's probability of being wrong.
        first: (N, K, 2) the Refiner's own answer, before the loop.
        doubted: (N, K) bool: points of hints so far from the answer without hints that they move no other point.
        rounds: of the loop, in model px.
    """

    points: np.ndarray
    expected_error: np.ndarray
    wrong: np.ndarray
    first: np.ndarray
    doubted: np.ndarray
    rounds: list[Round]


@dataclass(frozen=True)
class System:
    """A model folder of spine-system, opened on the CPU."""

    card: ModelCard
    loop: Loop
    expected: ExpectedError
    likeness: Likeness
    schema: LandmarkSchema

    @classmethod
    def open(cls, folder: Path, schema: LandmarkSchema) -> System:
        """Load a model folder.

        Raises:
            StageError: if it is a model of other landmarks or kind, or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.architecture != ARCHITECTURE or card.landmarks != schema.names:
            raise StageError(
                f"{folder} holds a {card.lane} model '{card.architecture}' of {len(card.landmarks)} points, expected "
                f"'{ARCHITECTURE}' of the {schema.n_points} points {schema.names[0]} to {schema.names[-1]}"
            )
        return assemble(card, load_weights(folder), schema)

    @property
    def model_size(self) -> geometry.Size:
        """(height, width) of the frame that films are brought to."""
        assert self.card.input is not None
        return self.card.input.height, self.card.input.width

    def predict(self, films: np.ndarray, hints: np.ndarray | None = None) -> Answer:
        """Points of films, with the loop.

        Args:
            films: (N, H, W) uint8 of one size, whatever it is.
            hints: (N, K, 2) in px of the films, NaN where there is none.
        """
        matrix = geometry.resize_matrix(films.shape[1:], self.model_size)
        back = geometry.invert(matrix)
        stored = refining.to_input(films, self.model_size)
        told = np.full((len(films), self.schema.n_points, 2), np.nan)
        if hints is not None:
            told = geometry.apply(matrix, hints)
        given = np.isfinite(told).all(-1)
        first = self.loop.refine(stored, np.full(told.shape, np.nan))
        believed = told
        if given.any():
            believed = self.loop.believable(first.points, told)
            first = self.loop.refine(stored, believed)
        state, rounds = self.loop.run(stored, believed, first)
        final = np.where(given[..., None], told, state.points)
        points = geometry.apply(back, final)
        wrong, expected = self.judge(stored, State(final, state.maps), told)
        in_px = expected * vertebra_heights(points)[:, None]
        doubted = given & ~np.isfinite(believed).all(-1)
        return Answer(points, in_px, wrong, geometry.apply(back, first.points), doubted, rounds)

    def judge(self, stored: np.ndarray, state: State, hints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, K) probability of being wrong, and expected error in vertebra heights; 0 where a user knows."""
        scores = risk_scores(self.loop, stored, state, hints)
        expected = self.expected.of(scores[self.expected.score])
        return scores["detector"], np.where(np.isfinite(hints).all(-1), 0.0, expected)


def risk_scores(loop: Loop, stored: np.ndarray, state: State, hints: np.ndarray) -> dict[Any, np.ndarray]:
    """Everything that may order points by their risk, (N, K) each; see ExpectedError."""
    cell = stored.shape[1] / max(1, state.maps.shape[-2])  # model px
    heights = vertebra_heights(state.points)[:, None].clip(
        1.0
    )  # points that all lie on one another have none
    return {
        "detector": loop.probabilities(stored, state.points, hints),
        "spread": spread(state.maps) * cell / heights,
    }


def assemble(card: ModelCard, weights: Mapping[str, Tensor], schema: LandmarkSchema) -> System:
    """The system from its card and one table of tensors: `refiner.<member>.`, `detector.`, `corrector.`, ..."""
    params = card.params
    parts = {
        part: _under(weights, part)
        for part in ("refiner", "detector", "corrector", "propagation", "likeness")
    }
    count = 1 + max(int(name.partition(".")[0]) for name in parts["refiner"])
    members = [_under(parts["refiner"], str(i)) for i in range(count)]
    refiner = refining.build(params["refiner"], members, schema)
    detector = checking.build(params["detector"], schema, parts["detector"])
    corrector = correcting.build(params["corrector"], schema, parts["corrector"])
    propagation = None
    if parts["propagation"]:
        told = parts["propagation"]
        propagation = Propagation(
            told["covariance"].double().numpy(), float(told["noise"]), float(told["reach"])
        )
    loop = Loop(
        refiner,
        propagation,
        lambda _, films, points: detector.probabilities(films, points),
        lambda _, films, points: corrector.propose(films, points),
        LoopRule.model_validate(params["rule"]),
    )
    likeness = Likeness.from_arrays({k: v.numpy() for k, v in parts["likeness"].items()})
    return System(card, loop, ExpectedError.model_validate(params["expected_error"]), likeness, schema)


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in weights.items() if k.startswith(f"{prefix}.")}


def as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays for a table of tensors."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

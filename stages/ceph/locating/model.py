"""A model folder of the ceph lane: the network, and how far off its points probably are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.ceph.expected import ExpectedError
from stages.ceph.locating.inference import Located, Locator
from stages.ceph.locating.network import build_network
from stages.ceph.locating.settings import FilmAugmentation, LocatorSettings
from stages.ceph.schema import CEPH
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.evaluate.errors import radial_errors
from stages.core.model.card import ModelCard, load_card, load_weights, save_model

ARCHITECTURE = "landmark-maps"
NETWORK, EXPECTED = "network", "expected"
"""first parts of the names in weights.pt"""
DRAWS = FilmAugmentation(mirror=0, rotation=4.0, log_scale=0.05, shift=0.01, photometric=(), stretch=0.0)
"""How far films are moved to see whether the answer stays; brightness varies beside that."""
BRIGHTNESS, CONTRAST = 20.0, 0.15
"""of grey levels and of 1, either way"""


@dataclass(frozen=True)
class Answer:
    """What the model says of films, in px of the films as given.

    Attributes:
        points: (N, K, 2) float64.
        expected_error: (N, K), the calibrated mean distance to the truth.
        peak: (N, K), 1 for a map as sharp as the training target, near 0 for one that is spread out.
        spread: (N, K), deviation of the maps and of the views about the point, per axis.
    """

    points: np.ndarray
    expected_error: np.ndarray
    peak: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class TrainedCeph:
    """A model folder of ceph-base or ceph-tuned, opened on the CPU."""

    card: ModelCard
    locator: Locator
    expected: ExpectedError

    @classmethod
    def open(cls, folder: Path) -> TrainedCeph:
        """Load a model folder.

        Raises:
            StageError: if it is a model of other landmarks or kind, or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.architecture != ARCHITECTURE or card.landmarks != CEPH.names:
            raise StageError(
                f"{folder} holds a {card.lane} model '{card.architecture}' of {len(card.landmarks)} points, "
                f"expected '{ARCHITECTURE}' of the {CEPH.n_points} points of the ceph lane"
            )
        weights = load_weights(folder)
        settings = LocatorSettings.of(card.params)
        network = build_network(settings.network, CEPH.n_points, settings.input.size)
        try:
            network.load_state_dict(under(weights, NETWORK))
        except RuntimeError as error:
            raise StageError(f"{folder}: the weights do not fit the card: {error}") from None
        arrays = {name: value.numpy() for name, value in under(weights, EXPECTED).items()}
        locator = Locator(network.eval(), settings, torch.device("cpu"))
        return cls(card, locator, ExpectedError.from_arrays(arrays))

    @property
    def settings(self) -> LocatorSettings:
        return self.locator.settings

    @property
    def state(self) -> dict[str, Tensor]:
        """The network's weights, to go on training from."""
        return {name: value.clone() for name, value in self.locator.network.state_dict().items()}

    @property
    def stored_size(self) -> geometry.Size:
        """(height, width) of the films that it was trained from; every film passes through this size."""
        height, width = self.card.params["stored_size"]
        return int(height), int(width)

    @property
    def target_sigma_cells(self) -> float:
        """Deviation of a map that is as sharp as its training target, in cells of `probability_maps`."""
        sigma = self.settings.network.sigma / self.settings.network.stride
        return sigma if self.settings.network.maps == "softmax" else sigma / float(np.sqrt(2))

    def predict(self, images: np.ndarray) -> Answer:
        """Answer for stored films (N, H, W) uint8; points in model px."""
        if not len(images):
            shape = (0, CEPH.n_points)
            return Answer(np.empty((*shape, 2)), *(np.empty(shape) for _ in range(3)))
        return answer(self.locator.locate(images), self.expected)

    def predict_film(self, pixels: np.ndarray) -> Answer:
        """Answer for one film (H, W) uint8 of any size, which passes through the stored size; all in its px."""
        found = self.predict(geometry.resize(pixels, self.stored_size)[None])
        back = geometry.resize_matrix(self.stored_size, (pixels.shape[0], pixels.shape[1]))
        scale = mean_scale(back)
        return Answer(
            geometry.apply(back, found.points), scale * found.expected_error, found.peak, scale * found.spread
        )

    def predict_augmented(self, images: np.ndarray, draws: int, seed: int) -> np.ndarray:
        """(draws, N, K, 2) points of stored films that are a little moved and of another exposure, moved back.

        All films of a draw are moved alike, so that a film's answer does not depend on the others.
        """
        return self.locator.locate_augmented(images, draws, seed, DRAWS, _exposed)

    def predict_dropped(self, images: np.ndarray, draws: int, seed: int) -> np.ndarray:
        """(draws, N, K, 2) points of stored films by the network with its dropout at work."""
        return self.locator.locate_dropped(images, draws, seed)

    def probability_maps(self, images: np.ndarray) -> np.ndarray:
        """(N, K, h, w) float32 distributions over the cells of stored films; each map sums to 1."""
        return self.locator.maps(images)

    def map_to_model(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) in cells of `probability_maps` to model px."""
        height, width = self.settings.input.size
        stride = self.settings.network.stride
        return geometry.apply(
            geometry.resize_matrix((height // stride, width // stride), self.stored_size), points
        )


def answer(located: Located, expected: ExpectedError) -> Answer:
    """What a network saw, with the expected error of each point."""
    return Answer(located.points, expected.of(located.spread, located.peak), located.peak, located.spread)


@dataclass(frozen=True)
class Judged:
    """What a network said of labelled films: spread, peak and errors, (N, K) each, in model px."""

    spread: np.ndarray
    peak: np.ndarray
    errors: np.ndarray


def calibrate(locator: Locator, images: np.ndarray, points: np.ndarray) -> tuple[Judged, ExpectedError]:
    """The expected error from stored films (N, H, W) that were not trained on, and what it rests on.

    Args:
        points: (N, K, 2) labels in model px, NaN where there is none.
    """
    found = locator.locate(images)
    errors = radial_errors(found.points, points)
    return Judged(found.spread, found.peak, errors), ExpectedError.fit(found.spread, found.peak, errors)


def save_trained(
    folder: Path,
    state: Mapping[str, Tensor],
    expected: ExpectedError,
    *,
    dataset: str,
    key: str,
    params: dict[str, Any],
    stored_size: geometry.Size,
    n_train: int,
    split_sha256: str,
) -> None:
    """Write a model folder that `TrainedCeph.open` reads.

    Args:
        state: the network's weights.
        params: of the stage; they hold what `LocatorSettings` has.
    """
    settings = LocatorSettings.of(params)
    tensors = {f"{NETWORK}.{name}": value for name, value in state.items()}
    tensors |= {f"{EXPECTED}.{name}": torch.from_numpy(v) for name, v in expected.to_arrays().items()}
    card = ModelCard(
        lane=CEPH.lane,
        dataset=dataset,
        architecture=ARCHITECTURE,
        key=key,
        params=params | {"stored_size": list(stored_size)},
        input=settings.input,
        schema=CEPH.names,
        n_train=n_train,
        split_sha256=split_sha256,
    )
    save_model(folder, tensors, card)


def under(entries: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with `<prefix>.`, without it."""
    return {
        name.removeprefix(f"{prefix}."): v for name, v in entries.items() if name.startswith(f"{prefix}.")
    }


def mean_scale(matrix: np.ndarray) -> float:
    """By how much a (2, 3) map enlarges lengths, the two axes' geometric mean."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _exposed(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Films (N, H, W) uint8, all brighter or darker and of more or less contrast by the same."""
    gain = 1.0 + rng.uniform(-CONTRAST, CONTRAST)
    moved = gain * (films.astype(np.float32) - 127.5) + 127.5 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)

"""From stored films to points: the one path that validation, calibration, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.ceph.locating import warping
from stages.ceph.locating.network import LandmarkNetwork
from stages.ceph.locating.reading import Reader
from stages.ceph.locating.settings import FilmAugmentation, LocatorSettings
from stages.core.data import geometry
from stages.core.model.inputs import as_input, to_input
from stages.core.train import runtime
from stages.core.train.augment import Warps, warp_films

BATCH = 8
STILL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""the map that moves nothing"""
Exposure = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Films (N, H, W) uint8 -> the same films, lit otherwise."""


@dataclass(frozen=True)
class Located:
    """Points (N, K, 2) float64 in px of the given films; peak (N, K), 1 for a map as sharp as its target;
    spread (N, K), deviation of the maps and of the views about the point, same px."""

    points: np.ndarray
    peak: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Locator:
    """A network ready to predict; films of any one size go in, points in their px come out."""

    network: LandmarkNetwork
    settings: LocatorSettings
    device: torch.device

    @property
    def reader(self) -> Reader:
        return Reader(self.settings.network, self.settings.input.size)

    def locate(self, images: np.ndarray) -> Located:
        """Answer for films (N, H, W) uint8: the mean over the settings' views."""
        size = self.settings.input.size
        views = warping.fixed_views(self.settings.views, size)
        return _mean_of([self._located(images, view) for view in views])

    def locate_once(self, images: np.ndarray) -> Located:
        """Answer for films (N, H, W) uint8, each looked at once as it is."""
        return self._located(images, STILL)

    def locate_augmented(
        self, images: np.ndarray, draws: int, seed: int, augment: FilmAugmentation, expose: Exposure
    ) -> np.ndarray:
        """(draws, N, K, 2) points of films that are moved and exposed at random, moved back.

        All films of a draw are treated alike; a draw does not depend on how many there are.
        """
        size = self.settings.input.size
        sides = np.array([[images.shape[2], images.shape[1]]])
        answers = []
        for draw in range(draws):
            rng = runtime.generator(seed, draw)
            move = warping.draw(rng, augment, sides, size).matrices[0]
            answers.append(self._located(expose(np.asarray(images), rng), move).points)
        return np.stack(answers)

    def locate_dropped(self, images: np.ndarray, draws: int, seed: int) -> np.ndarray:
        """(draws, N, K, 2) points by the network with its dropout at work (Gal 2016, arXiv 1506.02142)."""
        dropping = [m for m in self.network.modules() if isinstance(m, nn.Dropout2d)]
        answers = []
        try:
            for draw in range(draws):
                runtime.seed_everything(seed, draw)
                for module in dropping:
                    module.train()
                answers.append(self._located(images, STILL).points)
        finally:
            self.network.eval()
        return np.stack(answers)

    def maps(self, images: np.ndarray) -> np.ndarray:
        """(N, K, h, w) float32 distributions over the cells of films as they are."""
        found = [
            self.reader.distributions(self._output(films)).cpu().numpy() for films in self._batches(images)
        ]
        return np.concatenate(found)

    def _located(self, images: np.ndarray, move: np.ndarray) -> Located:
        """Answer for films (N, H, W) uint8 that are moved by a (2, 3) map in px of the input, moved back."""
        size = self.settings.input.size
        back = geometry.invert(geometry.compose(geometry.resize_matrix(images.shape[1:], size), move))
        scale = np.sqrt(abs(np.linalg.det(back[:, :2])))
        still = np.array_equal(move, STILL)
        points, peaks, spreads = [], [], []
        for films in self._batches(images):
            moved = films
            if not still:
                warps = Warps(np.broadcast_to(move, (len(films), 2, 3)), np.zeros(len(films), bool))
                moved = warp_films(films, warps)
            seen = self.reader.read(self._output(moved))
            points.append(geometry.apply(back, seen.points.double().cpu().numpy()))
            peaks.append(seen.peak.double().cpu().numpy())
            spreads.append(scale * seen.spread.double().cpu().numpy())
        return Located(np.concatenate(points), np.concatenate(peaks), np.concatenate(spreads))

    def _output(self, films: np.ndarray) -> Tensor:
        with torch.inference_mode():
            return self.network(as_input(torch.from_numpy(np.array(films)).to(self.device))).float()

    def _batches(self, images: np.ndarray) -> list[np.ndarray]:
        size = self.settings.input.size
        return [to_input(images[i : i + BATCH], size) for i in range(0, len(images), BATCH)]


def _mean_of(views: list[Located]) -> Located:
    points = np.stack([view.points for view in views])
    mean = points.mean(0)
    within = np.mean([view.spread**2 for view in views], 0)
    between = ((points - mean) ** 2).sum(-1).mean(0) / 2
    return Located(mean, np.mean([view.peak for view in views], 0), np.sqrt(within + between))

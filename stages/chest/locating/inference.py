"""From stored films to points: the one path that validation, folds, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.chest.alignment import apply_each, invert_each
from stages.chest.locating.network import Locator
from stages.chest.locating.settings import LocatorSettings
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.codecs import SoftmaxHeatmap
from stages.core.model.inputs import as_input
from stages.core.train.augment import Warps, mirror_warps

BATCH = 32


@dataclass(frozen=True)
class Located:
    """Points (N, K, 2) float64 in px of the stored films, and the maps' deviation about them (N, K), same px."""

    points: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class TrainedLocator:
    """Networks of one kind, whose answers are averaged, ready to predict."""

    members: tuple[Locator, ...]
    settings: LocatorSettings
    device: torch.device

    @property
    def codec(self) -> SoftmaxHeatmap:
        return SoftmaxHeatmap(sigma=self.settings.network.sigma, stride=self.settings.network.cell)

    def locate(self, images: np.ndarray, maps: np.ndarray) -> Located:
        """Points of stored films, each read upright and as its mirror image, by all members.

        Args:
            images: (N, H, W) uint8.
            maps: (N, 2, 3), from px of the stored films to those of the network's input.
        """
        points, spreads = [np.empty((0, CHEST.n_points, 2))], [np.empty((0, CHEST.n_points))]
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            found, spread = self._locate(np.asarray(images[part]), maps[part])
            points.append(found)
            spreads.append(spread)
        return Located(np.concatenate(points), np.concatenate(spreads))

    def _locate(self, images: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        side = self.settings.input
        mirror = mirror_warps(len(images), side).matrices
        views = {False: maps, True: compose_each(maps, mirror)}
        points, variances = [], []
        for mirrored, view in views.items():
            films = as_input(torch.from_numpy(crop(images, view, self.settings.size)).to(self.device))
            back = invert_each(view)
            area = np.abs(np.linalg.det(back[:, :, :2]))
            for network in self.members:
                with torch.inference_mode():
                    seen = self.codec.activate(network(films).float())
                    found = self.codec.locate(seen).double().cpu().numpy()
                    about = variance(seen, self.settings.network.cell).double().cpu().numpy()
                if mirrored:
                    found, about = found[:, CHEST.swap], about[:, CHEST.swap]
                points.append(apply_each(back, found))
                variances.append(about * area[:, None])
        return np.mean(points, 0), np.sqrt(np.mean(variances, 0))


def variance(maps: Tensor, stride: int) -> Tensor:
    """Distributions (B, K, h, w) -> (B, K) mean of the variances along x and y, in square px of the input."""
    total = torch.zeros_like(maps[..., 0, 0])
    for along in (-1, -2):
        marginal = maps.sum(along)
        cell = torch.arange(marginal.shape[-1], dtype=maps.dtype, device=maps.device)
        mean = (marginal * cell).sum(-1, keepdim=True)
        total = total + (marginal * (cell - mean) ** 2).sum(-1)
    return total * stride**2 / 2


def crop(images: np.ndarray, maps: np.ndarray, size: geometry.Size) -> np.ndarray:
    """Resample films (N, H, W) uint8 by one map each to `size`; what comes from outside a film is black."""
    return np.stack([geometry.warp(image, m, size) for image, m in zip(images, maps, strict=True)])


def compose_each(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Maps (N, 2, 3) that act like `first`, then like `then` (N, 2, 3)."""
    linear = then[:, :, :2] @ first
    linear[:, :, 2] += then[:, :, 2]
    return linear


def augmented(maps: np.ndarray, warps: Warps) -> Warps:
    """The maps of films to the input followed by random ones of the input."""
    return Warps(compose_each(maps, warps.matrices), warps.mirrored)


def build(settings: LocatorSettings, states: Mapping[str, Mapping[str, Tensor]]) -> TrainedLocator:
    """Networks on the CPU from their weights by name of member.

    Raises:
        StageError: the weights do not fit the settings.
    """
    members = []
    for name, state in states.items():
        network = Locator(settings.network, CHEST.n_points, settings.input)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise StageError(f"the weights of member '{name}' do not fit the card: {error}") from None
        members.append(network.eval())
    return TrainedLocator(tuple(members), settings, torch.device("cpu"))

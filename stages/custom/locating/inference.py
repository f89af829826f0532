"""From stored films to points: the one path that validation, calibration, evaluation and prediction share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stages.core.data import geometry
from stages.core.model.inputs import as_input
from stages.core.train.augment import Warps, warp_films
from stages.custom.locating.network import LandmarkNetwork, read
from stages.custom.locating.pictures import apply_each, invert_each, scales, to_pictures
from stages.custom.locating.settings import LocatorSettings

BATCH = 8


@dataclass(frozen=True)
class Located:
    """Points (N, K, 2) and spreads (N, K) float64 in px of the stored films: the deviation of maps and views."""

    points: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Locator:
    """A network ready to predict."""

    network: LandmarkNetwork
    settings: LocatorSettings
    size: geometry.Size
    device: torch.device

    def locate(
        self, stored: np.ndarray, sizes_raw: np.ndarray, rotations: tuple[float, ...] | None = None
    ) -> Located:
        """Answer for stored films (N, H, W) uint8 of raw sizes (N, 2: width, height).

        Args:
            rotations: degrees of the views; those of the settings by default.
        """
        pictures, maps = to_pictures(stored, sizes_raw, self.size)
        back = invert_each(maps)
        views = self.settings.rotations if rotations is None else rotations
        answers = [self._seen(pictures, back, degrees) for degrees in views]
        points = np.stack([a.points for a in answers])
        mean = points.mean(0)
        within = np.mean([a.spread**2 for a in answers], 0)
        return Located(mean, np.sqrt(within + ((points - mean) ** 2).sum(-1).mean(0) / 2))

    def _seen(self, pictures: np.ndarray, back: np.ndarray, degrees: float) -> Located:
        turn = geometry.similarity_matrix(self.size, degrees, 1.0)
        points, spreads = [], []
        for i in range(0, len(pictures), BATCH):
            films = pictures[i : i + BATCH]
            if degrees:
                still = np.broadcast_to(turn, (len(films), 2, 3))
                films = warp_films(films, Warps(still, np.zeros(len(films), bool)))
            with torch.inference_mode():
                logits = self.network(as_input(torch.from_numpy(films).to(self.device))).float()
                found, spread = read(logits, self.settings.network)
            points.append(geometry.apply(geometry.invert(turn), found.double().cpu().numpy()))
            spreads.append(spread.double().cpu().numpy())
        return Located(
            apply_each(back, np.concatenate(points)), np.concatenate(spreads) * scales(back)[:, None]
        )

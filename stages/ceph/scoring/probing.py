"""A trained model asked for more than its answer, without looking at a film more often than that needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.ceph.locating.model import Answer, TrainedCeph
from stages.core.data import geometry
from stages.core.model.inputs import as_input, to_input
from stages.core.train import runtime

BATCH = 8


@dataclass(frozen=True)
class ProbedModel:
    """A `TrainedCeph` as `stages.ceph.scoring.evidence.gather` asks it; points are in px of the stored films."""

    trained: TrainedCeph

    @classmethod
    def open(cls, folder: Path, threads: int, seed: int) -> ProbedModel:
        """The model of a folder on the CPU, with torch prepared as for any stage."""
        runtime.prepare("cpu", threads, seed)
        return cls(TrainedCeph.open(folder))

    @property
    def stored_size(self) -> geometry.Size:
        return self.trained.stored_size

    @property
    def target_sigma_cells(self) -> float:
        built = self.trained.settings.network
        return built.sigma / built.stride

    def predict(self, images: np.ndarray) -> Answer:
        return self.trained.predict(images)

    def predict_augmented(self, images: np.ndarray, draws: int, seed: int) -> np.ndarray:
        return self.trained.predict_augmented(images, draws, seed)

    def maps_and_members(self, images: np.ndarray, members: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, K, h, w) maps of the network, and (M, N, K, 2) points of M networks that dropout thins out of it.

        Dropout acts on the last feature maps alone, so that all members share what comes before them. A member
        lacks the same features on every film: it is one network (Gal 2016, arXiv 1506.02142).
        """
        locator = self.trained.locator
        size, reader = self.trained.settings.input.size, locator.reader
        head = locator.network.head
        drop, last = head.drop, head.last
        assert isinstance(drop, nn.Dropout2d)
        assert isinstance(last, nn.Conv2d)
        features: list[Tensor] = []
        watch = drop.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        thinned = [_kept(last.in_channels, drop.p, seed, member) for member in range(members)]
        back = geometry.invert(geometry.resize_matrix((images.shape[1], images.shape[2]), size))
        maps, points = [], []
        try:
            for start in range(0, len(images), BATCH):
                films = np.array(to_input(images[start : start + BATCH], size))
                with torch.inference_mode():
                    output = locator.network(as_input(torch.from_numpy(films).to(locator.device))).float()
                    maps.append(reader.distributions(output).cpu().numpy())
                    seen = [reader.read(last(features[-1] * kept).float()).points for kept in thinned]
                points.append(np.stack([geometry.apply(back, s.double().cpu().numpy()) for s in seen]))
                features.clear()
        finally:
            watch.remove()
        return np.concatenate(maps), np.concatenate(points, 1)


def _kept(channels: int, share: float, seed: int, member: int) -> Tensor:
    """(1, C, 1, 1) factors of feature maps: 0 for those that a member lacks, and those kept the larger for it."""
    kept = runtime.generator(seed, member).random(channels) >= share
    return torch.from_numpy(kept / (1 - share)).float().view(1, -1, 1, 1)

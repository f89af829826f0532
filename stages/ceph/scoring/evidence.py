"""Everything that the scorers look at, gathered from a model and films once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.scoring.described import described_uncertainty
from stages.ceph.scoring.peaks import second_peak_ratio
from stages.ceph.scoring.shape import ShapePrior
from stages.core.data import geometry
from stages.core.data.films import FilmSet
from stages.core.errors import StageError

BATCH = 8
"""Films whose maps are in memory at a time."""


class Draws(BaseModel):
    """How often a film is predicted anew.

    Attributes:
        augmented: as often moved and varied at random, for `tta`.
        dropped: by as many networks that dropout thins out of the one, for `ensemble`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    augmented: int = Field(ge=2)
    dropped: int = Field(ge=2)


class Probed(Protocol):
    """What is asked of a model; `stages.ceph.scoring.probing.ProbedModel` says what the answers are."""

    @property
    def stored_size(self) -> geometry.Size: ...
    @property
    def target_sigma_cells(self) -> float: ...
    def predict(self, images: np.ndarray) -> Any: ...
    def predict_augmented(self, images: np.ndarray, draws: int, seed: int) -> np.ndarray: ...
    def maps_and_members(
        self, images: np.ndarray, members: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]: ...


def open_model(folder: Path, threads: int, seed: int) -> Probed:
    """The model of a folder, ready to be asked on the CPU."""
    from stages.ceph.scoring.probing import ProbedModel

    return ProbedModel.open(folder, threads, seed)


@dataclass(frozen=True)
class Evidence:
    """Of N films with K points.

    Attributes:
        points: (N, K, 2) answers, model px.
        points_raw: the same, raw px, where pixels are square enough for shapes.
        expected_error: (N, K) of the model's own calibration, model px.
        peak: (N, K) height of the map, 1 for a map as sharp as its target.
        second_peak: (N, K) height of a separated second peak over that of the first.
        spread: (N, K) deviation of the map, model px.
        described: (N, K) the described formula on the map.
        augmented: (D, N, K, 2) answers for films moved at random, moved back, model px.
        dropped: (M, N, K, 2) answers of the members that dropout draws from the network, model px.
        shape: (N, K) distance from where the film's other points say that the point lies, in deviations.
    """

    points: np.ndarray
    points_raw: np.ndarray
    expected_error: np.ndarray
    peak: np.ndarray
    second_peak: np.ndarray
    spread: np.ndarray
    described: np.ndarray
    augmented: np.ndarray
    dropped: np.ndarray
    shape: np.ndarray


def gather(
    model: Probed, store: FilmSet, rows: np.ndarray, draws: Draws, prior: ShapePrior, seed: int
) -> Evidence:
    """Evidence on the films `rows` of a store, in their order; what it says of a film depends on no other film.

    Raises:
        StageError: the store holds films of another size than the model reads.
    """
    if tuple(model.stored_size) != store.model_size:
        raise StageError(
            f"{store.folder} holds films of {store.model_size[1]} x {store.model_size[0]} px, the model reads "
            f"{model.stored_size[1]} x {model.stored_size[0]}: ceph.convert.size and ceph.clinic.size must be equal"
        )
    images = np.asarray(store.images[rows])
    answer = model.predict(images)
    second, described, members = [], [], []
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        maps, dropped = model.maps_and_members(images[part], draws.dropped, seed)
        members.append(dropped)
        second.append(second_peak_ratio(maps, model.target_sigma_cells))
        heights = answer.peak[part, :, None, None] * maps / maps.max((-2, -1), keepdims=True)
        described.append(described_uncertainty(heights))
    raw = store.to_raw(answer.points, rows)
    return Evidence(
        points=np.asarray(answer.points, np.float64),
        points_raw=raw,
        expected_error=np.asarray(answer.expected_error, np.float64),
        peak=np.asarray(answer.peak, np.float64),
        second_peak=np.concatenate(second),
        spread=np.asarray(answer.spread, np.float64),
        described=np.concatenate(described),
        augmented=model.predict_augmented(images, draws.augmented, seed),
        dropped=np.concatenate(members, 1),
        shape=prior.distances(raw),
    )

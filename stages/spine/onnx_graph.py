"""Refiner, Detector, Corrector and their loop as operations that ONNX knows, for one film and its hints.

The counterparts of `looping.system` and `looping.loop`. What depends on values (whether there is a hint, whether a
point is flagged) is scripted: it becomes an If or a Loop of ONNX, so that a film pays only for the rounds it needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.data import geometry
from stages.core.export import film as on_film
from stages.core.model.inputs import as_input
from stages.spine.checking.inference import TrainedDetector
from stages.spine.checking.network import WindowDetector, _gaussians, _grey, crop
from stages.spine.correcting.inference import TrainedCorrector
from stages.spine.looping.propagation import Propagation
from stages.spine.refining.hints import Hints
from stages.spine.refining.inference import Refiner
from stages.spine.schema import CORNERS


class Refining(nn.Module):
    """`Loop.refine` of one film, with or without the maps of the pass before."""

    def __init__(self, refiner: Refiner, propagation: Propagation | None, stored: geometry.Size) -> None:
        super().__init__()
        self.heads, self.mirror = refiner.members, refiner.built.average_mirror
        self.networks = nn.ModuleList(head.network for head in self.heads)
        self.stored, self.size = stored, refiner.input_size
        self.swap = torch.from_numpy(refiner.schema.swap)
        self.propagation = propagation
        if propagation is not None:
            self.covariance = nn.Buffer(on_film.fixed(propagation.covariance))

    def forward(self, film: Tensor, told: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Film (H, W), hints (K, 2) and maps (1, K, h, w) -> points (K, 2) and maps (1, K, h, w); stored px."""
        films = as_input(_resized(film, self.stored, self.size)[None])
        places = on_film.resize_points(told, self.stored, self.size).float()[None]
        hints = Hints(places, previous)
        if self.mirror:
            mirrored = hints.mirrored(self.size[1], self.swap)
            films = torch.cat((films, films.flip(-1)))
            earlier = None if previous is None else torch.cat((previous, _given(mirrored.previous)))
            hints = Hints(torch.cat((places, mirrored.points)), earlier)
        maps = torch.stack([head.maps(films, hints) for head in self.heads]).mean(0)
        if self.mirror:
            maps = (maps[:1] + maps[1:].flip(-1)[:, self.swap]) / 2
        found = self.heads[0].codec.locate(maps)[0].double()
        points = on_film.resize_points(found, self.size, self.stored)
        if self.propagation is not None:
            points = propagated(points, told, self.covariance, self.propagation.noise**2)
        return points, maps


class Detecting(nn.Module):
    """`Loop.probabilities` of one film: (K,) float64, 0 where there is a hint."""

    def __init__(self, detector: TrainedDetector, stored: geometry.Size) -> None:
        super().__init__()
        network = detector.network
        self.network = Windows(network) if isinstance(network, WindowDetector) else network
        self.stored = stored
        self.size = detector.architecture.size or stored
        self.n_points = detector.schema.n_points

    def forward(self, film: Tensor, points: Tensor, hints: Tensor) -> Tensor:
        # Inside an If or a Loop the exporter has lost the shapes.
        read = _resized(film, self.stored, self.size).reshape(1, 1, *self.size) / 255
        shown = on_film.resize_points(as_told(points, hints), self.stored, self.size).float()
        wrong = torch.sigmoid(self.network(read, shown.reshape(1, self.n_points, 2))[0].double())
        return torch.where(is_given(hints), torch.zeros_like(wrong), wrong)


class Windows(nn.Module):
    """`WindowDetector.forward` of one film, with every shape written out and no scattering."""

    def __init__(self, network: WindowDetector) -> None:
        super().__init__()
        self.classifier, self.architecture = network.classifier, network.architecture
        self.members = nn.Buffer(network.members)
        spoken = self.members.flatten()
        places = [torch.nonzero(spoken == point).flatten() for point in range(int(spoken.max()) + 1)]
        most = max(map(len, places))
        # Where in all windows' answers each point is spoken of; the first place repeated where there are fewer.
        self.places = nn.Buffer(torch.stack([torch.cat((p, p[:1].expand(most - len(p)))) for p in places]))

    def forward(self, films: Tensor, points: Tensor) -> Tensor:
        n, width = self.members.shape
        side = self.architecture.side
        chosen = points[0][self.members.flatten()].reshape(1, n, width, 2)
        crops, shown = crop(films, chosen, self.architecture.margin, side)
        grey = _grey(crops.reshape(n, 1, side, side), self.architecture.film_channels)
        maps = _gaussians(shown.reshape(n, width, 2), (side, side), self.architecture.sigma)
        logits = self.classifier(torch.cat([grey, maps], 1)).reshape(n * width)
        return logits[self.places].amax(1).reshape(1, -1)


class Correcting(nn.Module):
    """`TrainedCorrector.propose` of one film: points (K, 2) -> points (K, 2), stored px."""

    def __init__(self, corrector: TrainedCorrector, stored: geometry.Size) -> None:
        super().__init__()
        self.network, self.stored = corrector.network, stored
        self.size = corrector.architecture.input.size
        self.swap = torch.from_numpy(corrector.schema.swap)

    def forward(self, film: Tensor, points: Tensor) -> Tensor:
        films = as_input(_resized(film, self.stored, self.size)[None])
        given = on_film.resize_points(points, self.stored, self.size).float()[None]
        if self.network.average_mirror:
            films = torch.cat((films, films.flip(-1)))
            given = torch.cat((given, Hints(given).mirrored(self.size[1], self.swap).points))
        maps = self.network.codec.activate(self.network(films, given).float())
        if self.network.average_mirror:
            maps = (maps[:1] + maps[1:].flip(-1)[:, self.swap]) / 2
        found = self.network.codec.locate(maps)[0].double()
        return on_film.resize_points(found, self.size, self.stored)


class Hinted(nn.Module):
    """Another pass of the Refiner where there is a hint that is believed; else the first pass stands."""

    def __init__(self, refine: Any) -> None:
        super().__init__()
        self.refine = refine

    def forward(self, film: Tensor, told: Tensor, points: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        if bool(torch.isfinite(told).any()):
            points, maps = self.refine(film, told)
        return points, maps


class OneRound(nn.Module):
    """One round of `Loop.run` on one film that is still in the loop."""

    def __init__(
        self, refine: nn.Module, detect: nn.Module, correct: nn.Module, update: str, threshold: float,
        accept: float | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.refine, self.detect, self.correct = refine, detect, correct
        self.update, self.threshold, self.accept = update, threshold, accept

    def forward(
        self, film: Tensor, hints: Tensor, pseudo: Tensor, points: Tensor, maps: Tensor, wrong: Tensor
    ) -> tuple[Tensor, ...]:
        """-> whether the round is kept, pseudo-hints, points, maps and probabilities after it."""
        given = is_given(hints)
        flagged = (wrong >= self.threshold) & ~given
        proposed = self.correct(film, as_told(points, hints))
        if self.update == "replace":
            after, after_maps = torch.where(flagged[:, None], proposed, points), maps
        else:
            pseudo = torch.where(flagged[:, None], proposed, pseudo)
            after, after_maps = self.refine(film, torch.where(given[:, None], hints, pseudo), maps)
        checked = self.detect(film, after, hints)
        kept = flagged.any()
        if self.accept is not None:
            # The mean over the same points on both sides: their sums compare alike.
            kept = kept & (checked.sum() <= (1 - self.accept) * wrong.sum())
        return (
            kept,
            pseudo,
            torch.where(kept, after, points),
            torch.where(kept, after_maps, maps),
            torch.where(kept, checked, wrong),
        )


class Rounds(nn.Module):
    """`Loop.run` of one film: rounds while they are kept and a point is flagged."""

    def __init__(self, one: Any, rounds: int, threshold: float) -> None:
        super().__init__()
        self.one, self.rounds, self.threshold = one, rounds, threshold

    def forward(
        self, film: Tensor, hints: Tensor, points: Tensor, maps: Tensor, wrong: Tensor
    ) -> tuple[Tensor, Tensor]:
        pseudo = torch.full_like(points, float("nan"))
        active = torch.ones([], dtype=torch.bool)
        for _ in range(self.rounds):
            asked = active & ((wrong >= self.threshold) & torch.isnan(hints).any(-1)).any()
            if bool(asked):
                active, pseudo, points, maps, wrong = self.one(film, hints, pseudo, points, maps, wrong)
            else:
                active = torch.zeros([], dtype=torch.bool)
        return points, maps


def is_given(hints: Tensor) -> Tensor:
    """(K, 2) -> (K,) bool."""
    return torch.isfinite(hints).all(-1)


def as_told(points: Tensor, hints: Tensor) -> Tensor:
    """Points (K, 2), those with a hint where it stands."""
    return torch.where(is_given(hints)[:, None], hints, points)


def believable(first: Tensor, hints: Tensor, propagation: Propagation | None) -> Tensor:
    """`Loop.believable` of one film."""
    if propagation is None:
        return hints
    deviation = on_film.fixed(np.sqrt(np.diag(propagation.covariance)).reshape(-1, 2))
    far = (hints - first).abs() > propagation.reach * deviation + propagation.noise
    return torch.where(far.any(-1, keepdim=True), torch.full_like(hints, torch.nan), hints)


@torch.jit.script
def _conditional_mean(off: Tensor, known: Tensor, covariance: Tensor, variance: float) -> Tensor:
    """Mean of errors (n,) given some of them with noise, one after the other: no system has to be solved."""
    mean = torch.zeros_like(off)
    for i in range(off.shape[0]):
        gain = known[i] * covariance[:, i] / (covariance[i, i] + variance)
        mean = mean + gain * (off[i] - mean[i])
        covariance = covariance - gain[:, None] * covariance[i][None, :]
    return mean


def propagated(points: Tensor, hints: Tensor, covariance: Tensor, variance: float) -> Tensor:
    """`Propagation.apply` of one film."""
    known = torch.isfinite(hints).flatten()
    off = torch.where(known, (points - hints).flatten(), torch.zeros_like(points).flatten())
    return points - _conditional_mean(off, known.double(), covariance, variance).view_as(points)


def vertebra_height(points: Tensor) -> Tensor:
    """`measures.vertebra_heights` of one film (K, 2)."""
    corners = points.view(-1, len(CORNERS), 2)
    upper, lower = corners[:, :2].mean(1), corners[:, 2:].mean(1)
    return torch.linalg.vector_norm(lower - upper, dim=-1).mean()


def spread(maps: Tensor) -> Tensor:
    """`looping.expected.spread` of one film's maps (1, K, h, w): (K,) cells."""
    total = maps.sum((-2, -1)).clamp_min(1e-12)
    variance = torch.zeros_like(total)
    for axis, length in ((-1, maps.shape[-2]), (-2, maps.shape[-1])):
        weight = maps.sum(axis) / total.unsqueeze(-1)
        cell = torch.arange(length, dtype=maps.dtype)
        mean = (weight * cell).sum(-1, keepdim=True)
        variance = variance + (weight * (cell - mean) ** 2).sum(-1)
    return variance.sqrt()[0].double()


def interpolated(x: Tensor, at: tuple[float, ...], values: tuple[float, ...]) -> Tensor:
    """`np.interp` for x (K,) and rising knots."""
    if len(at) == 1:
        return torch.full_like(x, values[0])
    knots, steps = on_film.fixed(at), np.diff(values)
    share = ((x[:, None] - knots[:-1]) / (knots[1:] - knots[:-1])).clamp(0.0, 1.0)
    return values[0] + share @ on_film.fixed(steps)


def _resized(film: Tensor, stored: geometry.Size, size: geometry.Size) -> Tensor:
    return film if stored == size else on_film.resize(film, size)


def _given(maps: Tensor | None) -> Tensor:
    assert maps is not None
    return maps

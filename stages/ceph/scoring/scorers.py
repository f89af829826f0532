"""The uncertainty scorers: evidence in, one number a point out, higher for less certain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stages.ceph.scoring import described
from stages.ceph.scoring.evidence import Evidence
from stages.ceph.scoring.rising import Rising, fit_reference

RANK_MEAN = "rank_mean"
LOWEST_PEAK = 1e-6


class Scorer(Protocol):
    """One measure of uncertainty."""

    @property
    def name(self) -> str: ...

    def score(self, evidence: Evidence) -> np.ndarray:
        """(N, K), higher = less certain."""
        ...


@dataclass(frozen=True)
class Measure:
    """A scorer that reads one thing off the evidence."""

    name: str
    read: Callable[[Evidence], np.ndarray]

    def score(self, evidence: Evidence) -> np.ndarray:
        return self.read(evidence)


@dataclass(frozen=True)
class RankMean:
    """Mean over other scorers of a score's rank among the scores of known films.

    Ranks are taken among known films rather than among the films at hand, so that a film's score does not depend
    on its company.
    """

    parts: tuple[str, ...]
    references: Mapping[str, Rising]
    name: str = RANK_MEAN

    def score(self, evidence: Evidence) -> np.ndarray:
        ranks = [self.references[part](MEASURES[part].score(evidence)) for part in self.parts]
        return np.mean(ranks, axis=0)


def disagreement(answers: np.ndarray) -> np.ndarray:
    """(D, N, K, 2) answers -> (N, K) root mean square distance from their mean."""
    # About the first, so that equal answers disagree by 0 and not by what their mean was rounded by.
    apart = answers - answers[0]
    return np.sqrt(((apart - apart.mean(0)) ** 2).sum(-1).mean(0))


def peak_width(peak: np.ndarray) -> np.ndarray:
    """Height of a peak, 1 for a map as sharp as its target -> width of such a Gaussian, in those of the target."""
    return 1 / np.sqrt(np.maximum(peak, LOWEST_PEAK))


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("peak", lambda evidence: peak_width(evidence.peak)),
        Measure("second_peak", lambda evidence: evidence.second_peak),
        Measure("spread", lambda evidence: evidence.spread),
        Measure("tta", lambda evidence: disagreement(evidence.augmented)),
        Measure("ensemble", lambda evidence: disagreement(evidence.dropped)),
        Measure("shape", lambda evidence: evidence.shape),
        Measure(described.NAME, lambda evidence: evidence.described),
    )
}
PICKABLE = (*(name for name in MEASURES if name != described.NAME), RANK_MEAN)
"""Names that the choice may fall on."""


def fit_references(evidence: Evidence) -> dict[str, Rising]:
    """The ranks of every measure's scores among those of known films."""
    return {name: fit_reference(measure.score(evidence)) for name, measure in MEASURES.items()}


def scorer(name: str, rank_mean: Sequence[str], references: Mapping[str, Rising]) -> Scorer:
    """A scorer by its name; `rank_mean` names the parts of the scorer of that name."""
    return RankMean(tuple(rank_mean), references) if name == RANK_MEAN else MEASURES[name]

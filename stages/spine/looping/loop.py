"""The collaboration of Refiner, Detector and Corrector, with and without a user's hints (arXiv 2409.03261).

Each round the Detector flags points, the Corrector proposes places for them, and the points are updated: as
pseudo-hints to another pass of the Refiner (`hint`), or directly (`replace`). A user's hints are the truth:
their points are never flagged. A film leaves the loop when nothing is flagged, when a round would not lower
its suspicion enough (the round is then taken back), or after the last round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stages.spine.looping.propagation import Propagation
from stages.spine.refining.inference import Refiner

Check = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""rows (n,), films (n, H, W), points (n, K, 2) model px -> probability of being wrong (n, K)"""
Propose = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""rows (n,), films (n, H, W), points (n, K, 2) model px -> points (n, K, 2) model px"""

Update = Literal["hint", "replace"]


class LoopRule(BaseModel):
    """How the loop decides; chosen on val.

    Attributes:
        update: what becomes of a proposal: a pseudo-hint to the Refiner, or the point itself.
        rounds: at most so many; 0 switches the loop off.
        threshold: a point is flagged from this probability of being wrong.
        accept: a round is kept only where the film's suspicion, the mean probability over its points that no
            user gave, falls by at least this share. The rule that keeps a film from ending worse than it
            began, as far as the Detector can tell. Negative shares let a round raise it; None keeps every one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    update: Update
    rounds: int = Field(ge=0, le=10)
    threshold: float = Field(ge=0, le=1)
    accept: float | None


@dataclass(frozen=True)
class State:
    """Films at one moment.

    Attributes:
        points: (N, K, 2) model px.
        maps: (N, K, h, w), the Refiner's last maps.
    """

    points: np.ndarray
    maps: Tensor


@dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
        before, after: (N, K, 2) points in model px; equal for films that were left alone or taken back.
        flagged: (N, K) bool.
        kept: (N,) bool: films that this round changed for good.
    """

    before: np.ndarray
    after: np.ndarray
    flagged: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class Loop:
    """Refiner, Detector and Corrector joined by a rule."""

    refiner: Refiner
    propagation: Propagation | None
    check: Check
    propose: Propose
    rule: LoopRule

    def refine(self, films: np.ndarray, hints: np.ndarray, previous: Tensor | None = None) -> State:
        """One pass of the Refiner, with what the hints say about the points without one.

        Args:
            films: (N, H, W) uint8 in the store's frame.
            hints: (N, K, 2) model px, NaN where there is none.
            previous: maps of the pass before, or None.
        """
        seen = self.refiner.run(films, hints, previous)
        points = seen.points if self.propagation is None else self.propagation.apply(seen.points, hints)
        return State(points, seen.maps)

    def believable(self, first: np.ndarray, hints: np.ndarray) -> np.ndarray:
        """The hints (N, K, 2) that may move other points than their own, given the answer without hints."""
        return hints if self.propagation is None else self.propagation.believable(first, hints)

    def run(self, films: np.ndarray, hints: np.ndarray, state: State) -> tuple[State, list[Round]]:
        """All rounds on films that `refine` has seen.

        Returns:
            The last state, and what each round did; an empty list where nothing was ever flagged.
        """
        points, maps = np.array(state.points, np.float64), state.maps.clone()
        pseudo = np.full_like(points, np.nan)
        active, rounds = np.arange(len(points)), []
        given = np.isfinite(hints).all(-1)
        probability = self._checked(active, films, points, hints)
        for number in range(1, self.rule.rounds + 1):
            flagged = np.zeros(points.shape[:2], bool)
            flagged[active] = (probability[active] >= self.rule.threshold) & ~given[active]
            active = active[flagged[active].any(1)]
            if not len(active):
                break
            before = points.copy()
            shown = _as_told(points[active], hints[active])
            proposed = self.propose(active, films[active], shown)
            if self.rule.update == "replace":
                after = np.where(flagged[active, :, None], proposed, points[active])
                after_maps = maps[active]
            else:
                pseudo[active] = np.where(flagged[active, :, None], proposed, pseudo[active])
                told = np.where(given[active, :, None], hints[active], pseudo[active])
                seen = self.refine(films[active], told, maps[torch.from_numpy(active)])
                after, after_maps = seen.points, seen.maps
            checked, kept = probability[active], np.ones(len(active), bool)
            # What every round is kept for needs no check after the last.
            if self.rule.accept is not None or number < self.rule.rounds:
                checked = self._checked(active, films[active], after, hints[active])
            if self.rule.accept is not None:
                bound = (1 - self.rule.accept) * self._suspicion(probability[active], given[active])
                kept = self._suspicion(checked, given[active]) <= bound
            active_kept = active[kept]
            points[active_kept], probability[active_kept] = after[kept], checked[kept]
            maps[torch.from_numpy(active_kept)] = after_maps[torch.from_numpy(np.flatnonzero(kept))]
            changed = np.zeros(len(points), bool)
            changed[active_kept] = True
            rounds.append(Round(before, points.copy(), flagged, changed))
            active = active_kept
        return State(points, maps), rounds

    def probabilities(self, films: np.ndarray, points: np.ndarray, hints: np.ndarray) -> np.ndarray:
        """(N, K) the Detector's probability that a point is wrong; 0 where a user gave it."""
        return self._checked(np.arange(len(points)), films, points, hints)

    def _checked(
        self, rows: np.ndarray, films: np.ndarray, points: np.ndarray, hints: np.ndarray
    ) -> np.ndarray:
        given = np.isfinite(hints).all(-1)
        return np.where(given, 0.0, self.check(rows, films, _as_told(points, hints)))

    @staticmethod
    def _suspicion(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
        """(n,) mean probability over points that no user gave."""
        return probability.sum(1) / np.maximum((~given).sum(1), 1)


def _as_told(points: np.ndarray, hints: np.ndarray) -> np.ndarray:
    """Points (n, K, 2) as Detector and Corrector see them: where a user gave one, it stands there."""
    return np.where(np.isfinite(hints).all(-1)[..., None], hints, points)

"""An imagined user who always clicks the worst point: what K clicks are worth, alone and with the loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.spine.looping.loop import Loop, Round
from stages.spine.refining.clicking import click_worst


@dataclass(frozen=True)
class Clicked:
    """The course of an interactive session over many films.

    Attributes:
        points: (C + 1, N, K, 2) model px after 0 to C clicks, as the system answers.
        hinted: (C + 1, N, K) bool: points that were clicked by then.
        rounds: of the loop at 0 clicks.
    """

    points: np.ndarray
    hinted: np.ndarray
    rounds: list[Round]

    def pasted(self, truth: np.ndarray) -> np.ndarray:
        """The points with the clicked ones at the label, as the reference counts them."""
        return np.where(self.hinted[..., None], truth[None], self.points)


def click_through(
    loop: Loop, films: np.ndarray, truth: np.ndarray, scale: np.ndarray, clicks: int, with_loop: bool
) -> Clicked:
    """Answers after 0 to `clicks` clicks, each on the point that is then worst.

    Args:
        films: (N, H, W) uint8 in the store's frame.
        truth: (N, K, 2) model px; a point without a label is never clicked.
        scale: (N, 1, 2) raw px a model px: the worst point is the worst in raw px.
        with_loop: let Detector and Corrector work on each answer.
    """
    hints = np.full(truth.shape, np.nan)
    state = loop.refine(films, hints)
    first, told = state.points, hints
    points: list[np.ndarray] = []
    hinted: list[np.ndarray] = []
    first_rounds: list[Round] = []
    for count in range(clicks + 1):
        if count:
            hints = click_worst(hints, points[-1], truth, scale)
            told = loop.believable(first, hints)
            state = loop.refine(films, told, state.maps)
        answer, rounds = loop.run(films, told, state) if with_loop else (state, [])
        if not count:
            first_rounds = rounds
        points.append(answer.points)
        hinted.append(np.isfinite(hints).all(-1))
    return Clicked(np.stack(points), np.stack(hinted), first_rounds)


def click_by_hand(first: np.ndarray, truth: np.ndarray, scale: np.ndarray, clicks: int) -> Clicked:
    """Manual revision: the first answer (N, K, 2) with clicked points put right, and nothing else moved."""
    hints = np.full(truth.shape, np.nan)
    points, hinted = [np.array(first, np.float64)], [np.zeros(truth.shape[:2], bool)]
    for _ in range(clicks):
        hints = click_worst(hints, points[-1], truth, scale)
        given = np.isfinite(hints).all(-1)
        points.append(np.where(given[..., None], hints, first))
        hinted.append(given)
    return Clicked(np.stack(points), np.stack(hinted), [])

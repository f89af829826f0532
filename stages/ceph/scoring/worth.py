"""Scorers held against labels: what each is worth, and which is picked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.ceph.scoring import described, measures
from stages.ceph.scoring.choice import film_scores, typical_errors
from stages.ceph.scoring.measures import Estimate
from stages.ceph.scoring.rising import fit_expected
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors


@dataclass(frozen=True)
class Judged:
    """Labelled points of the val films. Errors (N, K) are NaN where a film has no label of the point."""

    ids: np.ndarray
    folds: np.ndarray
    errors_px: np.ndarray
    errors_mm: np.ndarray
    wrong: np.ndarray
    weights: np.ndarray
    """(1 + R, n) of the labelled points, film by film: see `measures.film_weights`"""

    @property
    def labelled(self) -> np.ndarray:
        return np.isfinite(self.errors_px)


@dataclass(frozen=True)
class Worth:
    """What one scorer is worth; see `stages.ceph.scoring.measures`."""

    auroc: Estimate
    gain: Estimate
    """of AUROC over the described formula, on the same resamples"""
    aurc: Estimate
    precision: Estimate
    film_correlation: float
    """Spearman's, between film scores and films' mean errors"""
    calibration_error: float
    bins: list[measures.ReliabilityBin]


def crossed_expectation(scores: np.ndarray, judged: Judged, bins: int) -> np.ndarray:
    """(N, K) error in model px that each score lets expect, by a curve that was fitted on the other folds' films."""
    expected = np.empty(scores.shape)
    for fold in range(int(judged.folds.max()) + 1):
        own = judged.folds == fold
        learn = judged.labelled & ~own[:, None]
        if not learn.any():
            raise StageError(
                f"all labelled val films are of one patient or fold ({len(judged.ids)} films): the split needs more "
                "val films for a scorer to be judged"
            )
        expected[own] = fit_expected(scores[learn], judged.errors_px[learn], bins)(scores[own])
    return expected


def measure(
    judged: Judged,
    scores: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    precision_at: int,
    bins: int,
    level: float,
) -> dict[str, Worth]:
    """What every scorer is worth on the labelled points, from its scores and the errors that they let expect."""
    labelled = judged.labelled
    errors, wrong = judged.errors_px[labelled], judged.wrong[labelled]
    aurocs = {name: measures.auroc(s[labelled], wrong, judged.weights) for name, s in scores.items()}
    found = {}
    for name, values in scores.items():
        points = values[labelled]
        reliable = measures.reliability(expected[name][labelled], errors, bins)
        found[name] = Worth(
            auroc=Estimate.of(aurocs[name], level),
            gain=Estimate.of(aurocs[name] - aurocs[described.NAME], level),
            aurc=Estimate.of(measures.aurc(points, errors, judged.weights), level),
            precision=Estimate.of(measures.precision_at(precision_at, points, wrong, judged.weights), level),
            film_correlation=film_correlation(expected[name], judged.errors_px),
            calibration_error=measures.calibration_error(reliable),
            bins=reliable,
        )
    return found


def film_correlation(expected: np.ndarray, errors: np.ndarray) -> float:
    """Spearman's correlation between the films' scores and their mean errors; NaN where either does not vary."""
    from scipy.stats import rankdata

    mean = film_errors(errors)
    known = np.isfinite(mean)
    ranks = [rankdata(values[known]) for values in (film_scores(expected / typical_errors(expected)), mean)]
    if known.sum() < 2 or min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def pick(candidates: tuple[str, ...], worth: dict[str, Worth]) -> str:
    """The candidate of the highest AUROC, of equal ones the first; the lowest AURC where no point, or every
    point, is wrong and there is no AUROC."""
    if all(np.isnan(worth[name].auroc.value) for name in candidates):
        return min(candidates, key=lambda name: worth[name].aurc.value)
    return max(candidates, key=lambda name: worth[name].auroc.value)

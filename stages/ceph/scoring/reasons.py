"""Why a film is in the queue, in words that name causes found on it and the landmarks that they were found at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.ceph.schema import CEPH
from stages.ceph.scoring.choice import WORST
from stages.ceph.scoring.evidence import Evidence
from stages.ceph.scoring.rising import Rising
from stages.ceph.scoring.scorers import MEASURES

CAUSES = {
    "peak": "low_peak",
    "second_peak": "multi_peak",
    "tta": "tta_disagreement",
    "ensemble": "ensemble_disagreement",
    "shape": "shape_outlier",
}
"""Measure -> what a high score of it is called."""
LEAST = {"second_peak": 0.2, "shape": 3.0}
"""A second peak lower than this share of the first, or a point nearer its place than so many deviations, is no
cause, however rare it is."""
AUDIT = "random_audit: drawn by chance from all films of the pool"
GATE = "random_audit: for the gate; nothing is trained on it"


def reason_for(film: int, unusual: np.ndarray, evidence: Evidence, references: Mapping[str, Rising]) -> str:
    """The cause of each of a film's worst landmarks: the measure whose score is the rarest among known films.

    Args:
        film: row number of `evidence` and of `unusual` (N, K).
    Returns:
        For example "tta_disagreement at gonion and porion; low_peak at orbitale", the worst landmark first.
    """
    worst = worst_landmarks(unusual[film])
    found: dict[str, list[str]] = {}
    scores = {name: MEASURES[name].score(evidence)[film] for name in CAUSES}
    for k in worst:
        ranks = {
            name: float(references[name](scores[name][k]))
            for name in CAUSES
            if scores[name][k] >= LEAST.get(name, -np.inf)
        }
        found.setdefault(CAUSES[max(ranks, key=ranks.__getitem__)], []).append(CEPH.names[k])
    return "; ".join(f"{cause} at {_listed(names)}" for cause, names in found.items())


def repeat_of(rank: int) -> str:
    """The reason of a film that was at this rank before."""
    return f"repeat: the film of rank {rank} again"


def worst_landmarks(unusual: np.ndarray) -> np.ndarray:
    """(K,) -> indices of the landmarks that make a film's score, the worst first."""
    return np.argsort(-unusual, kind="stable")[:WORST]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

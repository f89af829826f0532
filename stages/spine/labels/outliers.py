"""What can be wrong with a spine's label, judged by how other spines look.

Every measure is a robust z-score: distance from the median of all labels, in 1.4826 median absolute
deviations, so that wrong labels hardly move the scale that judges them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.spine.labels.geometry import Finding, disc_gaps, heights, spacings, widths

STATISTICAL_REASONS = ("height", "width", "spacing", "gap", "size", "shape")


@dataclass(frozen=True)
class StatisticsLimits:
    """When a label counts as an outlier.

    Attributes:
        proportion: robust z of one vertebra's height, width, spacing or disc gap.
        size: robust z of the spine's mean width over its length.
        shape: robust z of the logarithm of what is left of a shape after its principal components.
        variance: share of the variance that the principal components keep.
        films: fewer labels than this are not judged.
    """

    proportion: float
    size: float
    shape: float
    variance: float
    films: int


def check_statistics(corners: np.ndarray, limits: StatisticsLimits) -> list[list[Finding]]:
    """Findings about each of N labels (N, V, 4, 2), in raw px and after all repairs of their order."""
    if len(corners) < limits.films:
        return [[] for _ in corners]
    scores = proportions(corners)
    size = _robust_z(np.log(widths(corners).mean(1) / spacings(corners).sum(1)))
    shape = shape_residual(corners, limits.variance)
    findings: list[list[Finding]] = []
    for i in range(len(corners)):
        mine = [
            Finding(name, _numbers(score[i], limits.proportion), _describe(score[i], limits.proportion))
            for name, score in scores.items()
            if (np.abs(score[i]) > limits.proportion).any()
        ]
        if abs(size[i]) > limits.size:
            mine.append(Finding("size", (), f"z {size[i]:.1f} of width over length"))
        if shape[i] > limits.shape:
            mine.append(Finding("shape", (), f"z {shape[i]:.1f} of the distance to the usual shapes"))
        findings.append(mine)
    return findings


def proportions(corners: np.ndarray) -> dict[str, np.ndarray]:
    """Robust z-scores of each film's vertebrae (N, V) or discs (N, V - 1), free of the film's own scale."""
    tall, broad, apart = heights(corners), widths(corners), spacings(corners)
    gaps = disc_gaps(corners).mean(-1) / ((tall[:, 1:] + tall[:, :-1]) / 2)
    return {
        "height": _robust_z(_relative(tall)),
        "width": _robust_z(_relative(broad)),
        "spacing": _robust_z(_relative(apart)),
        "gap": _robust_z(gaps),
    }


def shape_residual(corners: np.ndarray, variance: float) -> np.ndarray:
    """(N,) robust z of how badly a shape is explained by the principal components of the others.

    Shapes are moved to their centre and scaled to a spine of length 1. The components are found three times,
    from the second on without the tenth of the films that fitted worst.
    """
    shapes = corners.reshape(len(corners), -1, 2)
    shapes = (shapes - shapes.mean(1, keepdims=True)) / spacings(corners).sum(1)[:, None, None]
    flat = shapes.reshape(len(shapes), -1)
    trusted = np.ones(len(flat), bool)
    distance = np.zeros(len(flat))
    for _ in range(3):
        mean = flat[trusted].mean(0)
        _, strength, axes = np.linalg.svd(flat[trusted] - mean, full_matrices=False)
        share = np.cumsum(strength**2) / np.sum(strength**2)
        basis = axes[: int(np.searchsorted(share, variance)) + 1]
        offset = flat - mean
        distance = np.linalg.norm(offset - offset @ basis.T @ basis, axis=1)
        trusted = distance <= np.quantile(distance, 0.9)
    return _robust_z(np.log(distance + 1e-12))


def _relative(lengths: np.ndarray) -> np.ndarray:
    """Logarithm of lengths (N, V) over the film's own scale, the mean of the middle half of the logarithms.

    (With their median the vertebra that mostly is the median would hardly vary, and judge too strictly.)
    """
    logs = np.log(np.maximum(lengths, 1e-3 * np.median(lengths)))
    quarter = logs.shape[1] // 4
    return logs - np.sort(logs, axis=1)[:, quarter : logs.shape[1] - quarter].mean(1, keepdims=True)


def _robust_z(values: np.ndarray) -> np.ndarray:
    """Column by column: (value - median) / (1.4826 median absolute deviation)."""
    offset = values - np.median(values, axis=0)
    return offset / np.maximum(1.4826 * np.median(np.abs(offset), axis=0), 1e-9)


def _numbers(score: np.ndarray, limit: float) -> tuple[int, ...]:
    return tuple(int(v) for v in np.flatnonzero(np.abs(score) > limit))


def _describe(score: np.ndarray, limit: float) -> str:
    return "; ".join(f"{v}: z {score[v]:.1f}" for v in _numbers(score, limit))

"""Errors of a described lane in raw px, in percent of the shape's extent, and in mm where a spacing is known.

The extent is the diagonal of the box about a film's labelled shape: films of any size and patients of any size
count alike, and nobody has to name a reference distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.core.evaluate.errors import film_errors, radial_errors, success_rate
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean
from stages.custom.shape import extents

METHOD = "network"
"""what the evaluation calls the lane's model"""
UNIT = "percent_extent"
ERROR = f"error_{UNIT}"
UNIT_WORDS = "% of extent"
WITHIN_PERCENT = (1.0, 2.0, 3.0, 5.0)
"""distances, percent of the extent, of the success rates"""


def errors_percent(predicted_raw: np.ndarray, truth_raw: np.ndarray, mean_shape: np.ndarray) -> np.ndarray:
    """(N, K) radial errors of points (N, K, 2) in percent of the extent of each film's label."""
    return 100 * radial_errors(predicted_raw, truth_raw) / extents(truth_raw, mean_shape)[:, None]


def errors_mm(predicted_raw: np.ndarray, truth_raw: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(N, K) radial errors in mm, NaN where the spacing (N, 2: x, y) of a film is unknown."""
    known = np.isfinite(spacing_mm).all(-1)
    scale = np.where(known[:, None], spacing_mm, 1.0)[:, None]
    return np.where(known[:, None], radial_errors(predicted_raw * scale, truth_raw * scale), np.nan)


def figures(
    predicted_raw: np.ndarray,
    truth_raw: np.ndarray,
    radius_raw: np.ndarray,
    mean_shape: np.ndarray,
    spacing_mm: np.ndarray,
    names: tuple[str, ...],
    patients: np.ndarray,
    bootstrap: Bootstrap,
    seed: int,
) -> dict[str, Any]:
    """What is reported of the model on a set of films, ready for JSON; None where nothing is known.

    Returns:
        Of each unit (raw_px, percent_extent, mm) mean, median and the interval of the mean over patients; success
        rates; share of labels inside their disc; and mean and median of each landmark.
    """
    px = radial_errors(predicted_raw, truth_raw)
    by_unit = {
        UNIT: errors_percent(predicted_raw, truth_raw, mean_shape),
        "raw_px": px,
        "mm": errors_mm(predicted_raw, truth_raw, spacing_mm),
    }
    told: dict[str, Any] = {"n_films": len(px)}
    for unit, errors in by_unit.items():
        per_film = film_errors(errors)
        if not np.isfinite(per_film).any():
            continue
        mean = bootstrap_mean(per_film, patients, bootstrap, seed)
        told |= {f"mean_{unit}": mean.mean, f"mean_{unit}_low": mean.low, f"mean_{unit}_high": mean.high}
        told[f"median_{unit}"] = float(np.nanmedian(per_film))
        told[f"p90_{unit}"] = float(np.nanquantile(per_film, 0.9))
    told |= {f"sdr_{t:g}_{UNIT}": _number(success_rate(by_unit[UNIT], t)) for t in WITHIN_PERCENT}
    known = np.isfinite(px)
    told["coverage"] = _number(float((px <= radius_raw)[known].mean()) if known.any() else float("nan"))
    told["by_landmark"] = {
        name: {
            f"{kind}_{unit}": _number(float(of(errors[:, k][np.isfinite(errors[:, k])])))
            for unit, errors in by_unit.items()
            for kind, of in (("mean", np.mean), ("median", np.median))
            if np.isfinite(errors[:, k]).any()
        }
        for k, name in enumerate(names)
    }
    return told


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

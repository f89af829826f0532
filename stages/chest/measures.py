"""What the chest lane measures beyond the radial error. Points (N, 15, 2) and lengths are in px at 224.

Consistency is measured against the label. A score of the shape alone is near its best for every shape that
looks like lungs, the mean shape included, whatever film it is laid on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.chest.raw.structure import structure_from_shape
from stages.chest.schema import AXIS_QUARTERS, BOTTOM, LEFT, REPORT_FRAME, RIGHT, TOP
from stages.core.evaluate.errors import success_rate

METHOD = "system"
"""what the evaluation calls the lane's answer"""
CONSTANT = "mean_shape"
"""the floor that never looks at the film"""
UNIT = "px224"
ERROR = f"error_{UNIT}"
QUALITY_BINS = {
    "under_5": (0.0, 5.0),
    "5_to_8.5": (5.0, 8.5),
    "8.5_to_15": (8.5, 15.0),
    "from_15": (15.0, np.inf),
}
"""Quality bins of published figures, by the mean error of a film. No spacing is known, so they say nothing of
clinical use."""
STEPS = (5.0, 8.5, 10.0, 15.0, 20.0)
"""Every threshold that published figures count films by."""
SUCCESS = (2.0, 4.0, 5.0, 8.5, 10.0, 15.0)
"""Thresholds of the success rate over points."""
DISTANCES = (
    (TOP, BOTTOM),
    (AXIS_QUARTERS[0], AXIS_QUARTERS[1]),
    *((LEFT[level], RIGHT[level]) for level in (1, 2, 3)),
)
"""The pairs of points whose distances the published loss keeps."""
WIDEST = (LEFT[-1], RIGHT[-1])
"""L14 and L15: their distance is the width that normalises an error."""


def at_224(points_raw: np.ndarray, sizes_raw: np.ndarray) -> np.ndarray:
    """Raw px (N, 15, 2) of films (N, 2: width, height) to px at 224, but for a shift that all films share.

    So differences and lengths are right, places are off by less than half a pixel.
    """
    return np.asarray(points_raw, np.float64) * (np.array(REPORT_FRAME[::-1]) / sizes_raw)[:, None]


def widths(points: np.ndarray) -> np.ndarray:
    """(N,) distance from L14 to L15."""
    return np.linalg.norm(points[:, WIDEST[1]] - points[:, WIDEST[0]], axis=1)


def asymmetries(points: np.ndarray) -> np.ndarray:
    """(N, 5) how much further from the axis L1-L2 the left contour is than the right one, at each level."""
    _, _, left, right = structure_from_shape(points)
    return left - right


def distances(points: np.ndarray) -> np.ndarray:
    """(N, 5) lengths of the pairs DISTANCES."""
    starts, ends = np.array(DISTANCES).T
    return np.linalg.norm(points[:, ends] - points[:, starts], axis=2)


def inconsistency(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean |asymmetry - that of the label| over five levels, mean |distance - that of the label| over five
    pairs: (N,) and (N,), 0 on the truth and on what is moved from it as a whole."""
    unlike = np.abs(asymmetries(predicted) - asymmetries(truth)).mean(1)
    return unlike, np.abs(distances(predicted) - distances(truth)).mean(1)


def in_bins(errors: np.ndarray) -> dict[str, int]:
    """Number of films in each quality bin, by their mean errors (N,); films without an error are in none."""
    return {
        name: int(((errors >= low) & (errors < high)).sum()) for name, (low, high) in QUALITY_BINS.items()
    }


def shares_under(errors: np.ndarray) -> dict[float, float]:
    """STEPS -> share of the films whose mean error is under it."""
    known = errors[np.isfinite(errors)]
    return {step: float((known < step).mean()) if len(known) else float("nan") for step in STEPS}


def summarise_films(errors: np.ndarray) -> dict[str, float]:
    """Flat summary of films' errors in px at 224: location, spread (n - 1), range, percentiles, bins, shares."""
    errors = np.asarray(errors, np.float64)
    binned = in_bins(errors)
    return {
        "n_films": len(errors),
        f"mean_{UNIT}": float(errors.mean()),
        f"median_{UNIT}": float(np.median(errors)),
        f"sd_{UNIT}": float(errors.std(ddof=1)) if len(errors) > 1 else float("nan"),
        f"best_{UNIT}": float(errors.min()),
        f"worst_{UNIT}": float(errors.max()),
        **{f"p{p}_{UNIT}": float(np.percentile(errors, p)) for p in (10, 25, 75, 90, 95)},
        **{f"n_films_{name}_{UNIT}": number for name, number in binned.items()},
        **{f"share_{name}_{UNIT}": number / len(errors) for name, number in binned.items()},
        **{f"share_under_{step:g}_{UNIT}": share for step, share in shares_under(errors).items()},
    }


def success_rates(errors: np.ndarray) -> dict[str, float]:
    """`sdr_T_px224` for SUCCESS: the share of points (N, 15) within T."""
    return {f"sdr_{limit:g}_{UNIT}": success_rate(errors, limit) for limit in SUCCESS}


def by_name(names: tuple[str, ...], errors: np.ndarray) -> Mapping[str, float]:
    """Mean and median error of each point (N, 15), by the point's name."""
    return {
        f"{kind}_{name}_{UNIT}": float(value)
        for kind, values in (("mean", errors.mean(0)), ("median", np.median(errors, axis=0)))
        for name, value in zip(names, values, strict=True)
    }


def held(errors: np.ndarray, radii: np.ndarray, limit: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which points (n,) a statement is made of, and for which of all points it holds: two masks (n,).

    Without a limit the statement is that a label lies within the point's own radius, and is made of every
    point. With one it is that the label lies within `limit`, made of points whose radius is at most that.
    """
    if limit is None:
        return np.ones(len(errors), bool), errors <= radii
    return radii <= limit, errors <= limit

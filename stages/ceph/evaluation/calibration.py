"""Whether points are as far off as the model expects: by groups of points with like expected errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean

LEAST = 20
"""Points that a group has at least."""


def groups_by_size(expected: np.ndarray, most: int) -> list[np.ndarray]:
    """Positions of points in at most `most` groups of equal size by their expected error (n,), smallest first."""
    order = np.argsort(expected, kind="stable")
    n_groups = int(np.clip(len(order) // LEAST, 1, most))
    return [group for group in np.array_split(order, n_groups) if len(group)]


def reliability(
    radial: pd.DataFrame,
    methods: Sequence[str],
    units: Sequence[str],
    most: int,
    bootstrap: Bootstrap,
    seed: int,
) -> pd.DataFrame:
    """Expected beside actual error of points in groups by what was expected; intervals over patients.

    Args:
        radial: rows of RADIAL_SCHEMA.
        methods: those that say how far off they are.
        units: of the errors, for example `mm`: columns error_UNIT and expected_UNIT.
        most: so many groups at most.
    Returns:
        Columns role, method, unit, group (from 0, smallest expected error first), n_points, expected, actual, low,
        high; groups of each role, method and unit in which any point is known.
    """
    found = []
    for (role, method), own in radial[radial["method"].isin(methods)].groupby(["role", "method"], sort=True):
        for unit in units:
            pair = own[[f"expected_{unit}", f"error_{unit}"]].to_numpy(float)
            known = np.isfinite(pair).all(1)
            expected, actual = pair[known].T
            patients = own["patient"].to_numpy()[known]
            for k, group in enumerate(groups_by_size(expected, most)):
                mean = bootstrap_mean(actual[group], patients[group], bootstrap, seed)
                found.append(
                    {
                        "role": role,
                        "method": method,
                        "unit": unit,
                        "group": k,
                        "n_points": len(group),
                        "expected": expected[group].mean(),
                        "actual": mean.mean,
                        "low": mean.low,
                        "high": mean.high,
                    }
                )
    columns = ["role", "method", "unit", "group", "n_points", "expected", "actual", "low", "high"]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(("low", "high"), float))


def calibration_summary(expected: np.ndarray, actual: np.ndarray, most: int) -> dict[str, float]:
    """What groups of points say in three figures; points (n,) in one unit, those without either are left out.

    Returns:
        ratio: mean actual over mean expected error, 1 where they agree.
        gap: mean over points of |actual - expected| of their group, relative to the mean actual error.
        rank_correlation: Spearman's, of single points.
    """
    from scipy.stats import spearmanr

    known = np.isfinite(expected) & np.isfinite(actual)
    expected, actual = expected[known], actual[known]
    none = {"ratio": float("nan"), "gap": float("nan"), "rank_correlation": float("nan")}
    if len(expected) < 2 or expected.mean() <= 0 or actual.mean() <= 0:
        return none
    groups = groups_by_size(expected, most)
    apart = sum(len(g) * abs(actual[g].mean() - expected[g].mean()) for g in groups) / len(expected)
    varies = np.ptp(expected) > 0 and np.ptp(actual) > 0
    return {
        "ratio": float(actual.mean() / expected.mean()),
        "gap": float(apart / actual.mean()),
        "rank_correlation": float(spearmanr(expected, actual).statistic) if varies else float("nan"),
    }

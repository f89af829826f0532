"""Intervals and paired comparisons whose unit is the patient (or dancer, or sequence), never the film.

Films of one patient are alike, so the bootstrap draws whole groups. Estimates stay means over films: the mean
of a resample is the sum of the drawn groups' sums over the sum of their counts. Wilcoxon's signed-rank test
on the groups' mean differences stands beside each comparison as a check, not as the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["better", "worse", "no difference", "too few groups"]
_CHUNK = 4_000_000
"""Weights drawn at a time, so that a bootstrap over thousands of patients stays within some 64 MB."""


class Bootstrap(BaseModel):
    """How an interval is made; part of a stage's parameters.

    Attributes:
        resamples: number of bootstrap samples.
        level: coverage that the interval aims at, for example 0.95.
        method: `percentile`, or `bca` (bias-corrected and accelerated; Efron 1987), which follows a skewed
            distribution of errors.
        minimum_groups: under this many groups no interval is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    resamples: int = Field(ge=100)
    level: float = Field(gt=0.5, lt=1)
    method: Literal["percentile", "bca"]
    minimum_groups: int = Field(ge=2)


@dataclass(frozen=True)
class Interval:
    """A mean over films and its interval over groups; `low` and `high` are None where groups are too few."""

    mean: float
    low: float | None
    high: float | None
    n_films: int
    n_groups: int


@dataclass(frozen=True)
class Comparison:
    """How the errors of A differ from those of B on the same films.

    Attributes:
        mean_difference: mean over films of A - B, in the errors' own unit; below 0 where A is better.
        low, high: its interval, None where groups are too few.
        p_wilcoxon: two-sided signed-rank test on the groups' mean differences, None where groups are too few.
        n_films, n_groups: films with both errors, and their groups.
        verdict: of A: `better` or `worse` where the interval leaves out 0, else `no difference`, or
            `too few groups`.
    """

    mean_difference: float
    low: float | None
    high: float | None
    p_wilcoxon: float | None
    n_films: int
    n_groups: int
    verdict: Verdict


def bootstrap_mean(
    values: Iterable[float], groups: Iterable[object], settings: Bootstrap, seed: int
) -> Interval:
    """Mean over films with its interval over groups. Films without a value (NaN) are left out.

    The result does not depend on the order of the films.
    """
    sums, counts = _group_sums(np.asarray(list(values), np.float64), groups)
    return _interval(sums, counts, settings, seed)


def compare(
    errors_a: Iterable[float],
    errors_b: Iterable[float],
    groups: Iterable[object],
    settings: Bootstrap,
    seed: int,
) -> Comparison:
    """Compare two methods film by film; see `Comparison`. Films that lack either error (NaN) are left out."""
    a, b = np.asarray(list(errors_a), np.float64), np.asarray(list(errors_b), np.float64)
    if a.shape != b.shape:
        raise ValueError(
            f"a paired comparison needs one error a film from both methods, got {len(a)} and {len(b)}"
        )
    sums, counts = _group_sums(a - b, groups)
    interval = _interval(sums, counts, settings, seed)
    verdict: Verdict = "no difference"
    p_wilcoxon = None
    if interval.low is None or interval.high is None:
        verdict = "too few groups"
    else:
        p_wilcoxon = _wilcoxon(sums / counts)
        if interval.high < 0:
            verdict = "better"
        elif interval.low > 0:
            verdict = "worse"
    return Comparison(
        interval.mean, interval.low, interval.high, p_wilcoxon, interval.n_films, interval.n_groups, verdict
    )


def compare_methods(
    per_film: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    error: str,
    roles: Sequence[str],
    settings: Bootstrap,
    seed: int,
) -> pd.DataFrame:
    """`compare` for each pair (A, B) of methods and each role: the rows of comparison.csv.

    Args:
        per_film: a table of `errors.film_table`: id, patient, role, method and the column `error`.
        error: name of the error column; its unit is that of the differences.
    Returns:
        Columns role, method_a, method_b, error and the fields of `Comparison`.
    """
    rows = []
    for role in roles:
        part = per_film[per_film["role"] == role]
        wide = part.pivot(index="id", columns="method", values=error)
        patient = part.drop_duplicates("id").set_index("id")["patient"].reindex(wide.index)
        for a, b in pairs:
            if missing := [method for method in (a, b) if method not in wide]:
                raise ValueError(
                    f"role {role}: no errors of the methods {missing}; there are {list(wide.columns)}"
                )
            result = compare(wide[a], wide[b], patient, settings, seed)
            rows.append({"role": role, "method_a": a, "method_b": b, "error": error, **asdict(result)})
    return pd.DataFrame(rows)


def write_comparison(path: Path, comparison: pd.DataFrame) -> None:
    """Write rows of `compare_methods` as CSV, six significant digits; cells are empty without an interval."""
    comparison.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def _group_sums(values: np.ndarray, groups: Iterable[object]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the finite values of each group, groups by name: floats (G,) and (G,).

    Values are sorted within a group, so that rounding does not depend on the order of the films either.
    """
    names = np.array([str(group) for group in groups], dtype=object)
    if len(names) != len(values):
        raise ValueError(f"every film needs a group: {len(values)} films, {len(names)} groups")
    finite = np.isfinite(values)
    values, names = values[finite], names[finite]
    order = np.lexsort((values, names))
    values = values[order]
    if len(values) == 0:
        return np.empty(0), np.empty(0)
    _, start, counts = np.unique(names[order], return_index=True, return_counts=True)
    return np.add.reduceat(values, start), counts.astype(np.float64)


def _interval(sums: np.ndarray, counts: np.ndarray, settings: Bootstrap, seed: int) -> Interval:
    n_groups, n_films = len(sums), int(counts.sum())
    mean = float(sums.sum() / n_films) if n_films else float("nan")
    if n_groups < settings.minimum_groups:
        return Interval(mean, None, None, n_films, n_groups)
    resampled = _resampled_means(sums, counts, settings.resamples, seed)
    tails = _expanded_tails(settings.level, n_groups)
    if settings.method == "bca":
        tails = _bca_tails(tails, mean, resampled, sums, counts)
    low, high = np.quantile(resampled, tails)
    return Interval(mean, float(low), float(high), n_films, n_groups)


def _resampled_means(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R,) means over films of samples of G groups drawn with replacement."""
    rng = np.random.default_rng(seed)
    n_groups = len(sums)
    chunk = max(1, _CHUNK // n_groups)
    parts = []
    for start in range(0, resamples, chunk):
        drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=min(chunk, resamples - start))
        parts.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(parts)


def _expanded_tails(level: float, n_groups: int) -> np.ndarray:
    """Quantiles to read for an interval of this coverage, wider than `level` where groups are few.

    A bootstrap of n groups is too narrow by the factor sqrt((n - 1) / n) and by the normal quantile in place
    of Student's: a 95 % interval over 8 groups covers 89 %. Reading quantiles further out makes up for both
    (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3).
    """
    from scipy.stats import norm, t

    quantile = t.ppf((1 + level) / 2, n_groups - 1) * np.sqrt(n_groups / (n_groups - 1))
    return norm.cdf([-quantile, quantile])


def _bca_tails(
    tails: np.ndarray, mean: float, resampled: np.ndarray, sums: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The quantiles to read instead of `tails` (Efron 1987), the acceleration by a jackknife over groups."""
    from scipy.stats import norm

    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    spread = left_out.mean() - left_out
    scale = (spread**2).sum() ** 1.5
    if scale == 0:  # all groups agree: every resample has the same mean and any quantile is that mean
        return tails
    acceleration = (spread**3).sum() / (6 * scale)
    below = ((resampled < mean).sum() + (resampled == mean).sum() / 2) / len(resampled)
    bias = norm.ppf(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    shifted = bias + norm.ppf(tails)
    return norm.cdf(bias + shifted / (1 - acceleration * shifted))


def _wilcoxon(differences: np.ndarray) -> float:
    """Two-sided p of the signed-rank test; 1 where no group differs at all."""
    from scipy.stats import wilcoxon

    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences).pvalue)

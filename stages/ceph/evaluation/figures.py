"""The flat figures of an evaluation, by set, role and method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stages.ceph.angles import ANGLES
from stages.ceph.evaluation.calibration import calibration_summary
from stages.ceph.evaluation.films import BASE_SET
from stages.ceph.evaluation.judge import MM, PERCENT
from stages.ceph.measures import SDR_MM, sdr_name
from stages.ceph.schema import CEPH
from stages.core.evaluate.errors import success_rate
from stages.core.evaluate.statistics import Bootstrap, Interval, bootstrap_mean

SDR_PERCENT = (2.0, 3.0, 4.0, 6.0)
"""The like in percent of the S-N distance, for films without a spacing; 1 % is some 0.7 mm in an adult."""
CLINICAL_DEG = 2.0
"""A difference of an angle up to which two tracings are commonly called alike."""


def success(radial: pd.DataFrame, column: str, limit: float, bootstrap: Bootstrap, seed: int) -> Interval:
    """Percent of the labelled points whose error `column` is at most `limit`; interval over patients."""
    errors = radial[column].to_numpy(float)
    within = np.where(np.isfinite(errors), 100.0 * (errors <= limit), np.nan)
    return bootstrap_mean(within, radial["patient"], bootstrap, seed)


def set_figures(
    name: str, per_film: pd.DataFrame, radial: pd.DataFrame, groups: int, bootstrap: Bootstrap, seed: int
) -> dict[str, float]:
    """Figures of one set: [clinic_]ROLE_METHOD_FIGURE, with _low and _high where there is an interval.

    Of every method n_films, mre_mm and mre_percent_sn (mean radial error: mean over films of the mean over their
    points). Of those that say how far off they are also mre_raw_px, median_..., worst5_... (the 95th percentile
    over films), sdrT (percent of points within T mm), sdrT_percent_sn, sna/snb/anb_mae_deg, _bias_deg and _within2
    (percent of films within 2 degrees), calibration_ratio, _gap and _rank_correlation, and by landmark on the test
    films.
    """
    found: dict[str, float] = {}
    start = "" if name == BASE_SET else f"{name}_"
    for (role, method), films in per_film.groupby(["role", "method"], sort=True):
        own = radial[(radial["role"] == role) & (radial["method"] == method)]
        prefix = f"{start}{role}_{method}_"
        found[f"{prefix}n_films"] = int(films[PERCENT].notna().sum())
        found |= _means(prefix, films, bootstrap, seed)
        expected, actual = (own[c].to_numpy(float) for c in ("expected_percent_sn", PERCENT))
        if np.isfinite(expected).any():
            found |= _rates(prefix, films, own, bootstrap, seed) | _angles(prefix, films)
            summary = calibration_summary(expected, actual, groups)
            found |= {f"{prefix}calibration_{key}": value for key, value in summary.items()}
            if role == "test":
                found |= _landmarks(prefix, own)
    return found


def _means(prefix: str, films: pd.DataFrame, bootstrap: Bootstrap, seed: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, unit in ((MM, "mm"), (PERCENT, "percent_sn")):
        if films[column].notna().any():
            mean = bootstrap_mean(films[column], films["patient"], bootstrap, seed)
            found |= with_bounds(f"{prefix}mre_{unit}", mean)
    return found


def _rates(
    prefix: str, films: pd.DataFrame, radial: pd.DataFrame, bootstrap: Bootstrap, seed: int
) -> dict[str, float]:
    found: dict[str, float] = {f"{prefix}mre_raw_px": float(films["error_raw_px"].mean())}
    for column, unit in ((MM, "mm"), (PERCENT, "percent_sn")):
        errors = films[column].dropna().to_numpy(float)
        if len(errors):
            found[f"{prefix}median_{unit}"] = float(np.median(errors))
            found[f"{prefix}worst5_{unit}"] = float(np.percentile(errors, 95))
    if films[MM].notna().any():
        for limit in SDR_MM:
            found |= with_bounds(f"{prefix}{sdr_name(limit)}", success(radial, MM, limit, bootstrap, seed))
    in_percent = radial[PERCENT].to_numpy(float)
    for limit in SDR_PERCENT:
        found[f"{prefix}{sdr_name(limit)}_percent_sn"] = 100 * success_rate(in_percent, limit)
    return found


def _angles(prefix: str, films: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for angle in map(str.lower, ANGLES):
        errors = films[f"{angle}_error_deg"].dropna().to_numpy(float)
        if len(errors):
            found[f"{prefix}{angle}_mae_deg"] = float(np.abs(errors).mean())
            found[f"{prefix}{angle}_bias_deg"] = float(errors.mean())
            found[f"{prefix}{angle}_within2"] = float(100 * (np.abs(errors) <= CLINICAL_DEG).mean())
    return found


def _landmarks(prefix: str, radial: pd.DataFrame) -> dict[str, float]:
    column, unit = (MM, "mm") if radial[MM].notna().any() else (PERCENT, "percent_sn")
    means = radial.groupby("point")[column].mean()
    return {f"{prefix}{name}_{unit}": float(means.get(k, np.nan)) for k, name in enumerate(CEPH.names)}


def with_bounds(name: str, found: Interval) -> dict[str, float]:
    """A mean, with `_low` and `_high` where there is an interval."""
    if found.low is None or found.high is None:
        return {name: found.mean}
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}

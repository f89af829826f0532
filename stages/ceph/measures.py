"""Radial errors of lateral films in millimetres and in shares of the S-N distance, and the field's figures.

MRE is the mean radial error, SDR the share of landmarks within a distance of their label, in percent. Films of
makers differ in spacing, and of one film in x and y, so an error becomes mm axis by axis and film by film.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.ceph.angles import ANGLES, angles
from stages.ceph.schema import CEPH, INDEX
from stages.core.evaluate.errors import film_errors, radial_errors, success_rate
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean

SDR_MM = (2.0, 2.5, 3.0, 4.0)
"""Distances of the ISBI challenges' successful detection rate."""


def errors_mm(predicted_raw: np.ndarray, truth_raw: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(N, K) radial errors in mm of points (N, K, 2) in raw px.

    `spacing_mm` (N, 2) is mm per raw px along x and y; errors are NaN where it is unknown, or without a label.
    """
    known = np.isfinite(spacing_mm).all(-1)
    scale = np.where(known[:, None], spacing_mm, 1.0)[:, None]
    errors = radial_errors(predicted_raw * scale, truth_raw * scale)
    return np.where(known[:, None], errors, np.nan)


def errors_percent_sn(predicted_raw: np.ndarray, truth_raw: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(N, K) radial errors in percent of the label's S-N distance; raw px count as square where spacing is unknown."""
    scale = in_proportion(spacing_mm)[:, None]
    placed = truth_raw * scale
    sn = np.linalg.norm(placed[:, INDEX["nasion"]] - placed[:, INDEX["sella"]], axis=-1)
    return 100 * radial_errors(predicted_raw * scale, placed) / sn[:, None]


def in_proportion(spacing_mm: np.ndarray) -> np.ndarray:
    """(N, 2) factors that make raw px square: the spacing, or 1 where it is unknown."""
    known = np.isfinite(spacing_mm).all(-1, keepdims=True)
    return np.where(known, spacing_mm, 1.0)


def angle_errors(
    predicted_raw: np.ndarray, truth_raw: np.ndarray, spacing_mm: np.ndarray
) -> dict[str, np.ndarray]:
    """(N,) predicted minus label of SNA, SNB and ANB, degrees; NaN where a point has no label."""
    scale = in_proportion(spacing_mm)[:, None]
    predicted, truth = angles(predicted_raw * scale), angles(truth_raw * scale)
    return {name: predicted[name] - truth[name] for name in ANGLES}


def figures(
    predicted_raw: np.ndarray,
    truth_raw: np.ndarray,
    spacing_mm: np.ndarray,
    groups: np.ndarray,
    bootstrap: Bootstrap,
    seed: int,
) -> dict[str, Any]:
    """What is reported of a set of films, ready for JSON; None where nothing is known.

    Args:
        predicted_raw, truth_raw: (N, K, 2) raw px.
        spacing_mm: (N, 2) mm per raw px.
        groups: (N,) patients, whom the intervals are over.
    Returns:
        mre_mm, median_mm, sd_mm (over points), sdr2, sdr25, sdr3 and sdr4 (percent) of the films with a spacing,
        mre_px, median_px (raw px) and mre_percent_sn of all; `intervals` of mre_mm, mre_px and the SDRs;
        `by_landmark` with mre_mm, mre_px and sdr2; and mean absolute and median errors of the angles in degrees.
    """
    mm = errors_mm(predicted_raw, truth_raw, spacing_mm)
    px = radial_errors(predicted_raw, truth_raw)
    percent = errors_percent_sn(predicted_raw, truth_raw, spacing_mm)
    within = {sdr_name(t): _share_within(mm, t) for t in SDR_MM}
    per_film = {"mre_mm": film_errors(mm), "mre_px": film_errors(px)}
    per_film |= {name: 100 * film_errors(values) for name, values in within.items()}
    turned = angle_errors(predicted_raw, truth_raw, spacing_mm)
    return {
        "n_films_with_spacing": int(np.isfinite(spacing_mm).all(-1).sum()),
        "mre_mm": _number(_mean(film_errors(mm))),
        "median_mm": _number(_median(mm)),
        "sd_mm": _number(float(np.nanstd(mm)) if np.isfinite(mm).any() else float("nan")),
        **{sdr_name(t): _number(100 * success_rate(mm, t)) for t in SDR_MM},
        "mre_px": _number(_mean(film_errors(px))),
        "median_px": _number(_median(px)),
        "mre_percent_sn": _number(_mean(film_errors(percent))),
        "intervals": {name: _interval(values, groups, bootstrap, seed) for name, values in per_film.items()},
        "interval_level": bootstrap.level,
        "by_landmark": {
            name: {
                "mre_mm": _number(_mean(mm[:, k])),
                "mre_px": _number(_mean(px[:, k])),
                "sdr2": _number(100 * success_rate(mm[:, k], 2.0)),
            }
            for k, name in enumerate(CEPH.names)
        },
        "angles_deg": {
            name: {
                "mean_absolute": _number(_mean(np.abs(error))),
                "median_absolute": _number(_median(np.abs(error))),
                "bias": _number(_mean(error)),
            }
            for name, error in turned.items()
        },
    }


def sdr_name(threshold_mm: float) -> str:
    """sdr2, sdr25, sdr3, sdr4."""
    return f"sdr{threshold_mm:g}".replace(".", "")


def _share_within(errors: np.ndarray, threshold: float) -> np.ndarray:
    """1 and 0 for labelled points within and beyond the threshold, NaN for others."""
    return np.where(np.isfinite(errors), errors <= threshold, np.nan)


def _interval(values: np.ndarray, groups: np.ndarray, bootstrap: Bootstrap, seed: int) -> list[float] | None:
    if not np.isfinite(values).any():
        return None
    found = bootstrap_mean(values, groups, bootstrap, seed)
    return None if found.low is None or found.high is None else [found.low, found.high]


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

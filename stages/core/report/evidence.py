"""What an evaluation folder and a training history say, as the rows and estimates of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean
from stages.core.report.page import Method
from stages.core.report.wording import Estimate


@dataclass(frozen=True)
class Sampling:
    """How intervals are made: settings and seed of the bootstrap, and the column whose values it draws."""

    settings: Bootstrap
    seed: int
    group: str = "patient"


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file of another stage, whose texts stay texts."""
    if not path.is_file():
        raise StageError(f"{path} does not exist: run `dvc repro` for the stage that makes it")
    return pd.read_csv(path, keep_default_na=True)


def finite_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over an axis of the finite values; NaN where there is none."""
    finite = np.isfinite(values)
    count = finite.sum(axis)
    return np.where(count > 0, np.where(finite, values, 0).sum(axis) / np.maximum(count, 1), np.nan)


def ranked(values: np.ndarray) -> list[int]:
    """Positions of the finite values from the smallest to the largest; ties go by position."""
    return [int(k) for k in np.argsort(values, kind="stable") if np.isfinite(values[k])]


def estimate(cases: pd.DataFrame, column: str, sampling: Sampling) -> Estimate:
    """Mean of a column over cases, with its interval over groups."""
    found = bootstrap_mean(cases[column], cases[sampling.group], sampling.settings, sampling.seed)
    bounds = (np.nan, np.nan) if found.low is None or found.high is None else (found.low, found.high)
    return Estimate(found.mean, *bounds, sampling.settings.level)


def list_methods(
    cases: pd.DataFrame,
    comparison: pd.DataFrame,
    models: Sequence[str],
    titles: Mapping[str, str],
    error: str,
    sampling: Sampling,
    role: str = "test",
) -> list[Method]:
    """The methods of an evaluation: the models in the given order, then the others by their error.

    Args:
        cases: one row a case and method, with the columns role, method, `error` and the sampling's group.
        comparison: rows of `statistics.compare_methods`.
        models: names of the trained models; the first is the one that the others are compared with.
        titles: name -> how a page calls it; others go by their name.
    """
    part = cases[cases["role"] == role]
    estimates = {str(name): estimate(rows, error, sampling) for name, rows in part.groupby("method")}
    floors = sorted(estimates.keys() - set(models), key=lambda name: (estimates[name].value, name))
    judged = comparison[(comparison["role"] == role) & (comparison["error"] == error)]
    return [
        _method(
            name, titles.get(name, name.replace("_", " ")), estimates[name], name in models, judged, models[0]
        )
        for name in [*(m for m in models if m in estimates), *floors]
    ]


def _method(
    name: str, title: str, error: Estimate, is_model: bool, judged: pd.DataFrame, model: str
) -> Method:
    row = judged[(judged["method_a"] == model) & (judged["method_b"] == name)]
    if row.empty:
        return Method(name, title, error, is_model)
    first = row.iloc[0]
    difference = Estimate(first["mean_difference"], first["low"], first["high"], error.level)
    return Method(name, title, error, is_model, difference, str(first["verdict"]))


@dataclass(frozen=True)
class Points:
    """Predictions of one method beside the labels, films by id.

    Attributes:
        ids: (n,) pseudonyms.
        predicted, labels: (n, K, 2) in one frame, raw px as read; labels are NaN where a point has none.
    """

    ids: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray

    def scaled(self, sizes_raw: np.ndarray, width: float, height: float) -> Points:
        """The same points of films (n, 2: width, height) that are each stretched to one size."""
        scale = (np.array([width, height]) / sizes_raw)[:, None]
        return Points(self.ids, self.predicted * scale, self.labels * scale)

    @property
    def errors(self) -> np.ndarray:
        """(n, K) radial errors, NaN where there is no label."""
        return np.linalg.norm(self.predicted - self.labels, axis=-1)


def read_points(evaluation: Path, method: str, role: str, n_points: int) -> Points:
    """The points of one method on the films of one role, from per_point.parquet.

    Raises:
        StageError: if the method or role is not there, or a film does not have `n_points` points.
    """
    table = tables.read_table(evaluation / "per_point.parquet")
    kept = table[(table["method"] == method) & (table["role"] == role)].sort_values(["id", "point"])
    counts = kept.groupby("id").size()
    if kept.empty or (counts != n_points).any():
        there = ", ".join(sorted(set(table["method"]))) if kept.empty else f"{set(counts)} points a film"
        raise StageError(
            f"{evaluation / 'per_point.parquet'}: expected films of the role '{role}' with {n_points} points "
            f"by the method '{method}', found {there}; run the evaluation again"
        )
    arrays = [
        kept[list(columns)].to_numpy(np.float64).reshape(-1, n_points, 2)
        for columns in (("x_raw", "y_raw"), ("x_label_raw", "y_label_raw"))
    ]
    return Points(kept["id"].to_numpy()[::n_points], *arrays)


def extremes(errors: np.ndarray, each: int) -> dict[str, list[int]]:
    """Which cases to show: `best`, `median` and `worst`, at most `each` of them, every case at most once.

    Cases without an error are never shown; ties go by position.
    """
    order = ranked(errors)
    each = min(each, max(1, len(order) // 3))
    worst = order[::-1][:each]
    best = order[: min(each, len(order) - len(worst))]
    rest = order[len(best) : len(order) - len(worst)]
    start = max(0, (len(rest) - each) // 2)
    return {"best": best, "median": rest[start : start + each], "worst": worst}

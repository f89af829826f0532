"""The report's sections on errors of the base's films: in clinical measures, by landmark, and of the angles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.ceph.angles import ANGLES
from stages.ceph.evaluation.figures import CLINICAL_DEG, SDR_PERCENT, success
from stages.ceph.evaluation.films import BASE
from stages.ceph.evaluation.judge import MM, PERCENT, UNITS
from stages.ceph.measures import SDR_MM
from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.evaluate.statistics import Interval
from stages.core.report import film_sections
from stages.core.report.charts import Bar, bars, spanning
from stages.core.report.error_maps import Spot, error_map
from stages.core.report.evidence import Sampling, estimate, finite_mean, ranked
from stages.core.report.films import FilmEvidence
from stages.core.report.page import Cell, Child, Method, Page, grid, note, picture, stack, table
from stages.core.report.wording import Estimate, figure, interval, share

NAMED = 7
"""Landmarks that are named on the error map; the chin and the teeth have no room for more."""


@dataclass(frozen=True)
class Radial:
    """radial.parquet of one set, and the unit that its figures are said in: mm where all films have a spacing."""

    table: pd.DataFrame
    error: str

    @classmethod
    def read(cls, folder: Path) -> Radial:
        found = tables.read_table(folder / "radial.parquet")
        return cls(found, common_error(found))

    @property
    def unit(self) -> str:
        return UNITS[self.error]

    @property
    def limits(self) -> tuple[float, ...]:
        """Distances of the successful detection rate, in the unit."""
        return SDR_MM if self.error == MM else SDR_PERCENT

    def of(self, method: str, role: str = "test") -> pd.DataFrame:
        return self.table[(self.table["method"] == method) & (self.table["role"] == role)]

    def by_landmark(self, method: str, sampling: Sampling, role: str = "test") -> list[Estimate]:
        """Mean error of each landmark with its interval, in the schema's order."""
        own = self.of(method, role)
        return [estimate(own[own["point"] == k], self.error, sampling) for k in range(CEPH.n_points)]


def common_error(rows: pd.DataFrame) -> str:
    """MM where every judged film has a spacing, else PERCENT."""
    judged = rows[rows[PERCENT].notna()]
    return MM if len(judged) and judged[MM].notna().all() else PERCENT


def as_estimate(found: Interval, level: float) -> Estimate:
    low, high = (np.nan if v is None else v for v in (found.low, found.high))
    return Estimate(found.mean, low, high, level)


def rate(radial: Radial, method: str, limit: float, sampling: Sampling, role: str = "test") -> Estimate:
    """Successful detection rate in percent, with its interval over films."""
    own = radial.of(method, role)
    found = success(own, radial.error, limit, sampling.settings, sampling.seed)
    return as_estimate(found, sampling.settings.level)


def rates_table(radial: Radial, methods: list[Method], sampling: Sampling, role: str = "test") -> Child:
    """Successful detection rates of every method."""
    rows: list[list[Child | Cell]] = []
    for m in methods:
        cells: list[Child | Cell] = [m.name]
        for limit in radial.limits:
            found = rate(radial, m.key, limit, sampling, role)
            low_high = f" ({found.low:.0f} to {found.high:.0f})" if found.has_interval else ""
            cells.append(f"{found.value:.1f}{low_high}" if np.isfinite(found.value) else "–")
        rows.append(cells)
    headings = ["Points within, in percent", *(f"{limit:g} {radial.unit}" for limit in radial.limits)]
    emphasised = [k for k, m in enumerate(methods) if m.is_model]
    numeric = range(1, len(headings))
    caption = f"In brackets the {100 * sampling.settings.level:g} % interval, from a bootstrap over films."
    return table(headings, rows, numeric=tuple(numeric), caption=caption, emphasised=emphasised)


def add_rates(page: Page, radial: Radial, methods: list[Method], sampling: Sampling) -> None:
    lead = "Successful detection rate: the share of all labelled points that are at most that far off."
    said = None
    if radial.error == PERCENT:
        said = note(
            "Not every film has a known spacing, so lengths are in percent of the label's distance of sella and "
            "nasion; 1 % is some 0.7 mm in an adult."
        )
    content = stack(rates_table(radial, methods, sampling), said)
    page.add("rates", "How many points are close enough", content, lead=lead)


def where_it_fails(found: list[Estimate], unit: str) -> str:
    """A sentence on the landmarks with the largest and the smallest errors."""
    values = np.array([e.value for e in found])
    order = ranked(values)
    if not order:
        return "No landmark has a label."
    said = [f"{in_words(k)} ({figure(values[k])} {unit})" for k in order[::-1][:3]]
    best = order[0]
    return (
        f"Worst landmarks: {', '.join(said[:-1])} and {said[-1]}; best: {in_words(best)} "
        f"({figure(values[best])} {unit})."
        if len(said) > 1
        else f"Only {said[0]} has labels."
    )


def in_words(point: int) -> str:
    return CEPH.names[point].replace("_", " ")


def add_where(
    page: Page, found: FilmEvidence, radial: Radial, spacing: np.ndarray, sampling: Sampling
) -> None:
    """Error map and landmarks of the base model on the test films.

    Args:
        spacing: (n, 2) mm per raw px of the test films, NaN where unknown.
    """
    scale = unit_scale(found, radial, spacing)
    predicted, labels = found.points.predicted * scale, found.points.labels * scale
    by_landmark = radial.by_landmark(BASE, sampling)
    names = [in_words(k) for k in range(CEPH.n_points)]
    order = ranked(np.array([e.value for e in by_landmark]))[::-1]
    drawn = error_map(
        film_sections.mean_shape(labels),
        predicted - labels,
        names,
        CEPH.edges,
        [Spot(names[k], (k,)) for k in order[:NAMED]],
        radial.unit,
        "Error of each landmark on the mean shape of the test films",
        height=460,
    )
    shown = picture(
        drawn,
        "Mean shape of the test films' labels, facing right. Dots: mean error. The worst have an ellipse, one "
        "standard deviation of the prediction about its mean place, and a short line, the bias.",
    )
    reach = [v for e in by_landmark for v in (e.value, e.high)]
    landmarks = bars(
        [Bar(names[k], by_landmark[k], "model") for k in order],
        spanning(reach, f"mean error ({radial.unit})"),
        "Mean error of each landmark",
    )
    page.add(
        "where",
        "Where the error lies",
        grid(
            stack(shown, film_sections.error_curves(found)),
            picture(landmarks, "By landmark, base model, test films; whiskers are the intervals."),
        ),
        lead="Which landmarks?",
    )


def unit_scale(found: FilmEvidence, radial: Radial, spacing: np.ndarray) -> np.ndarray:
    """(n, 1, 2) factors from raw px of the test films to the unit of `radial`."""
    if radial.error == MM:
        return spacing[:, None]
    own = radial.of(BASE).pivot(index="id", columns="point", values=["error_raw_px", PERCENT])
    ratio = finite_mean(own[PERCENT].to_numpy(float) / own["error_raw_px"].to_numpy(float), axis=1)
    return np.repeat(pd.Series(ratio, own.index).loc[found.points.ids].to_numpy()[:, None, None], 2, axis=2)


def angle_rows(cases: pd.DataFrame, methods: list[Method], sampling: Sampling) -> list[list[Child | Cell]]:
    """Rows of a table: for each method and angle mean absolute error, bias, and share within 2 degrees."""
    rows: list[list[Child | Cell]] = []
    for m in methods:
        own = cases[cases["method"] == m.key]
        for angle in ANGLES:
            column = f"{angle.lower()}_error_deg"
            signed = own[column].to_numpy(float)
            off = estimate(own.assign(off=own[column].abs()), "off", sampling)
            bias = estimate(own, column, sampling)
            known = signed[np.isfinite(signed)]
            rows.append(
                [
                    m.name if angle == ANGLES[0] else "",
                    angle,
                    figure(off.value),
                    interval(off),
                    figure(bias.value, signed=True),
                    interval(bias, signed=True),
                    share(float((np.abs(known) <= CLINICAL_DEG).mean()) if len(known) else np.nan),
                ]
            )
    return rows


def angles_table(cases: pd.DataFrame, methods: list[Method], sampling: Sampling) -> Child:
    """Angles of the models, and of the best of the other methods."""
    models = [m for m in methods if m.is_model]
    methods = models + [m for m in methods if not m.is_model][:1]
    level = f"{100 * sampling.settings.level:g} % interval"
    headings = ["Method", "Angle", "Mean |error| (°)", level, "Bias (°)", level, f"Within {CLINICAL_DEG:g}°"]
    return table(headings, angle_rows(cases, methods, sampling), numeric=(2, 3, 4, 5, 6))


def add_angles(page: Page, found: FilmEvidence, sampling: Sampling) -> None:
    lead = (
        "SNA and SNB say how far the upper and the lower jaw lie forward, ANB is their difference. Bias is predicted "
        "minus label; each angle takes three or four landmarks, whose errors add up or cancel."
    )
    test = found.cases[found.cases["role"] == "test"]
    page.add("angles", "What it does to angles", angles_table(test, found.methods, sampling), lead=lead)

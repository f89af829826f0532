"""The report's section on what the models say about their own errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.ceph.evaluation.calibration import calibration_summary
from stages.ceph.evaluation.films import BASE, TUNED
from stages.ceph.reporting.errors import Radial
from stages.core.report.charts import scatter
from stages.core.report.evidence import Sampling, estimate, read_csv
from stages.core.report.page import Cell, Child, Page, answers, grid, note, picture, stack, table
from stages.core.report.wording import figure, with_interval

EVEN = 1.25
"""Mean actual over mean expected error between 1 / EVEN and EVEN is called even."""


def calibration_words(radial: Radial, method: str, films: str, groups: int) -> tuple[str, str]:
    """(style, sentence): are points as far off as the model expects?"""
    own = radial.of(method)
    unit = radial.error.removeprefix("error_")
    expected, actual = own[f"expected_{unit}"].to_numpy(float), own[radial.error].to_numpy(float)
    known = np.isfinite(expected) & np.isfinite(actual)
    ratio = calibration_summary(expected, actual, groups)["ratio"]
    if not np.isfinite(ratio):
        return "open", f"On {films} nothing can be said of expected errors."
    said = (
        f"On {films} the {method} model expects {figure(expected[known].mean())} {radial.unit} and is off by "
        f"{figure(actual[known].mean())}"
    )
    if ratio > EVEN:
        return "bad", f"{said}: it promises too much there."
    if ratio < 1 / EVEN:
        return "open", f"{said}: it is more careful than it need be."
    return "good", f"{said}: even on average."


def reliability_chart(calibration: pd.DataFrame, unit: str, label: str) -> Child:
    """Groups of points: expected error across, actual error up."""
    tips = [
        f"expected {figure(e)}, actual {figure(a)} {unit}, {n} points"
        for e, a, n in calibration[["expected", "actual", "n_points"]].itertuples(index=False)
    ]
    return scatter(
        calibration["expected"].to_numpy(float),
        calibration["actual"].to_numpy(float),
        f"expected error ({unit})",
        f"actual mean error ({unit})",
        tips,
        label,
    )


def groups_on_test(folder: Path, method: str, error: str) -> pd.DataFrame:
    """Rows of calibration.csv of one method on the test films, in one unit."""
    rows = read_csv(folder / "calibration.csv")
    unit = error.removeprefix("error_")
    return rows[(rows["method"] == method) & (rows["role"] == "test") & (rows["unit"] == unit)]


def add_calibration(
    page: Page, parts: Sequence[tuple[str, Path, Radial]], sampling: Sampling, groups: int
) -> None:
    """Expected beside actual errors, of the base model on its own films and of both on the clinic's.

    Args:
        parts: (words for the films, folder of the evaluation, its radial.parquet), base set first.
    """
    lead = (
        "Each point comes with the error that the model expects of it, fitted on films that it was not trained on. "
        "The review queue and the page's rings use that figure, so it has to hold on films that are new."
    )
    sentences, drawn = [], []
    rows: list[list[Child | Cell]] = []
    for k, (films, folder, radial) in enumerate(parts):
        for method in (BASE,) if k == 0 else (BASE, TUNED):
            own = radial.of(method)
            unit = radial.error.removeprefix("error_")
            sentences.append(calibration_words(radial, method, films, groups))
            summary = calibration_summary(
                own[f"expected_{unit}"].to_numpy(float), own[radial.error].to_numpy(float), groups
            )
            expected = estimate(own, f"expected_{unit}", sampling)
            rows.append(
                [
                    f"{method}, {films}",
                    f"{figure(expected.value)} {radial.unit}",
                    with_interval(estimate(own, radial.error, sampling), radial.unit),
                    figure(summary["ratio"]),
                    f"{100 * summary['gap']:.0f} %" if np.isfinite(summary["gap"]) else "–",
                    figure(summary["rank_correlation"]),
                ]
            )
        shown = BASE if k == 0 else TUNED
        chart = reliability_chart(
            groups_on_test(folder, shown, radial.error),
            radial.unit,
            f"Expected and actual error, {shown}, {films}",
        )
        drawn.append(
            picture(chart, f"{shown.capitalize()} model, {films}; points in groups by expected error.")
        )
    headings = [
        "Model, films",
        "Expected",
        "Actual",
        "Actual / expected",
        "Gap of groups",
        "Rank correlation",
    ]
    said = note(
        "On the dashed line expected errors are right; above it points are further off than the model expects. Gap: "
        "mean distance of a group from the line, in percent of the mean error. Rank correlation: of single points."
    )
    content = stack(answers(sentences), grid(*drawn), table(headings, rows, numeric=(3, 4, 5)), said)
    page.add("calibration", "Does it know how far off it is", content, lead=lead)

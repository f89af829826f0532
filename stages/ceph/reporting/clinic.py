"""The report's section on the clinic: before and after the round, beside what two readers differ by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.ceph.evaluation.films import BASE, READER, TUNED
from stages.ceph.evaluation.judge import PERCENT, UNITS
from stages.ceph.reporting.errors import Radial, angles_table, in_words, rates_table
from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.report.charts import columns
from stages.core.report.evidence import Sampling, estimate, list_methods, read_csv
from stages.core.report.page import Cell, Child, Method, Page, answers, grid, note, picture, stack, table
from stages.core.report.sections import comparison_figure, comparison_table
from stages.core.report.wording import VERDICTS, Estimate, count, figure, interval, with_interval

ROLE_WORDS = {"test": "test", "gate": "gate"}


@dataclass(frozen=True)
class SetEvidence:
    """The evaluation's folder of one set of films.

    Attributes:
        cases: per_film.parquet.
        radial: errors of points, with the unit of the set.
        comparison: comparison.csv.
        titles: method -> how the page calls it.
    """

    cases: pd.DataFrame
    radial: Radial
    comparison: pd.DataFrame
    titles: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, titles: Mapping[str, str]) -> SetEvidence:
        cases = tables.read_table(folder / "per_film.parquet")
        people = {
            m: f"another reader ({m.removeprefix(READER)})" for m in cases["method"] if m.startswith(READER)
        }
        return cls(
            cases,
            Radial.read(folder),
            read_csv(folder / "comparison.csv"),
            {**titles, **people},
        )

    def methods(self, role: str, sampling: Sampling) -> list[Method]:
        """Tuned and base, then the others by their error."""
        error = self.radial.error
        return list_methods(
            self.cases, self.comparison, (TUNED, BASE), self.titles, error, sampling, role=role
        )

    def change(self, role: str, level: float) -> tuple[Estimate, str]:
        """Mean error after the round minus before, and the verdict on it."""
        rows = self.comparison
        rows = rows[(rows["role"] == role) & (rows["error"] == self.radial.error)]
        rows = rows[(rows["method_a"] == TUNED) & (rows["method_b"] == BASE)]
        if rows.empty:
            return Estimate(np.nan), "too few groups"
        one = rows.iloc[0]
        return Estimate(one["mean_difference"], one["low"], one["high"], level), str(one["verdict"])

    def relative_change(self, role: str, level: float) -> Estimate:
        """The change in percent of the base's mean error; the interval takes that mean as known."""
        found, _ = self.change(role, level)
        own = self.cases[(self.cases["method"] == BASE) & (self.cases["role"] == role)]
        before = float(own[self.radial.error].mean())
        if not before > 0:
            return Estimate(np.nan)
        scale = 100 / before
        return Estimate(scale * found.value, scale * found.low, scale * found.high, level)


def change_words(found: SetEvidence, sampling: Sampling, role: str = "test") -> tuple[str, str]:
    """(style, sentence): does the model that learned from the reviewers do better on the clinic's films?"""
    level, unit = sampling.settings.level, found.radial.unit
    change, verdict = found.change(role, level)
    films = found.cases[(found.cases["role"] == role) & found.cases["method"].isin([BASE, TUNED])]
    means = {m: estimate(rows, found.radial.error, sampling) for m, rows in films.groupby("method")}
    n = films["id"].nunique()
    if not np.isfinite(change.value):
        return "open", f"No {role} film of the clinic was judged."
    said = (
        f"On {count(n, f'{role} film')} of the clinic the round moves the mean error from {figure(means[BASE].value)} "
        f"to {figure(means[TUNED].value)} {unit}, {with_interval(change, unit, signed=True)}"
    )
    words = {
        "better": "the reviews help",
        "worse": "the reviews do harm",
        "no difference": "no difference is shown",
        "too few groups": "too few films to tell",
    }
    return VERDICTS[verdict][1], f"{said}: {words[verdict]}."


def add_clinic(
    page: Page, found: SetEvidence, readers: pd.DataFrame, sampling: Sampling, reader: str
) -> None:
    """Before and after the round on films that neither model learned from.

    Args:
        readers: readers.parquet of the evaluation.
        reader: whose points stand for the truth.
    """
    unit = found.radial.unit
    lead = (
        "Films of another clinic, another machine and perhaps another convention. The base never saw one; the tuned "
        f"model learned from films that were reviewed, none of these. Truth: reader {reader}."
    )
    test = found.methods("test", sampling)
    gate = found.methods("gate", sampling)
    content: list[Child] = [answers([change_words(found, sampling, role) for role in ("test", "gate")])]
    if unit == UNITS[PERCENT]:
        content.append(
            note(
                "The spacing of these films is unknown, so lengths are in percent of the label's distance of sella "
                "and nasion; 1 % is some 0.7 mm in an adult. The gate decides promotion in this unit."
            )
        )
    content += [
        picture(
            comparison_figure(test, unit, width=760),
            "Mean error on the clinic's test films; whiskers are the intervals. Nobody can be asked to be nearer to "
            "one reader than another reader is.",
        ),
        comparison_table(test, unit),
        grid(
            stack(note("Gate films, which decide promotion:"), _short_table(gate, unit)),
            stack(
                note("The same films, mean error against each reader:"),
                _readers_table(found, readers, sampling),
            ),
        ),
        _by_landmark(found, sampling),
        rates_table(found.radial, test, sampling),
        angles_table(found.cases[found.cases["role"] == "test"], test, sampling),
    ]
    page.add("clinic", "A clinic, before and after the round", stack(*content), lead=lead)


def _short_table(methods: list[Method], unit: str) -> Child:
    rows: list[list[Child | Cell]] = [[m.name, figure(m.error.value), interval(m.error)] for m in methods]
    emphasised = [k for k, m in enumerate(methods) if m.is_model]
    return table(["Method", f"Mean error ({unit})", "Interval"], rows, numeric=(1, 2), emphasised=emphasised)


def _readers_table(found: SetEvidence, table_of: pd.DataFrame, sampling: Sampling) -> Child:
    """Errors of models and readers against each reader, gate and test films together."""
    readers = sorted(set(table_of["reader"]))
    methods = [TUNED, BASE, *(f"{READER}{name}" for name in readers)]
    rows: list[list[Child | Cell]] = []
    for method in methods:
        own = table_of[table_of["method"] == method]
        title = found.titles.get(method, f"reader {method.removeprefix(READER)}")
        cells: list[Child | Cell] = [
            title if method in (TUNED, BASE) else f"reader {method.removeprefix(READER)}"
        ]
        for reader in readers:
            against = own[own["reader"] == reader]
            mean = estimate(against, found.radial.error, sampling) if len(against) else Estimate(np.nan)
            cells.append(with_interval(mean))
        rows.append(cells)
    return table(["", *(f"against {r} ({found.radial.unit})" for r in readers)], rows)


def _by_landmark(found: SetEvidence, sampling: Sampling) -> Child:
    error = found.radial.error
    means = {}
    for method in (BASE, TUNED, *sorted(m for m in set(found.cases["method"]) if m.startswith(READER))):
        own = found.radial.table[found.radial.table["method"] == method]
        means[method] = own.groupby("point")[error].mean().reindex(range(CEPH.n_points)).to_numpy(float)
    styles = {BASE: "before", TUNED: "model"}
    groups = [(found.titles.get(m, m), styles.get(m, "truth"), values) for m, values in means.items()]
    drawn = columns(
        [in_words(k) for k in range(CEPH.n_points)],
        groups,
        "landmark",
        f"mean error ({found.radial.unit})",
        "Mean error of each landmark before and after the round",
        width=1100,
        height=340,
        slanted=True,
    )
    return picture(drawn, "By landmark, gate and test films of the clinic together.")

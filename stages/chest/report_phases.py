"""The report's section on the regressor's curriculum: what each phase changed, beside what was published of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.chest.measures import ERROR, METHOD
from stages.core.report.charts import Bar, bars, spanning
from stages.core.report.evidence import Sampling, estimate, list_methods, read_csv
from stages.core.report.markup import Child
from stages.core.report.page import Cell, Method, Page, answers, note, picture, stack, table, verdict_words
from stages.core.report.wording import VERDICTS, Estimate, figure, interval, listing, with_interval

PUBLISHED = {
    "full_mse": 11.34,
    "full_wing": 10.91,
    "attention": 11.07,
    "symmetry": 8.91,
    "complete": 8.13,
}
"""Phase -> mean error in px at 224 on the 144 test films of the system description."""
TARGETS = {"attention": 9.8, "symmetry": 9.3, "complete": 8.5}
"""Phase -> mean error that the system description set out to reach."""


@dataclass(frozen=True)
class Phase:
    """One phase on the test films.

    Attributes:
        change: mean error minus the parent's, paired; None where the parent is no phase.
        verdict: of that comparison, in the words of stages.core.evaluate.statistics.
    """

    name: str
    parent: str
    error: Estimate
    change: Estimate | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Curriculum:
    """What the evaluation says about phases, parents before their children.

    Attributes:
        last: name of the phase that ends the curriculum; "" where there is none.
        begun: what the weights before the first phases were.
        floors: the methods that the last phase was compared with, with its verdicts on them.
        others: further comparisons between phases, as (method, other method, difference, verdict).
    """

    phases: list[Phase]
    last: str
    begun: tuple[str, ...]
    floors: list[Method]
    others: list[tuple[str, str, Estimate, str]]

    @classmethod
    def read(
        cls, evaluation: Path, cases: pd.DataFrame, titles: dict[str, str], sampling: Sampling
    ) -> Curriculum:
        """Read phases.csv and comparison.csv; `cases` is per_film.parquet."""
        listed = read_csv(evaluation / "phases.csv").astype(str)
        compared = read_csv(evaluation / "comparison.csv")
        compared = compared[(compared["role"] == "test") & (compared["error"] == ERROR)]
        names = listed["phase"].tolist()
        test = cases[cases["role"] == "test"]
        found = {(str(r["method_a"]), str(r["method_b"])): r for _, r in compared.iterrows()}

        def phase(name: str, parent: str) -> Phase:
            error = estimate(test[test["method"] == name], ERROR, sampling)
            row = found.get((name, parent))
            return (
                Phase(name, parent, error) if row is None else Phase(name, parent, error, *_said(row, error))
            )

        phases = [phase(name, parent) for name, parent in zip(names, listed["parent"], strict=True)]
        last = next((name for name in names if (METHOD, name) in found), "")
        judged = test[~test["method"].isin([METHOD, *(name for name in names if name != last)])]
        floors = list_methods(judged, compared, (last,), titles, ERROR, sampling)
        parents = {(p.name, p.parent) for p in phases}
        others = [
            (a, b, *_said(row, phases[0].error))
            for (a, b), row in found.items()
            if a in names and b in names and (a, b) not in parents
        ]
        begun = tuple(dict.fromkeys(listed["begun"]))
        return cls(phases, last, begun, [m for m in floors if m.verdict], others)

    def measured(self) -> dict[str, tuple[Estimate, str]]:
        """What claims are held against: the error of each phase, and `NAME_change` against its parent."""
        unit = "px at 224"
        errors = {p.name: (p.error, unit) for p in self.phases}
        return errors | {f"{p.name}_change": (p.change, unit) for p in self.phases if p.change is not None}


def _said(row: pd.Series, like: Estimate) -> tuple[Estimate, str]:
    return Estimate(row["mean_difference"], row["low"], row["high"], like.level), str(row["verdict"])


def in_words(phase: str) -> str:
    return phase.replace("_", " ")


def add_phases(page: Page, found: Curriculum, methods: Sequence[Method], unit: str, unreal: str) -> None:
    """Each phase against its parent, the published figure and its target.

    Args:
        methods: those of the page: the system first, then others by their error.
        unreal: why no target can be reached here: "phantom", or "" where it can.
    """
    lead = (
        "The regressor learns in phases, each from the weights of another one. Changes are paired film by film. "
        "Published figures are those of 144 other films."
    )
    if not found.phases:
        page.add("phases", "The regressor's phases", note("No phase was trained."), lead=lead)
        return
    content = stack(
        answers([against_floors(found, unit)]),
        picture(
            _chart(found, methods, unit),
            "Mean error of each phase on the test films; whiskers are the intervals.",
        ),
        _table(found, unit, unreal),
        *(note(_further(a, b, change, verdict, unit)) for a, b, change, verdict in found.others),
        note(start_words(found.begun)),
    )
    page.add("phases", "The regressor's phases", content, lead=lead)


def against_floors(found: Curriculum, unit: str) -> tuple[str, str]:
    """(style, sentence) on the last phase against methods without a network."""
    last = next(p for p in found.phases if p.name == (found.last or found.phases[-1].name))
    names: dict[str, list[str]] = {}
    for m in found.floors:
        names.setdefault(m.verdict, []).append(m.name)
    phrases = {
        "better": "beats {}",
        "worse": "is worse than {}",
        "no difference": "shows no difference from {}",
        "too few groups": "has too few films to be compared with {}",
    }
    verdicts = [phrases[v].format(listing(names[v])) for v in VERDICTS if v in names]
    style = "bad" if "worse" in names else "good" if set(names) == {"better"} else "open"
    said = f"The last phase, {in_words(last.name)}, is off by {with_interval(last.error, unit)}"
    return (
        style,
        f"{said}. It {'; it '.join(verdicts)}." if verdicts else f"{said}; it was compared with no floor.",
    )


def _chart(found: Curriculum, methods: Sequence[Method], unit: str) -> Child:
    entries = [Bar(in_words(p.name), p.error, "other4") for p in found.phases]
    floors = [m for m in methods[1:] if m.key != found.last]
    entries += [Bar(m.name, m.error, "other1") for m in floors[:1]]
    entries += [Bar(m.name, m.error, "model") for m in methods[:1]]
    reach = [v for b in entries for v in (b.length.value, b.length.high)]
    label = "Mean error of each phase, of the best floor and of the system"
    return bars(entries, spanning(reach, f"mean error ({unit})"), label, width=760)


def _table(found: Curriculum, unit: str, unreal: str) -> Child:
    rows: list[list[Child | Cell]] = []
    for p in found.phases:
        published, target = PUBLISHED.get(p.name), TARGETS.get(p.name)
        rows.append(
            [
                in_words(p.name),
                in_words(p.parent),
                figure(p.error.value),
                interval(p.error),
                figure(p.change.value, signed=True) if p.change else "",
                interval(p.change, signed=True) if p.change else "",
                verdict_words(p.verdict) if p.verdict else "",
                "" if published is None else f"{published:.2f}",
                "" if target is None else f"{target:.1f}",
                "" if target is None else target_cell(p.error, target, unreal),
            ]
        )
    level = f"{100 * found.phases[0].error.level:g} % interval"
    headings = [
        *("Phase", "Begins from", f"Mean error ({unit})", level, "Change", level, "Against where it began"),
        *("Published", "Target", "Target reached"),
    ]
    return table(headings, rows, numeric=(2, 3, 4, 5, 7, 8))


def target_cell(error: Estimate, target: float, unreal: str) -> Cell:
    """Whether a target is reached, and whether the interval leaves a doubt."""
    if unreal:
        return Cell(f"no verdict: {unreal}", style="open")
    reached = error.value <= target
    sure = error.high <= target if reached else error.low > target
    said = ("yes" if reached else "no") + ("" if sure else ", not beyond doubt")
    return Cell(said, style=("good" if reached else "bad") if sure else "open")


def _further(a: str, b: str, change: Estimate, verdict: str, unit: str) -> str:
    words = VERDICTS[verdict][0]
    return f"{in_words(a)} against {in_words(b)}: {with_interval(change, unit, signed=True)}, {words}."


def start_words(begun: Sequence[str]) -> str:
    """What the first phases began from; published figures began from ImageNet's weights."""
    if list(begun) == ["random"]:
        return (
            "The first phases begin from random weights, the published ones from weights of ImageNet; so "
            "their figures are not of the same experiment."
        )
    return f"The weights before the first phases: {listing(list(begun))}."

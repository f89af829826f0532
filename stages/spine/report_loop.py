"""The report's section on the loop, whether Detector and Corrector help, and what its other sections on them read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.statistics import compare
from stages.core.report.charts import Bar, bars, spanning
from stages.core.report.evidence import Sampling, estimate, finite_mean, read_csv
from stages.core.report.markup import Child, Markup
from stages.core.report.page import (
    Cell,
    Page,
    Tile,
    answers,
    picture,
    stack,
    table,
    verdict_words,
)
from stages.core.report.wording import (
    VERDICTS,
    Estimate,
    count,
    figure,
    interval,
    interval_name,
    with_interval,
)

UNIT = "raw px"
FEW = 5
"""Clicks after which published figures are best known."""
COURSES = {"loop": "with Detector and Corrector", "refiner": "Refiner alone", "manual": "by hand"}
"""What becomes of clicks -> how the page calls it; by hand, only the clicked points move."""
ORACLES = {
    "oracle_detector": "Detector that knows the truth",
    "oracle_corrector": "Corrector that knows the truth",
    "oracle_both": "both know the truth",
}
STYLES = {"loop": "model", "refiner": "other2", "manual": "other1"} | dict.fromkeys(ORACLES, "other4")


@dataclass(frozen=True)
class LoopEvidence:
    """What an evaluation says of the test films beyond each method's errors.

    Attributes:
        errors: method -> (C + 1, N) mean error of each film after 0 to C clicks, raw px, the clicked points
            at the label; the same films in the same order for every method.
        answered: the same with clicked points as the method answers.
        patients: (N,) pseudonyms.
        rounds: one row a round of the loop; none where it did nothing.
        risk: name of a figure on the search for wrong points -> its value; those without a value are missing.
    """

    errors: Mapping[str, np.ndarray]
    answered: Mapping[str, np.ndarray]
    patients: np.ndarray
    rounds: pd.DataFrame
    risk: Mapping[str, float]

    @classmethod
    def read(cls, evaluation: Path, patients: pd.Series) -> LoopEvidence:
        """Read clicks.parquet, rounds.csv and risk.csv of an evaluation folder.

        Args:
            patients: patient of each test film, by id.
        Raises:
            StageError: a file, method or film is missing; the message names them all.
        """
        path = evaluation / "clicks.parquet"
        clicks = tables.read_table(path)
        parts = {str(method): part for method, part in clicks.groupby("method")}
        wrong = sorted(f"no method '{method}'" for method in {*COURSES, *ORACLES} - parts.keys())
        errors, answered = {}, {}
        for method, part in parts.items():
            errors[method], answered[method] = (
                part.pivot(index="clicks", columns="id", values=column).reindex(columns=patients.index)
                for column in ("error_raw_px", "error_unpasted_raw_px")
            )
            if part.groupby("clicks")["id"].apply(lambda ids: set(ids) != set(patients.index)).any():
                wrong.append(f"other films than the test films by '{method}'")
        if wrong:
            raise StageError(f"{path}: {'; '.join(wrong)}; run spine-evaluate again")
        risk = read_csv(evaluation / "risk.csv")
        return cls(
            {method: found.to_numpy(float) for method, found in errors.items()},
            {method: found.to_numpy(float) for method, found in answered.items()},
            patients.to_numpy(),
            read_csv(evaluation / "rounds.csv"),
            dict(zip(risk["name"], risk["value"].astype(float), strict=True)),
        )

    @property
    def most(self) -> int:
        """Clicks of the longest course."""
        return min(len(self.errors[course]) for course in COURSES) - 1

    @property
    def few(self) -> int:
        """Clicks that sentences and tiles speak of."""
        return min(FEW, self.most)

    def mean(self, method: str, clicks: int, sampling: Sampling) -> Estimate:
        """Mean error over films after so many clicks, with its interval over patients."""
        cases = pd.DataFrame({"error": self.errors[method][clicks], sampling.group: self.patients})
        return estimate(cases, "error", sampling)

    def difference(self, method: str, other: str, clicks: int, sampling: Sampling) -> tuple[Estimate, str]:
        """Error of `method` minus that of `other` on the same films, and the verdict on `method`."""
        found = compare(
            self.errors[method][clicks],
            self.errors[other][clicks],
            self.patients,
            sampling.settings,
            sampling.seed,
        )
        bounds = (math.nan, math.nan) if found.low is None or found.high is None else (found.low, found.high)
        return Estimate(found.mean_difference, *bounds, sampling.settings.level), found.verdict


def loop_tiles(evidence: LoopEvidence, sampling: Sampling) -> tuple[Tile, ...]:
    """Headline figures: the error after a few clicks, and what the loop changes without any."""
    change, verdict = evidence.difference("loop", "refiner", 0, sampling)
    signed = figure(change.value, signed=True)
    reach = f"{interval_name(change)} {interval(change, signed=True)}, " if change.has_interval else ""
    return (
        Tile(
            f"Mean error after {count(evidence.few, 'click')}",
            evidence.mean("loop", evidence.few, sampling),
            UNIT,
            note="an oracle clicks the worst point",
        ),
        Tile("Detector and Corrector change it by", unit=UNIT, value=signed, note=f"{reach}{_said(verdict)}"),
    )


def _said(verdict: str) -> str:
    return {"better": "they help", "worse": "they harm"}.get(verdict, VERDICTS[verdict][0])


def add_loop(page: Page, evidence: LoopEvidence, sampling: Sampling) -> None:
    """The loop against the Refiner alone, round by round, and what a better Detector or Corrector could bring."""
    content: list[Child] = [answers(worth_of_loop(evidence, sampling))]
    if len(evidence.rounds):
        content.append(_rounds(evidence.rounds))
    content.append(_bounds(evidence, sampling))
    lead = (
        "The Detector flags points, the Corrector says where they belong, the Refiner looks again; no user helps. "
        "Differences are paired film by film, intervals come from a bootstrap over patients."
    )
    page.add("loop", "Does the loop help", *content, lead=lead)


def worth_of_loop(evidence: LoopEvidence, sampling: Sampling) -> list[tuple[str, str]]:
    change, verdict = evidence.difference("loop", "refiner", 0, sampling)
    best, _ = evidence.difference("oracle_both", "refiner", 0, sampling)
    bound = (
        "open",
        f"With a Detector and a Corrector that know the truth the change would be "
        f"{with_interval(best, UNIT, signed=True)}: the bound for better ones under this rule.",
    )
    if evidence.rounds.empty:
        idle = (
            "The loop did nothing: it is switched off, as no rule lowered the mean error on val, or the Detector "
            "flagged no point of the test films. The answer is the Refiner's own."
        )
        return [("open", idle), bound]
    if not evidence.rounds["films_changed"].any():
        taken_back = (
            "The loop changed nothing: no round made the Detector trust a film enough, so that each was taken "
            "back. The answer is the Refiner's own."
        )
        return [("open", taken_back), bound]
    words = {
        "better": "The loop helps",
        "worse": "The loop does harm",
        "no difference": "No difference is shown between the loop and the Refiner alone",
        "too few groups": "There are too few cases to tell whether the loop helps",
    }
    fixed, broken = (int(evidence.rounds[name].sum()) for name in ("fixed", "broken"))
    said = (
        f"{words[verdict]}: it changes the mean error by {with_interval(change, UNIT, signed=True)}. Its rounds "
        f"put {count(fixed, 'wrong point')} right and {count(broken, 'right point')} wrong."
    )
    return [(VERDICTS[verdict][1], said), bound]


def _rounds(rounds: pd.DataFrame) -> Markup:
    counted = ("films_flagged", "films_changed", "flagged", "fixed", "broken")
    rows: list[list[Child | Cell]] = [
        [
            f"{one['round']:.0f}",
            *(f"{one[name]:,.0f}" for name in counted),
            f"{one['net']:+,.0f}".replace("-", "−") if one["net"] else "0",
            figure(one["error_before_raw_px"]),
            figure(one["error_after_raw_px"]),
        ]
        for _, one in rounds.iterrows()
    ]
    headings = [
        "Round",
        "Films flagged",
        "Films changed",
        "Points flagged",
        "Fixed",
        "Broken",
        "Net",
        f"Mean error before ({UNIT})",
        f"after ({UNIT})",
    ]
    caption = (
        "Fixed: points that were wrong and are right after the round, broken: the reverse; a point is wrong "
        "where it is further off than the Detector's limit. A flagged film that was not changed was taken back."
    )
    return table(headings, rows, numeric=range(1, len(headings)), caption=caption)


def _bounds(evidence: LoopEvidence, sampling: Sampling) -> Markup:
    """Errors without clicks, beside those with parts that know the truth."""
    names = {"refiner": COURSES["refiner"], "loop": COURSES["loop"], **ORACLES}
    means = {method: evidence.mean(method, 0, sampling) for method in names}
    rows: list[list[Child | Cell]] = []
    for method, name in names.items():
        row: list[Child | Cell] = [name, figure(means[method].value), interval(means[method])]
        if method == "refiner":
            row += ["", "", ""]
        else:
            change, verdict = evidence.difference(method, "refiner", 0, sampling)
            row += [figure(change.value, signed=True), interval(change, signed=True), verdict_words(verdict)]
        rows.append(row)
    reach = [v for mean in means.values() for v in (mean.value, mean.high)]
    drawn = bars(
        [Bar(name, means[method], STYLES[method]) for method, name in names.items()],
        spanning(reach, f"mean error without clicks ({UNIT})"),
        "Mean error without clicks of the Refiner alone, with the loop, and with parts that know the truth",
    )
    level = interval_name(means["refiner"])
    headings = ["", f"Mean error ({UNIT})", level, f"Minus Refiner ({UNIT})", level, "Against the Refiner"]
    caption = (
        "Parts that know the truth bound what better ones could bring. They run even where val switched the "
        "loop off, and no round is taken back."
    )
    shown = picture(drawn, "Mean error; whiskers are the intervals. Shorter is better.")
    return stack(shown, table(headings, rows, numeric=(1, 2, 3, 4), caption=caption, emphasised=(1,)))


def measured_claims(evidence: LoopEvidence, sampling: Sampling) -> dict[str, tuple[Estimate, str]]:
    """What answers published claims on clicks and on the loop: name -> estimate and unit."""
    measured = {"relative_change": (_relative_change(evidence), "%")}
    if evidence.most >= FEW:
        measured[f"clicks_{FEW}"] = (evidence.mean("loop", FEW, sampling), UNIT)
    for name, told in (("false_flags", "precision"), ("missed", "recall")):
        value = evidence.risk.get(f"{told}_at_threshold", math.nan)
        if math.isfinite(value):
            measured[name] = (Estimate(100 * (1 - value)), "%")
    return measured


def _relative_change(evidence: LoopEvidence) -> Estimate:
    before, after = (float(finite_mean(evidence.errors[m][0])) for m in ("refiner", "loop"))
    return Estimate(100 * (after - before) / before if before > 0 else math.nan)

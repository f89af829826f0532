"""The loop page's sections on the model: the trend over rounds, its calibration, and the criteria of success."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.ceph.evaluation.films import BASE, TUNED
from stages.ceph.loop.reviews import RoundRow, round_rows
from stages.ceph.reporting.calibration import calibration_words, groups_on_test, reliability_chart
from stages.ceph.reporting.clinic import SetEvidence
from stages.ceph.reporting.errors import Radial
from stages.core.report.charts import Bar, bars, spanning
from stages.core.report.evidence import Sampling, estimate
from stages.core.report.markup import Child, join, tag
from stages.core.report.page import Cell, Page, answers, grid, note, picture, stack, table
from stages.core.report.wording import Estimate, figure, interval, with_interval

if TYPE_CHECKING:
    from stages.ceph.dashboard import Checkout, LoopEvidence, Params

VERSIONS = ("Version", "Registered", "Mean gate error", "Unit", "Objections", "Alias")
DEPLOYMENTS = ("When (UTC)", "What", "Version", "From", "To", "Who", "Why")
"""headings of what the registry of a checkout knows"""
COMMAND = tag("code", "plumbline dashboard ceph")
STATES = ((BASE, "round 0, base"), (TUNED, "this round"))


def add_trend(page: Page, found: LoopEvidence, sampling: Sampling, checkout: Checkout | None) -> None:
    """Errors before and after the round, reviews round by round, and what the checkout's registry knows."""
    lead = (
        "Errors on films that no round learned from. Every round starts from the base again and learns from all "
        "reviews so far, so that rounds do not pile up errors."
    )
    content: list[Child] = [
        grid(
            _trend_figure(found.clinic, "the clinic's test films", sampling),
            _trend_figure(found.own, "the base's test films", sampling),
        ),
        reviews_table(round_rows(found.reviews, sampling), found.reviews.unit),
    ]
    if checkout is None:
        content.append(
            note(
                "The active model, deployments and training times are facts of a checkout and stand on the page of ",
                COMMAND,
                ".",
            )
        )
    else:
        content += registry_tables(checkout)
    page.add("trend", "Round by round", stack(*content), lead=lead)


def _trend_figure(found: SetEvidence, films: str, sampling: Sampling) -> Child:
    error, unit = found.radial.error, found.radial.unit
    test = found.cases[found.cases["role"] == "test"]
    means = {m: estimate(test[test["method"] == m], error, sampling) for m, _ in STATES}
    reach = [v for e in means.values() for v in (e.value, e.high)]
    entries = [Bar(said, means[m], "before" if m == BASE else "model") for m, said in STATES]
    drawn = bars(entries, spanning(reach, f"mean error ({unit})"), f"Mean error by round on {films}")
    n = test["id"].nunique()
    return picture(drawn, f"Mean error on {films} ({n}); whiskers are the intervals.")


def reviews_table(rows: list[RoundRow], unit: str) -> Child:
    cells: list[list[Child | Cell]] = [
        [
            f"{r.round}",
            f"{r.films:,}",
            f"{r.points:,}",
            figure(r.accepted.value),
            interval(r.accepted),
            figure(r.moved),
            figure(r.seconds.value),
        ]
        for r in rows
    ]
    headings = [
        "Round",
        "Films reviewed",
        "Points",
        "Accepted, audit (%)",
        "Interval",
        f"Median correction ({unit})",
        "Seconds a film",
    ]
    caption = "Reviews by round. What is accepted are points of the model that was shown in that round."
    return table(headings, cells, numeric=range(1, len(headings)), caption=caption)


def registry_tables(checkout: Checkout) -> list[Child]:
    """Registered models and the deployment log."""
    content: list[Child] = []
    if checkout.versions:
        content.append(
            table(VERSIONS, checkout.versions, numeric=(2,), caption="Registered models, oldest first.")
        )
    if checkout.deployments:
        content.append(table(DEPLOYMENTS, checkout.deployments, caption="Deployment log, newest first."))
    if not content:
        content.append(
            note("No model of this data set was registered yet: ", tag("code", "plumbline promote ceph"), ".")
        )
    return content


def add_calibration(page: Page, evaluation: Path, radial: Radial, sampling: Sampling, groups: int) -> None:
    """Expected beside actual error on the clinic's test films, before and after."""
    drawn, sentences = [], []
    for method, said in STATES:
        chart = reliability_chart(
            groups_on_test(evaluation, method, radial.error),
            radial.unit,
            f"Expected and actual error, {said}",
        )
        drawn.append(picture(chart, f"{said}; points in groups by expected error, on the line they agree."))
        sentences.append(calibration_words(radial, method, "the clinic's test films", groups))
    lead = (
        "The queue ranks films by expected errors: where these are wrong, reviewers look at the wrong films."
    )
    page.add(
        "calibration", "Does it know where it is wrong", stack(answers(sentences), grid(*drawn)), lead=lead
    )


def add_criteria(page: Page, found: LoopEvidence, params: Params, checkout: Checkout | None) -> None:
    """The success criteria of the system description, each with what was measured and its interval."""
    sampling, wanted = params.sampling, params.criteria
    change = found.clinic.relative_change("test", sampling.settings.level)
    accepted = found.reviews.acceptance(sampling)
    training = None if checkout is None else sum(checkout.training_s.values()) / 3600
    simulated = found.reviews.simulated
    rows = [
        _row(
            "Mean error at the clinic",
            f"{wanted.error_change_percent:+g} % or more".replace("-", "−"),
            with_interval(change, "%", signed=True),
            _reached(change, wanted.error_change_percent, below=True),
            "test films, against the base on the same films",
        ),
        _row(
            "Points accepted",
            f"at least {wanted.acceptance_percent:g} %",
            with_interval(accepted, "%"),
            _reached(accepted, wanted.acceptance_percent, below=False),
            f"random audit, points of the base model; near enough is {params.tolerance(found.reviews.unit):g} "
            f"{found.reviews.unit}",
        ),
        _row(
            "Time a film takes",
            f"{wanted.time_change_percent:+g} % or more".replace("-", "−"),
            _time_change(found),
            ("no verdict: simulated times", "open") if simulated else ("see the figure", "open"),
            "points shown against points hidden; a simulated reviewer's times are a formula",
        ),
        _row(
            "Training of a round",
            f"under {wanted.training_hours:g} h",
            join("said by ", COMMAND) if training is None else f"{figure(60 * training)} min",
            ("not tested here", "open")
            if training is None
            else (("yes", "good") if training < wanted.training_hours else ("no", "bad")),
            "wall time of ceph-base and ceph-tuned, on this machine",
        ),
        _row(
            "Queue better than chance",
            "at equal effort",
            "not measured on this page",
            ("not tested here", "open"),
            "bench/ceph_clinic.py: uncertain order against random order",
        ),
        _row(
            "Deployment without downtime",
            "no failed request",
            "not measured on this page",
            ("not tested here", "open"),
            "tests/flows/serving and bench/serving.py swap models under load",
        ),
    ]
    lead = "The system description's criteria; its figures differ from page to page, these are those of params.yaml."
    if found.tuned.is_phantom:
        lead += " On phantoms and with simulated reviewers none of them says anything of a clinic."
    headings = ["Criterion", "Wanted", "Measured", "Reached", "How"]
    page.add("criteria", "Is the loop a success", table(headings, rows), lead=lead)


def _row(what: str, wanted: str, measured: Child, verdict: tuple[str, str], how: str) -> list[Child | Cell]:
    return [what, wanted, measured, Cell(verdict[0], style=verdict[1]), how]


def _reached(found: Estimate, target: float, below: bool) -> tuple[str, str]:
    """Whether a figure reaches its target, and whether its interval leaves a doubt."""
    if not np.isfinite(found.value):
        return "not measured", "open"
    reached = found.value <= target if below else found.value >= target
    if not found.has_interval:
        return ("yes" if reached else "no") + ", no interval", "open"
    edge = (found.high if reached else found.low) if below else (found.low if reached else found.high)
    sure = (edge <= target) == reached if below else (edge >= target) == reached
    said = ("yes" if reached else "no") + ("" if sure else ", not beyond doubt")
    return said, ("good" if reached else "bad") if sure else "open"


def _time_change(found: LoopEvidence) -> str:
    seconds = found.reviews.sittings.groupby("blinded")["seconds"].mean()
    if not {True, False} <= set(seconds.index):
        return "no film was reviewed with points hidden"
    return f"{figure(100 * (seconds[False] / seconds[True] - 1), signed=True)} %"

"""Stage ceph-dashboard: one page on the loop: what reviewers did, what the model made of it, what comes next.

The stage's page holds what follows from its inputs, so that it is the same bytes every time. Which model is
active, how long training took and what earlier rounds were promoted are facts of this checkout, not of the
inputs; `plumbline dashboard ceph` writes the same page with them (see `Checkout`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.evaluation.films import BASE_SET, CLINIC_SET
from stages.ceph.evaluation.verdict import read_verdict
from stages.ceph.loop.model import add_calibration, add_criteria, add_trend
from stages.ceph.loop.people import add_acceptance, add_time
from stages.ceph.loop.reviews import Reviews
from stages.ceph.loop.upcoming import add_learned, add_next
from stages.ceph.reporting.clinic import SetEvidence, change_words
from stages.core.data import tables
from stages.core.evaluate.statistics import Bootstrap
from stages.core.model.card import ModelCard, load_card
from stages.core.params import StageParams
from stages.core.report.evidence import Sampling
from stages.core.report.page import Page, Tile, answers, banner, tiles
from stages.core.report.wording import count, figure, with_interval
from stages.core.review.events import ReviewEvent, read_events
from stages.core.review.queue import read_queue
from stages.core.stage import Observer, stage_main

TITLES = {"base": "base model", "tuned": "after the round"}


class Criteria(BaseModel):
    """When the loop is called a success; the system description's figures.

    Attributes:
        error_change_percent: of the mean error at the clinic, at most.
        acceptance_percent: of points in the random audit, at least.
        time_change_percent: of the time a film takes with the model's points against without, at most.
        training_hours: of a round, at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    error_change_percent: float
    acceptance_percent: float
    time_change_percent: float
    training_hours: float


class Params(StageParams):
    """Parameters.

    Attributes:
        tolerance_mm, tolerance_percent_sn: a point that a reviewer moves by no more counts as near enough, in mm
            where every spacing is known, else in percent of the S-N distance.
        groups: of points by their expected error, at most.
    """

    section: ClassVar[str] = "ceph.dashboard"
    seed: int
    tolerance_mm: float = Field(gt=0)
    tolerance_percent_sn: float = Field(gt=0)
    groups: int = Field(ge=2)
    criteria: Criteria
    bootstrap: Bootstrap

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.bootstrap, self.seed)

    def tolerance(self, unit: str) -> float:
        return self.tolerance_mm if unit == "mm" else self.tolerance_percent_sn


@dataclass(frozen=True)
class Checkout:
    """What no input of the stage says, for the command's page.

    Attributes:
        active: the model that is served, in words.
        versions: registered models, oldest first: rows of a table; see `loop.model.VERSIONS`.
        deployments: promotions, refusals and rollbacks, newest first; see `loop.model.DEPLOYMENTS`.
        training_s: stage -> seconds of the run that made the present models.
    """

    active: str
    versions: tuple[tuple[str, ...], ...]
    deployments: tuple[tuple[str, ...], ...]
    training_s: dict[str, float]


@dataclass(frozen=True)
class LoopEvidence:
    """Everything that the page is drawn from."""

    base: ModelCard
    tuned: ModelCard
    reviews: Reviews
    clinic: SetEvidence
    own: SetEvidence
    queue: pd.DataFrame
    labels: pd.DataFrame
    verdict: str
    reasons: tuple[str, ...]
    evaluation: Path

    @classmethod
    def read(
        cls,
        evaluation: Path,
        events: list[ReviewEvent],
        labels: Path,
        queue: Path,
        verdict: Path,
        base: Path,
        tuned: Path,
    ) -> LoopEvidence:
        return cls(
            load_card(base),
            load_card(tuned),
            Reviews.of(events),
            SetEvidence.read(evaluation / CLINIC_SET, TITLES),
            SetEvidence.read(evaluation / BASE_SET, TITLES),
            read_queue(queue),
            tables.read_table(labels),
            *read_verdict(verdict),
            evaluation,
        )


def run(
    params: Params,
    evaluation: Path,
    events: Path,
    labels: Path,
    queue: Path,
    verdict: Path,
    base: Path,
    tuned: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the page to `output`.

    Returns:
        Its headline figures: acceptance, correction, films, labels.
    """
    said = read_events(events)
    found = LoopEvidence.read(evaluation, said, labels, queue, verdict, base, tuned)
    content = loop_page(found, params).html().encode("utf-8")
    output.write_bytes(content)
    accepted = found.reviews.acceptance(params.sampling)
    return {
        "kilobytes": round(len(content) / 1024),
        "acceptance_percent": accepted.value,
        "acceptance_low": accepted.low,
        "acceptance_high": accepted.high,
        "n_audited_points": len(found.reviews.audited),
        "median_correction": float(found.reviews.corrections()["moved"].median()),
        "n_films_reviewed": found.reviews.sittings["film"].nunique(),
        "n_labels": int((found.labels["weight"] > 0).sum()),
    }


def loop_page(found: LoopEvidence, params: Params, checkout: Checkout | None = None) -> Page:
    """The page; with what the checkout knows where that is given."""
    sampling, reviews = params.sampling, found.reviews
    page = Page(
        "Ceph: the loop", "What reviewers did with the model's points, and what the model learned from it"
    )
    page.head = [
        banner(
            found.tuned.dataset, found.tuned.is_phantom, count(found.tuned.n_train, "film") + " trained on"
        ),
        answers(
            [change_words(found.clinic, sampling), acceptance_words(reviews, params), verdict_words(found)]
        ),
        tiles(headline(found, params, checkout)),
    ]
    add_trend(page, found, sampling, checkout)
    add_acceptance(page, reviews, params.tolerance(reviews.unit), sampling)
    add_time(page, reviews, sampling)
    add_learned(page, found)
    add_next(page, found)
    clinic = found.evaluation / CLINIC_SET
    add_calibration(page, clinic, found.clinic.radial, sampling, params.groups)
    add_criteria(page, found, params, checkout)
    return page


def acceptance_words(reviews: Reviews, params: Params) -> tuple[str, str]:
    """(style, sentence): how often do reviewers accept the model's points?"""
    accepted = reviews.acceptance(params.sampling)
    n = reviews.audited["film"].nunique()
    if not n:
        return "open", "No film of the random audit was reviewed, so that nothing is known of acceptance."
    who = "A simulated reviewer" if reviews.simulated else "Reviewers"
    said = f"{who} accepted {with_interval(accepted, '%')} of the points on {count(n, 'film')} of the random audit"
    return "open", f"{said}; the base model set them, before the round."


def verdict_words(found: LoopEvidence) -> tuple[str, str]:
    style = "bad" if found.reasons else "good"
    against = f" ({'; '.join(found.reasons[:3])})" if found.reasons else ""
    return style, f"The comparison says: {found.verdict}{against}."


def headline(found: LoopEvidence, params: Params, checkout: Checkout | None) -> list[Tile]:
    """The page's first figures."""
    reviews, sampling = found.reviews, params.sampling
    tolerance = params.tolerance(reviews.unit)
    moved = reviews.corrections()["moved"].dropna()
    made_up = "simulated: a model of times" if reviews.simulated else "time on landmarks"
    learned = int((found.labels["weight"] > 0).sum())
    on_trial = Tile("This round's model", value=found.verdict, note="says the comparison")
    return [
        on_trial if checkout is None else Tile("Active model", value=checkout.active, note="champion"),
        Tile("Accepted, random audit", reviews.acceptance(sampling), "%"),
        Tile(f"Within {tolerance:g} {reviews.unit}, random audit", reviews.within(tolerance, sampling), "%"),
        Tile(
            "Median correction",
            value=figure(float(moved.median())) if len(moved) else "–",
            unit=reviews.unit,
            note=f"{count(len(moved), 'point')} moved",
        ),
        Tile("Films an hour", value=figure(reviews.films_per_hour), note=made_up),
        Tile(
            "Labels learned from",
            value=f"{learned:,}",
            note=f"on {count(int(found.labels.loc[found.labels['weight'] > 0, 'id'].nunique()), 'film')}",
        ),
    ]


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""What reviewers did with the model's points: acceptance, corrections, time, agreement with themselves.

How often points are accepted is read off the random audit alone. Films that were queued because the model was
unsure are worse than most, and a figure over all of them would fall as the queue gets better at finding them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.ceph.schema import CEPH
from stages.ceph.simulate import UI_VERSION
from stages.core.report.evidence import Sampling, estimate
from stages.core.report.wording import Estimate
from stages.core.review.events import PLACED, ReviewEvent, standing

AUDIT, REPEAT = "random_audit", "repeat"


@dataclass(frozen=True)
class Reviews:
    """The verdicts that count, one row each, and the time of every film that was opened.

    Attributes:
        verdicts: film, landmark, annotator, round, kind, blinded, verdict, moved (NaN unless placed), x and y in the
            unit; a film that came again has rows of its own.
        sittings: film, annotator, round, kind, blinded, seconds: one row each time a film was opened.
        unit: of lengths: `mm`, or `% of S–N` where a film's spacing is unknown.
        simulated: whether any event was made by no person.
    """

    verdicts: pd.DataFrame
    sittings: pd.DataFrame
    unit: str
    simulated: bool

    @classmethod
    def of(cls, events: Sequence[ReviewEvent]) -> Reviews:
        """Read events of any rounds."""
        # A repeat is judged for itself: it must not stand in the place of what was said the first time.
        counting = [
            event
            for again in (False, True)
            for event in standing([e for e in events if (e.queue_kind == REPEAT) == again])
        ]
        in_mm = all(e.spacing_mm is not None for e in counting if e.verdict in PLACED)
        scale = {} if in_mm else percent_per_px(counting)
        rows = [_row(e, e.spacing_mm if in_mm else scale.get(e.film)) for e in counting]
        columns = ["film", "landmark", "annotator", "round", "kind", "blinded", "verdict", "moved", "x", "y"]
        return cls(
            pd.DataFrame(rows, columns=columns).astype({"blinded": bool, "moved": float}),
            _sittings(events),
            "mm" if in_mm else "% of S–N",
            any(e.ui_version == UI_VERSION for e in events),
        )

    @property
    def audited(self) -> pd.DataFrame:
        """Verdicts of the random audit on points that were shown, with `accepted` 0 or 100."""
        own = self.verdicts
        own = own[(own["kind"] == AUDIT) & ~own["blinded"] & own["verdict"].isin(PLACED)]
        return own.assign(accepted=100.0 * (own["verdict"] == "accept"))

    def acceptance(self, sampling: Sampling) -> Estimate:
        """Percent of the audit's shown points that reviewers accepted; interval over films."""
        return estimate(self.audited, "accepted", by_film(sampling))

    def within(self, tolerance: float, sampling: Sampling) -> Estimate:
        """Percent of the audit's points, shown or blinded, that were moved by at most `tolerance`."""
        own = self.verdicts
        own = own[(own["kind"] == AUDIT) & np.isfinite(own["moved"])]
        near = own.assign(near=100.0 * (own["moved"] <= tolerance))
        return estimate(near, "near", by_film(sampling))

    def corrections(self) -> pd.DataFrame:
        """Verdicts `correct` on points that were shown: those that a reviewer moved."""
        own = self.verdicts
        return own[(own["verdict"] == "correct") & ~own["blinded"]]

    def by_landmark(self) -> pd.DataFrame:
        """One row a landmark: accepted (percent, audit), n (points of the audit), moved (median correction)."""
        accepted = self.audited.groupby("landmark")["accepted"].agg(["mean", "size"])
        moved = self.corrections().groupby("landmark")["moved"].median()
        found = pd.DataFrame(index=list(CEPH.names))
        found["accepted"], found["n"] = accepted["mean"], accepted["size"]
        found["moved"] = moved
        return found.fillna({"n": 0}).astype({"n": int})

    def seconds(self, blinded: bool, sampling: Sampling) -> Estimate:
        """Mean seconds a film, of films whose points were shown, or were not."""
        own = self.sittings
        return estimate(own[own["blinded"] == blinded].dropna(subset="seconds"), "seconds", by_film(sampling))

    @property
    def films_per_hour(self) -> float:
        """Films of points that were shown, by the time that reviewers spent on their landmarks."""
        own = self.sittings[~self.sittings["blinded"]]
        return (
            3600 * own["seconds"].count() / own["seconds"].sum() if own["seconds"].sum() > 0 else float("nan")
        )

    def anchoring(self, sampling: Sampling) -> tuple[Estimate, Estimate]:
        """Mean distance of reviewers from the model where its points were shown, and where they were hidden.

        A reviewer who keeps to what he is shown is nearer to it than one who cannot see it.
        """
        own = self.verdicts[np.isfinite(self.verdicts["moved"])]
        shown, hidden = (
            estimate(own[own["blinded"] == blinded], "moved", by_film(sampling)) for blinded in (False, True)
        )
        return shown, hidden

    def repeated(self) -> tuple[float, np.ndarray]:
        """How far annotators agree with themselves on films that came again.

        Returns:
            the percent of landmarks with the same verdict both times, and (n,) distances, in the unit, between the
            places of those that were moved at least once: an accepted point never differs from itself.
        """
        keys = ["film", "landmark", "annotator"]
        own = self.verdicts
        columns = [*keys, "verdict", "x", "y"]
        again = own.loc[own["kind"] == REPEAT, columns]
        both = own.loc[own["kind"] != REPEAT, columns].merge(again, on=keys, suffixes=("", "_again"))
        same = both["verdict"] == both["verdict_again"]
        moved = both[(both["verdict"] == "correct") | (both["verdict_again"] == "correct")]
        x, y, x_again, y_again = moved[["x", "y", "x_again", "y_again"]].to_numpy(float).T
        apart = np.hypot(x - x_again, y - y_again)
        return float(100 * same.mean()) if len(both) else float("nan"), apart[np.isfinite(apart)]


def by_film(sampling: Sampling) -> Sampling:
    """Intervals that draw films: points of one film are alike."""
    return Sampling(sampling.settings, sampling.seed, group="film")


def percent_per_px(events: Sequence[ReviewEvent]) -> dict[str, float]:
    """Film -> percent of its predicted S-N distance that a raw px is; films without both ends are not there."""
    ends: dict[str, dict[str, np.ndarray]] = {}
    for event in events:
        if event.landmark in ("sella", "nasion"):
            ends.setdefault(event.film, {})[event.landmark] = np.array([event.pred_x, event.pred_y])
    return {
        film: float(100 / np.linalg.norm(found["nasion"] - found["sella"]))
        for film, found in ends.items()
        if len(found) == 2
    }


def _row(event: ReviewEvent, scale: float | None) -> tuple[object, ...]:
    factor = np.nan if scale is None else scale
    x, y, moved = np.nan, np.nan, np.nan
    if event.x is not None and event.y is not None:
        x, y = event.x * factor, event.y * factor
        moved = float(np.hypot(event.x - event.pred_x, event.y - event.pred_y)) * factor
        if event.moved_mm is not None and factor == event.spacing_mm:
            moved = event.moved_mm
    told = (event.film, event.landmark, event.annotator, event.round, event.queue_kind, event.blinded)
    return (*told, event.verdict, moved, x, y)


def _sittings(events: Sequence[ReviewEvent]) -> pd.DataFrame:
    """Time on a film each time it was opened, undone verdicts included; NaN where none was taken (imports)."""
    rows = [
        (e.film, e.annotator, e.round, e.queue_kind, e.blinded, e.rank, e.dwell_ms / 1000) for e in events
    ]
    keys = ["film", "annotator", "round", "kind", "blinded", "rank"]
    table = pd.DataFrame(rows, columns=[*keys, "seconds"]).astype({"blinded": bool, "seconds": float})
    times = table.groupby(keys, sort=True)[["seconds"]].sum().reset_index()
    return times.assign(seconds=times["seconds"].where(times["seconds"] > 0))


@dataclass(frozen=True)
class RoundRow:
    """One round's reviews. `accepted`: percent, random audit; `moved`: median correction, in the reviews' unit."""

    round: int
    films: int
    points: int
    accepted: Estimate
    moved: float
    seconds: Estimate


def round_rows(reviews: Reviews, sampling: Sampling) -> list[RoundRow]:
    """The rounds that reviews are of, oldest first."""
    found = []
    for number in sorted(set(reviews.verdicts["round"])):
        own = Reviews(
            reviews.verdicts[reviews.verdicts["round"] == number],
            reviews.sittings[reviews.sittings["round"] == number],
            reviews.unit,
            reviews.simulated,
        )
        moved = own.corrections()["moved"].dropna()
        found.append(
            RoundRow(
                int(number),
                int(own.sittings["film"].nunique()),
                len(own.verdicts),
                own.acceptance(sampling),
                float(moved.median()) if len(moved) else float("nan"),
                own.seconds(False, sampling),
            )
        )
    return found

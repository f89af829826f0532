"""The loop page's sections on reviewers: what they accept, how far they move points, and how long they take."""

from __future__ import annotations

import numpy as np

from stages.ceph.loop.reviews import Reviews
from stages.ceph.schema import CEPH
from stages.core.report.charts import Axis, Series, columns, curves, error_curve, spanning
from stages.core.report.evidence import Sampling
from stages.core.report.markup import Child
from stages.core.report.page import Cell, Page, grid, note, picture, stack, table
from stages.core.report.wording import Estimate, count, figure, interval, with_interval

KINDS = {"random_audit": "random audit", "uncertain": "uncertain", "repeat": "repeat"}


def add_acceptance(page: Page, reviews: Reviews, tolerance: float, sampling: Sampling) -> None:
    """Acceptance over all points and by landmark, and how far points were moved."""
    lead = (
        "Acceptance is read off the random audit alone: films drawn by chance from the whole pool, their points "
        f"shown. Near enough: moved by at most {tolerance:g} {reviews.unit}, whatever the reviewer called it."
    )
    content = stack(
        grid(_by_kind(reviews, sampling), _distances(reviews, tolerance)),
        _by_landmark(reviews),
        _agreement(reviews, sampling),
    )
    page.add("acceptance", "What reviewers accept", content, lead=lead)


def _by_kind(reviews: Reviews, sampling: Sampling) -> Child:
    """Verdicts by the kind of film that they are on."""
    rows: list[list[Child | Cell]] = []
    for kind, said in KINDS.items():
        for blinded in (False, True):
            own = reviews.verdicts
            own = own[(own["kind"] == kind) & (own["blinded"] == blinded)]
            if own.empty:
                continue
            counts = own["verdict"].value_counts()
            numbers = [int(counts.get(v, 0)) for v in ("accept", "correct", "not_visible", "unsure")]
            shown = f"{said}, points hidden" if blinded else said
            rows.append([shown, f"{own['film'].nunique():,}", *(f"{n:,}" for n in numbers)])
    accepted = reviews.acceptance(sampling)
    caption = (
        f"Accepted in the random audit: {with_interval(accepted, '%')}. Films that were queued as uncertain are worse "
        "than most on purpose, and say nothing of the model as a whole. Hidden points cannot be accepted."
    )
    headings = ["Films", "Number", "Accepted", "Moved", "Not visible", "Unsure"]
    return table(headings, rows, numeric=(1, 2, 3, 4, 5), caption=caption)


def _distances(reviews: Reviews, tolerance: float) -> Child:
    """How far points were moved, as cumulative curves by kind."""
    drawn, ends = [], [tolerance]
    styles = {"random_audit": "model", "uncertain": "other3", "repeat": "other4"}
    for kind, said in KINDS.items():
        own = reviews.verdicts
        moved = own.loc[(own["kind"] == kind) & np.isfinite(own["moved"]), "moved"].to_numpy(float)
        if len(moved) > 1:
            x, y = error_curve(moved)
            drawn.append(Series(said, np.append(0.0, x), np.append(0.0, y), styles[kind]))
            ends.append(float(np.quantile(moved, 0.97)))
    if not drawn:
        return note("No point was placed.")
    shown = curves(
        drawn,
        spanning(ends, f"distance from the prediction ({reviews.unit})"),
        Axis(0, 1.0, "share of points within it"),
        "How far reviewers place landmarks from the prediction",
    )
    return picture(
        shown, "Accepted points count as 0. Hidden points are among them, where a reviewer places all."
    )


def _by_landmark(reviews: Reviews) -> Child:
    found = reviews.by_landmark()
    names = [name.replace("_", " ") for name in CEPH.names]
    accepted = columns(
        names,
        [("accepted", "model", found["accepted"].to_numpy(float))],
        "landmark",
        "accepted in the random audit (%)",
        "Acceptance of each landmark",
        width=540,
        height=330,
        slanted=True,
    )
    moved = columns(
        names,
        [("correction", "prediction", found["moved"].to_numpy(float))],
        "landmark",
        f"median correction ({reviews.unit})",
        "Median correction of each landmark",
        width=540,
        height=330,
        slanted=True,
    )
    least, most = int(found["n"].min()), int(found["n"].max())
    points = count(most, "point") if least == most else f"{least} to {most} points"
    return grid(
        picture(accepted, f"Percent accepted by landmark: {points} each, so that single bars are rough."),
        picture(
            moved,
            "How far points are moved that are moved, all kinds of films, points shown; no bar: none was.",
        ),
    )


def _agreement(reviews: Reviews, sampling: Sampling) -> Child:
    """Anchoring, and how far reviewers agree with themselves."""
    shown, hidden = reviews.anchoring(sampling)
    said = []
    if np.isfinite(hidden.value):
        said.append(
            note(
                f"Mean distance from the model: {with_interval(shown, reviews.unit)} where its points are shown, "
                f"{with_interval(hidden, reviews.unit)} where they are hidden. A gap says that reviewers keep to what "
                "they are shown (or that small errors are accepted as they are)."
            )
        )
    same, apart = reviews.repeated()
    if len(apart):
        said.append(
            note(
                f"On films that came again {figure(same)} % of the verdicts are the same; points that were moved lie "
                f"{figure(float(np.median(apart)))} {reviews.unit} apart in the median ({count(len(apart), 'point')}): "
                "a floor for what corrections can mean."
            )
        )
    return stack(*said)


def add_time(page: Page, reviews: Reviews, sampling: Sampling) -> None:
    """Seconds a film, shown against hidden."""
    lead = (
        "Time spent on landmarks, from the events' dwell times; imported verdicts have none and are left out."
    )
    if reviews.simulated:
        lead += (
            " These events are simulated: their times are a formula (look, move, reach), so that no figure here says "
            "how long a person takes."
        )
    rows: list[list[Child | Cell]] = []
    for blinded, said in ((False, "points shown"), (True, "points hidden")):
        own = reviews.sittings[reviews.sittings["blinded"] == blinded].dropna(subset="seconds")
        found = reviews.seconds(blinded, sampling) if len(own) else Estimate(np.nan)
        median = figure(float(own["seconds"].median())) if len(own) else "–"
        rows.append([said, f"{len(own):,}", figure(found.value), interval(found), median])
    level = f"{100 * sampling.settings.level:g} % interval"
    headings = ["Films with", "Sittings", "Mean (s a film)", level, "Median (s)"]
    speed = note(f"{figure(reviews.films_per_hour)} films an hour where points are shown.")
    page.add(
        "time", "How long a film takes", stack(table(headings, rows, numeric=(1, 2, 3, 4)), speed), lead=lead
    )

"""What reviewers said, as events that are only ever added, and the labels that follow from them.

An event is one verdict of one annotator on one landmark of one film. Nothing is edited: a later event stands
in the place of the one that it `supersedes`, and an `undo` takes one back. An event counts as long as no event
that itself counts supersedes it, so that undoing a correction brings the verdict before it back, and undoing
an undo is a redo:

    accept A        A counts
    correct B -> A  B counts
    undo C -> B     A counts
    undo D -> C     B counts

`fold` is a pure function of the set of events: their order in the input and repeated copies change nothing.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.model.card import wrong_fields

Verdict = Literal["accept", "correct", "not_visible", "unsure", "undo"]
QueueKind = Literal["uncertain", "random_audit", "repeat"]
Provenance = Literal["accepted", "corrected", "not_visible", "unsure", "conflicting"]
PLACED: tuple[Verdict, ...] = ("accept", "correct")
"""Verdicts that say where the landmark is."""
SHOWN = 10
"""Offenders that a message names before it only counts."""
EventId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Field(min_length=1)]


class ReviewEvent(BaseModel):
    """One verdict.

    Attributes:
        event_id: 32 hexadecimal digits, unique for ever.
        ts_utc: when it was said, ISO 8601 with the offset of UTC.
        lane, round: what was reviewed, and in which round of the loop.
        film, landmark: pseudonym of the film and name of the landmark in the lane's schema.
        model_key: DVC key of the model whose prediction was shown.
        queue_kind, blinded, rank, uncertainty: the film's place in the queue; `blinded` means that the
            prediction was hidden until the annotator had placed the point.
        pred_x, pred_y: the prediction, raw px.
        verdict: `accept` and `correct` say where the landmark is, `undo` takes an event back.
        x, y: where the annotator sees it, raw px; None unless the verdict is accept or correct.
        spacing_mm: mm per raw px (mean of both directions), None if unknown.
        moved_mm: distance from the prediction, None if unknown.
        dwell_ms: time that the annotator spent on the landmark.
        annotator: who.
        ui_version: of the page or program that wrote the event.
        supersedes: the event that this one replaces or takes back; an undo without it means the annotator's
            last verdict on the landmark.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    event_id: EventId
    ts_utc: str
    lane: Name
    round: int = Field(ge=0)
    film: Name
    landmark: Name
    model_key: Name
    queue_kind: QueueKind
    blinded: bool
    rank: int = Field(ge=0)
    uncertainty: float
    pred_x: float
    pred_y: float
    verdict: Verdict
    x: float | None = None
    y: float | None = None
    spacing_mm: float | None = Field(default=None, gt=0)
    moved_mm: float | None = Field(default=None, ge=0)
    dwell_ms: int = Field(ge=0)
    annotator: Name
    ui_version: Name
    supersedes: EventId | None = None

    @field_validator("ts_utc")
    @classmethod
    def _in_utc(cls, value: str) -> str:
        moment = datetime.datetime.fromisoformat(value)
        if moment.utcoffset() != datetime.timedelta(0):
            raise ValueError(f"{value!r} must end with the offset of UTC (+00:00 or Z)")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ReviewEvent:
        placed, given = self.verdict in PLACED, self.x is not None and self.y is not None
        if placed and not given:
            raise ValueError(f"the verdict {self.verdict} needs x and y")
        if not placed and (self.x is not None or self.y is not None):
            raise ValueError(f"the verdict {self.verdict} has no x and y")
        if self.supersedes == self.event_id:
            raise ValueError("an event cannot supersede itself")
        return self

    @property
    def moment(self) -> tuple[datetime.datetime, str]:
        """Sorting key: time, then id."""
        return datetime.datetime.fromisoformat(self.ts_utc), self.event_id

    @property
    def subject(self) -> tuple[str, str, str]:
        """Film, landmark and annotator."""
        return self.film, self.landmark, self.annotator


_OPTIONAL = ("x", "y", "spacing_mm", "moved_mm", "supersedes")
_TEXT, _NUMBER, _COUNT = pa.string(), pa.float64(), pa.int64()
_TYPES: dict[str, tuple[pa.DataType, str]] = {
    "event_id": (_TEXT, ""),
    "ts_utc": (_TEXT, "ISO 8601, UTC"),
    "lane": (_TEXT, ""),
    "round": (_COUNT, ""),
    "film": (_TEXT, ""),
    "landmark": (_TEXT, ""),
    "model_key": (_TEXT, ""),
    "queue_kind": (_TEXT, ""),
    "blinded": (pa.bool_(), ""),
    "rank": (_COUNT, ""),
    "uncertainty": (_NUMBER, ""),
    "pred_x": (_NUMBER, "raw px"),
    "pred_y": (_NUMBER, "raw px"),
    "verdict": (_TEXT, ""),
    "x": (_NUMBER, "raw px"),
    "y": (_NUMBER, "raw px"),
    "spacing_mm": (_NUMBER, "mm per raw px"),
    "moved_mm": (_NUMBER, "mm"),
    "dwell_ms": (_COUNT, "ms"),
    "annotator": (_TEXT, ""),
    "ui_version": (_TEXT, ""),
    "supersedes": (_TEXT, ""),
}
EVENTS_SCHEMA = pa.schema(
    [
        tables.column(name, kind, unit).with_nullable(name in _OPTIONAL)
        for name, (kind, unit) in _TYPES.items()
    ]
)
"""Columns of events.parquet: the fields of `ReviewEvent`."""

LABELS_SCHEMA = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.column("landmark", pa.string()),
        tables.column("x", pa.float64(), "raw px"),
        tables.column("y", pa.float64(), "raw px"),
        tables.column("weight", pa.float32()),
        tables.column("provenance", pa.string()),
        tables.column("annotators", pa.list_(pa.string())),
        tables.column("event_ids", pa.list_(pa.string())),
    ]
)
"""Columns of labels.parquet; x and y are NaN and weight is 0 where reviewers gave no place to learn."""


class FoldSettings(BaseModel):
    """How verdicts become labels.

    Attributes:
        tolerance_mm, tolerance_px: annotators whose points lie no further apart than this (mm where the
            spacing is known, else raw px) agree, and the label is their mean.
        accepted, corrected: weight of such a label in training. An accepted point is the model's own: it
            says that the truth is near, not that it is there.
        hidden: weight of an accepted or corrected point that was placed without seeing the prediction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tolerance_mm: float = Field(gt=0)
    tolerance_px: float = Field(gt=0)
    accepted: float = Field(gt=0, le=1)
    corrected: float = Field(gt=0, le=1)
    hidden: float = Field(gt=0, le=1)


def write_events(path: Path, events: Iterable[ReviewEvent]) -> None:
    """Write events.parquet, sorted by time and id, each event once.

    Raises:
        StageError: two events of one id differ.
    """
    rows = [event.model_dump(mode="json") for event in ordered(events)]
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in _TYPES})
    tables.write_table(path, frame, EVENTS_SCHEMA)


def read_events(path: Path) -> list[ReviewEvent]:
    """Read events.parquet, or the one in a folder.

    Raises:
        StageError: naming every event that is none.
    """
    file = path / "events.parquet" if path.is_dir() else path
    if not file.is_file():
        raise StageError(f"{file} does not exist: review some films and close the round, or simulate one")
    table = pq.read_table(file)
    if table.schema.names != EVENTS_SCHEMA.names:
        differing = sorted(set(table.schema.names) ^ set(EVENTS_SCHEMA.names))
        raise StageError(f"{file} is no table of review events: columns {differing} are extra or missing")
    events, wrong = [], []
    for number, row in enumerate(table.to_pylist()):
        try:
            events.append(ReviewEvent.model_validate(row))
        except ValidationError as error:
            wrong.append(f"row {number}: {wrong_fields(error)}")
    if wrong:
        raise StageError(f"{file} was changed by hand or damaged:\n  " + "\n  ".join(wrong))
    return ordered(events)


def ordered(events: Iterable[ReviewEvent]) -> list[ReviewEvent]:
    """Events by time and id, each once.

    Raises:
        StageError: naming ids under which two different events stand.
    """
    known: dict[str, ReviewEvent] = {}
    torn = set()
    for event in events:
        if known.setdefault(event.event_id, event) != event:
            torn.add(event.event_id)
    if torn:
        raise StageError(f"different events share an id: {', '.join(sorted(torn)[:SHOWN])}")
    return sorted(known.values(), key=lambda event: event.moment)


def standing(events: Iterable[ReviewEvent]) -> list[ReviewEvent]:
    """The last event that counts of every film, landmark and annotator, by film, landmark and annotator.

    An event may supersede one that is not here (of a round that was not given); that has no effect.

    Raises:
        StageError: naming events that supersede one of another film, landmark or annotator, or each other.
    """
    by_subject: dict[tuple[str, str, str], list[ReviewEvent]] = defaultdict(list)
    in_order = ordered(events)
    for event in in_order:
        by_subject[event.subject].append(event)
    _require_own_subject(in_order)
    last = (_last_counting(own) for _, own in sorted(by_subject.items()))
    return [event for event in last if event is not None]


def _require_own_subject(events: Sequence[ReviewEvent]) -> None:
    known = {event.event_id: event for event in events}
    strangers = [
        event.event_id
        for event in events
        if event.supersedes in known and known[event.supersedes].subject != event.subject
    ]
    if strangers:
        raise StageError(
            f"{len(strangers)} events supersede one of another film, landmark or annotator: "
            f"{', '.join(strangers[:SHOWN])}"
        )


def _last_counting(own: Sequence[ReviewEvent]) -> ReviewEvent | None:
    """The last verdict that counts among the events of one subject, oldest first."""
    target_of = {event.event_id: event.supersedes for event in own}
    replaced_by: dict[str, list[ReviewEvent]] = defaultdict(list)
    seen: list[ReviewEvent] = []
    for event in own:
        if event.verdict == "undo" and event.supersedes is None:
            counting = [e for e in _counting(seen, replaced_by) if not _leads_to(e, event, target_of)]
            target_of[event.event_id] = counting[-1].event_id if counting else None
        target = target_of[event.event_id]
        if target is not None:
            replaced_by[target].append(event)
        seen.append(event)
    counting = _counting(seen, replaced_by)
    return counting[-1] if counting else None


def _counting(events: Sequence[ReviewEvent], replaced_by: dict[str, list[ReviewEvent]]) -> list[ReviewEvent]:
    return [e for e in events if e.verdict != "undo" and _counts(e, replaced_by)]


def _leads_to(start: ReviewEvent, goal: ReviewEvent, target_of: dict[str, str | None]) -> bool:
    """Whether `start` supersedes `goal`, or what supersedes it; clocks that go back make that possible."""
    passed: set[str] = set()
    at: str | None = start.event_id
    while at is not None and at not in passed:
        passed.add(at)
        at = target_of.get(at)
    return goal.event_id in passed


def _counts(
    event: ReviewEvent, replaced_by: dict[str, list[ReviewEvent]], above: tuple[str, ...] = ()
) -> bool:
    if event.event_id in above:
        raise StageError(f"events supersede each other in a circle: {', '.join(sorted(above)[:SHOWN])}")
    path = (*above, event.event_id)
    return not any(_counts(later, replaced_by, path) for later in replaced_by.get(event.event_id, ()))


def fold(events: Iterable[ReviewEvent], settings: FoldSettings) -> pd.DataFrame:
    """Labels that follow from events: one row a film and landmark on which a verdict counts.

    Annotators agree where their points lie within the tolerance: the label is their mean. A landmark that
    some see elsewhere, or that one sees and another calls not visible, is `conflicting`. An unsure annotator
    leaves the decision to the others.

    Args:
        events: of one lane, in any order; all rounds together.
    Returns:
        Columns of `LABELS_SCHEMA`, sorted by id and landmark.
    Raises:
        StageError: see `standing`; or events of several lanes.
    """
    verdicts: dict[tuple[str, str], list[ReviewEvent]] = defaultdict(list)
    counting = standing(events)
    if len(lanes := sorted({event.lane for event in counting})) > 1:
        raise StageError(f"events of several lanes, {', '.join(lanes)}, cannot be folded together")
    for event in counting:
        verdicts[event.film, event.landmark].append(event)
    rows = [_label(own, settings) for _, own in sorted(verdicts.items())]
    return pd.DataFrame(rows, columns=LABELS_SCHEMA.names)


def _label(own: Sequence[ReviewEvent], settings: FoldSettings) -> dict[str, object]:
    """The row of one film and landmark, from the last verdict of every annotator."""
    placed = [event for event in own if event.verdict in PLACED]
    points = np.array([(event.x, event.y) for event in placed], np.float64).reshape(-1, 2)
    x, y, weight = float("nan"), float("nan"), 0.0
    provenance: Provenance
    if any(event.verdict == "not_visible" for event in own):
        provenance = "conflicting" if placed else "not_visible"
    elif not placed:
        provenance = "unsure"
    elif not _agree(placed, points, settings):
        provenance = "conflicting"
    else:
        provenance = "corrected" if any(event.verdict == "correct" for event in placed) else "accepted"
        x, y = (float(value) for value in points.mean(0))
        weight = max(_weight(event, settings) for event in placed)
    return {
        "id": own[0].film,
        "landmark": own[0].landmark,
        "x": x,
        "y": y,
        "weight": weight,
        "provenance": provenance,
        "annotators": [event.annotator for event in own],
        "event_ids": sorted(event.event_id for event in own),
    }


def _weight(event: ReviewEvent, settings: FoldSettings) -> float:
    if event.blinded:
        return settings.hidden
    return settings.corrected if event.verdict == "correct" else settings.accepted


def _agree(placed: Sequence[ReviewEvent], points: np.ndarray, settings: FoldSettings) -> bool:
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max()
    spacings = {event.spacing_mm for event in placed}
    if None in spacings:
        return bool(apart <= settings.tolerance_px)
    return bool(apart * max(s for s in spacings if s is not None) <= settings.tolerance_mm)

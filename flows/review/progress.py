"""How far a review is: the queue as an annotator sees it, which film comes next, and what was done so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from flows.review.config import Item
from flows.review.desk import Desk, RefusedError, answers, is_done, key_of
from stages.core.review.events import ReviewEvent

WORST = 3
"""points whose mean expected error stands for a film in the list"""
Reading = tuple[str, str]
"""key of an item, and the annotator who read it"""


def readings(events: Sequence[ReviewEvent]) -> dict[Reading, dict[str, ReviewEvent]]:
    """Verdicts that count, by landmark, of every item and annotator."""
    own: dict[Reading, list[ReviewEvent]] = defaultdict(list)
    for event in events:
        own[key_of(event), event.annotator].append(event)
    return {reading: answers(said) for reading, said in own.items()}


def finished(desk: Desk, read: Mapping[Reading, dict[str, ReviewEvent]]) -> dict[str, list[str]]:
    """Key of an item -> annotators who have a verdict on every landmark."""
    done: dict[str, list[str]] = defaultdict(list)
    for (key, annotator), counting in sorted(read.items()):
        if is_done(counting, desk.config.schema):
            done[key].append(annotator)
    return done


def next_item(desk: Desk, annotator: str, skip: Collection[int] = ()) -> dict[str, Any] | None:
    """Hold and show the film most worth the annotator's next minute; None where nothing is left.

    First come items that nobody has finished, in the order of the queue; a repeat waits for the annotator who
    read the film the first time. Then repeats of others, then films on which another annotator was unsure.

    Args:
        skip: ranks to leave out for now.
    """
    read = readings(desk.events())
    done = finished(desk, read)
    for rank in _in_turn(desk, read, done, annotator):
        if rank in skip:
            continue
        try:
            return desk.open(rank, annotator)
        except RefusedError as refused:
            if refused.status != 409:  # held by another, perhaps since a moment ago: the next one then
                raise
    return None


def _in_turn(
    desk: Desk,
    read: Mapping[Reading, dict[str, ReviewEvent]],
    done: Mapping[str, list[str]],
    annotator: str,
) -> list[int]:
    """Ranks in the order in which an annotator should get them."""
    items = desk.config.items
    unread = [item for item in items if not done.get(item.key)]
    foreign = [i.rank for i in unread if i.kind == "repeat" and annotator not in done.get(i.film, ())]
    own = [item.rank for item in unread if item.rank not in foreign]
    doubtful = [
        item.rank
        for item in items
        if (readers := done.get(item.key))
        and annotator not in readers
        and any(event.verdict == "unsure" for who in readers for event in read[item.key, who].values())
    ]
    return [*own, *foreign, *doubtful]


def queue_view(desk: Desk, annotator: str) -> dict[str, Any]:
    """The queue as a list for the page, without what a blinded film hides."""
    read = readings(desk.events())
    done = finished(desk, read)
    hidden_keys = desk.hidden_keys(annotator)
    holders = desk.store.holders()
    rows = []
    for item in desk.config.items:
        hidden = item.key in hidden_keys
        holder = holders.get(item.film)
        rows.append(
            {
                "rank": item.rank,
                "film": item.film,
                "kind": item.kind,
                "blinded": item.blinded,
                "reason": None if hidden else item.reason,
                **_expected(item, hidden),
                "mine": len(read.get((item.key, annotator), {})),
                "done_by": done.get(item.key, []),
                "held_by": holder if holder != annotator else None,
            }
        )
    return {"items": rows, "points": desk.config.schema.n_points}


def _expected(item: Item, hidden: bool) -> dict[str, Any]:
    """Mean expected error of a film's worst points, in mm where that is known."""
    if hidden:
        return {"expected_error": None, "unit": None}
    worst = float(np.sort(item.expected_error)[-WORST:].mean())
    if item.spacing_mm is None:
        return {"expected_error": round(worst, 1), "unit": "px"}
    return {"expected_error": round(worst * item.spacing_mm, 2), "unit": "mm"}


def progress(desk: Desk, annotator: str) -> dict[str, Any]:
    """Films done by all and by the annotator, and the annotator's own figures.

    Distances leave out films whose prediction is still hidden from the annotator: they would tell of it.
    """
    read = readings(desk.events())
    done = finished(desk, read)
    hidden_keys = desk.hidden_keys(annotator)
    own = [item for item in desk.config.items if (item.key, annotator) in read]
    counting = {item.key: list(read[item.key, annotator].values()) for item in own}
    verdicts = Counter(event.verdict for said in counting.values() for event in said)
    seen = [event for item in own if item.key not in hidden_keys for event in counting[item.key]]
    moved = [event.moved_mm for event in seen if event.verdict == "correct" and event.moved_mm is not None]
    mine = [item for item in own if annotator in done.get(item.key, ())]
    seconds = [_seconds(desk, item, annotator) for item in mine]
    return {
        "films": len(desk.config.items),
        "films_done": sum(bool(done.get(item.key)) for item in desk.config.items),
        "films_mine": len(mine),
        "points_mine": sum(verdicts.values()),
        "accepted": verdicts["accept"],
        "corrected": verdicts["correct"],
        "not_visible": verdicts["not_visible"],
        "unsure": verdicts["unsure"],
        "median_moved_mm": round(median(moved), 2) if moved else None,
        "median_seconds_per_film": round(median(seconds), 1) if seconds else None,
        "films_per_hour": round(3600 * len(seconds) / sum(seconds), 1) if sum(seconds) > 0 else None,
    }


def _seconds(desk: Desk, item: Item, annotator: str) -> float:
    """Time that an annotator spent on an item, with what was undone later."""
    said = [e for e in desk.events() if key_of(e) == item.key and e.annotator == annotator]
    return sum(event.dwell_ms for event in said) / 1000

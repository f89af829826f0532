"""Stage ceph-labels: all review events of the loop so far become labels that a model may learn from.

Only films of the clinic's role train may be learned from. A blinded film of the gate can be in the queue to
measure reviewers; what they say of it is counted and set aside. Any other event on a film of the roles gate or
test is a breach of the locked split, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, get_args

import pandas as pd
from pydantic import Field

from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.review.events import (
    LABELS_SCHEMA,
    SHOWN,
    FoldSettings,
    Provenance,
    ReviewEvent,
    fold,
    read_events,
)
from stages.core.stage import Observer, stage_main

LEARNED_ROLE, BLINDED_ROLE = "train", "gate"


class Params(StageParams):
    """Parameters.

    Attributes:
        ready_after: films with at least one place to learn that a round needs.
        fold: how verdicts become labels.
    """

    section: ClassVar[str] = "ceph.labels"
    ready_after: int = Field(ge=1)
    fold: FoldSettings


def run(
    params: Params, events: Path, clinic_split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write `output`, a table with the columns of `events.LABELS_SCHEMA`.

    Args:
        events: events.parquet or the folder that holds it.
    Returns:
        Events, labels by provenance, reviewed films, annotators, and events set aside.
    Raises:
        StageError: events that may not be learned from, or too few films where anything was said at all; see
            `trainable_events` and `require_ready`.
    """
    said = read_events(events)
    learned = trainable_events(said, read_split(clinic_split))
    labels = fold(learned, params.fold)
    if said:
        require_ready(labels, params.ready_after)
    tables.write_table(output, labels, LABELS_SCHEMA)
    found = labels["provenance"].to_list()
    return {
        "n_events": len(said),
        "n_events_set_aside": len(said) - len(learned),
        "n_films": reviewed_films(labels),
        "n_annotators": len({event.annotator for event in learned}),
        "n_learned": int((labels["weight"] > 0).sum()),
        **{f"n_{name}": found.count(name) for name in get_args(Provenance)},
    }


def trainable_events(events: Sequence[ReviewEvent], clinic_split: pd.DataFrame) -> list[ReviewEvent]:
    """The events on films of the role train; those on blinded gate films are left out.

    Raises:
        StageError: events of another lane, on unknown landmarks or films, on test films, or on gate films that
            were shown with the prediction; names every offender.
    """
    roles = dict(zip(clinic_split["id"], clinic_split["role"], strict=True))
    kept: list[ReviewEvent] = []
    strange: dict[str, set[str]] = {}
    for event in events:
        role = roles.get(event.film)
        if event.lane != CEPH.lane:
            strange.setdefault(f"events of another lane than {CEPH.lane}", set()).add(event.lane)
        elif event.landmark not in CEPH.names:
            strange.setdefault("unknown landmarks", set()).add(event.landmark)
        elif role is None:
            strange.setdefault("films that the clinic does not have", set()).add(event.film)
        elif role == LEARNED_ROLE:
            kept.append(event)
        elif not (role == BLINDED_ROLE and event.blinded):
            strange.setdefault(f"films of the role {role}, which are never learned from", set()).add(
                event.film
            )
    if strange:
        listed = "".join(f"\n  {what}: {_shown(names)}" for what, names in sorted(strange.items()))
        raise StageError(
            f"these review events cannot become labels:{listed}\n"
            "Was the split changed after the queue was made? Restore it, or take these events out of the round"
        )
    return kept


def reviewed_films(labels: pd.DataFrame) -> int:
    """Films with at least one place to learn."""
    return int(labels.loc[labels["weight"] > 0, "id"].nunique())


def require_ready(labels: pd.DataFrame, needed: int) -> None:
    """Raise a StageError where fewer films than `needed` were reviewed."""
    found = reviewed_films(labels)
    if found < needed:
        raise StageError(
            f"{found} films are reviewed, a round needs {needed} (ceph.labels.ready_after): review "
            f"{needed - found} more with `plumbline review ceph`, then run `plumbline round ceph` again"
        )


def _shown(names: set[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(sorted(names)[:SHOWN]) + more


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

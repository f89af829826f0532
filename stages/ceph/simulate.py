"""Stage ceph-simulate: a clinic's reader goes through the review queue, so that the loop turns without a person.

He answers as a reviewer would on the page: he accepts a point that lies within his tolerance of where he sees
the landmark, moves it there otherwise, and says of a landmark that he never marked that it is not visible. On a
blinded film he places every point himself. His places are those that the reader really chose (readers.parquet);
the times that he takes are a formula, and no figure of review time means anything that is made from them.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.readers import reader_points
from stages.ceph.schema import CEPH, INDEX
from stages.core.params import StageParams
from stages.core.review.events import ReviewEvent, write_events
from stages.core.review.queue import read_queue
from stages.core.stage import Observer, stage_main

UI_VERSION = "simulated"
"""`ui_version` of all events that no person made"""
START = datetime.datetime(2000, 1, 1, 8, tzinfo=datetime.UTC)
"""when a simulated session begins; a day on which nobody reviewed anything"""


class Dwell(BaseModel):
    """Milliseconds on one landmark. Attributes:
    look: on a point that is accepted or not there.
    move: on top of it for moving a point at all.
    reach: on top of that for each doubling of 1 + distance / tolerance (Fitts 1954).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    look: float = Field(ge=0)
    move: float = Field(ge=0)
    reach: float = Field(ge=0)


class Params(StageParams):
    """Parameters.

    Attributes:
        reader: of readers.parquet, who reviews.
        round: of the loop, which the events belong to.
        films: so many rows of the queue are answered, from its first one on.
        tolerance_mm: a point that lies so near to the reader's is accepted.
        tolerance_percent_sn: the same in percent of his S-N distance, for films of unknown spacing.
        repeat_sd_percent_sn: when a film comes again, he chooses places that differ at random by this standard
            deviation along x and y, in percent of his S-N distance.
        dwell: how long he takes.
    """

    section: ClassVar[str] = "ceph.simulate"
    seed: int
    reader: str
    round: int = Field(ge=1)
    films: int = Field(ge=1)
    tolerance_mm: float = Field(gt=0)
    tolerance_percent_sn: float = Field(gt=0)
    repeat_sd_percent_sn: float = Field(ge=0)
    dwell: Dwell


def run(params: Params, queue: Path, clinic: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the table `output` of review events.

    Returns:
        Rows answered, films, events, and events by verdict.
    Raises:
        StageError: the reader labelled no film of the clinic. Films of the queue that he did not label are passed over.
    """
    rows = read_queue(queue).iloc[: params.films]
    truth = reader_points(clinic, params.reader, rows["id"])
    read = np.isfinite(truth).any((1, 2))  # of a film that he never opened he has nothing to say
    rows, truth = rows[read], truth[read]
    events: list[ReviewEvent] = []
    clock = START
    for (_, row), points in zip(rows.iterrows(), truth, strict=True):
        for event in _review(params, _Opened.of(row, points), clock):
            clock += datetime.timedelta(milliseconds=event.dwell_ms)
            events.append(event)
    write_events(output, events)
    verdicts = [event.verdict for event in events]
    return {
        "n_rows": len(rows),
        "n_films": rows["id"].nunique(),
        "n_events": len(events),
        **{f"n_{v}": verdicts.count(v) for v in ("accept", "correct", "not_visible")},
    }


@dataclass(frozen=True)
class _Opened:
    """A row of the queue with the reader's points (K, 2) and the film's spacing (2,), NaN where unknown."""

    row: Any
    points: np.ndarray
    spacing: np.ndarray

    @classmethod
    def of(cls, row: Any, points: np.ndarray) -> _Opened:
        return cls(row, points, np.array([row["spacing_x_mm"], row["spacing_y_mm"]], float))

    @property
    def has_spacing(self) -> bool:
        return bool(np.isfinite(self.spacing).all())

    @property
    def sn_px(self) -> float:
        """S-N distance in raw px: the reader's, or the prediction's where he left one of the two out."""
        ends = [INDEX["sella"], INDEX["nasion"]]
        sella, nasion = self.points[ends]
        if not np.isfinite([sella, nasion]).all():
            sella, nasion = np.asarray(self.row["landmarks"], np.float64)[ends]
        return float(np.linalg.norm(nasion - sella))


def _review(params: Params, film: _Opened, clock: datetime.datetime) -> Iterator[ReviewEvent]:
    """The events of one opened film, in the schema's order; each begins when the one before it ended."""
    row, points = film.row, film.points
    if row["kind"] == "repeat":
        rng = np.random.default_rng([params.seed, params.round, int(row["rank"])])
        points = points + rng.normal(0, params.repeat_sd_percent_sn / 100 * film.sn_px, points.shape)
    predicted = np.asarray(row["landmarks"], np.float64)
    unit = film.spacing if film.has_spacing else np.ones(2)
    limit = (
        params.tolerance_mm if film.has_spacing else params.tolerance_percent_sn / 100 * film.sn_px
    )  # in mm, or else in raw px
    for k, name in enumerate(CEPH.names):
        event, dwell = _judge(points[k], predicted[k], unit, limit, bool(row["blinded"]), params.dwell)
        clock += datetime.timedelta(milliseconds=dwell)
        moved = event.pop("moved")
        yield ReviewEvent(
            event_id=_event_id(params, int(row["rank"]), name),
            ts_utc=clock.isoformat(timespec="milliseconds"),
            lane=CEPH.lane,
            round=params.round,
            film=row["id"],
            landmark=name,
            model_key=row["model_key"],
            queue_kind=row["kind"],
            blinded=bool(row["blinded"]),
            rank=int(row["rank"]),
            uncertainty=float(row["expected_error"][k]),
            pred_x=float(predicted[k, 0]),
            pred_y=float(predicted[k, 1]),
            spacing_mm=float(film.spacing.mean()) if film.has_spacing else None,
            moved_mm=moved if film.has_spacing else None,
            dwell_ms=dwell,
            annotator=f"simulated-{params.reader}",
            ui_version=UI_VERSION,
            **event,
        )


def _judge(
    point: np.ndarray, predicted: np.ndarray, unit: np.ndarray, limit: float, blinded: bool, dwell: Dwell
) -> tuple[dict[str, Any], int]:
    """Verdict, place and `moved` (in mm or raw px) for one landmark, and the milliseconds that it takes."""
    if not np.isfinite(point).all():
        return {"verdict": "not_visible", "moved": None}, round(dwell.look)
    moved = float(np.linalg.norm((point - predicted) * unit))
    if moved <= limit and not blinded:
        placed = {"verdict": "accept", "x": float(predicted[0]), "y": float(predicted[1]), "moved": 0.0}
        return placed, round(dwell.look)
    seconds = dwell.look + dwell.move + dwell.reach * float(np.log2(1 + moved / limit))
    return {"verdict": "correct", "x": float(point[0]), "y": float(point[1]), "moved": moved}, round(seconds)


def _event_id(params: Params, rank: int, landmark: str) -> str:
    told = f"{params.seed}:{params.reader}:{params.round}:{rank}:{landmark}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

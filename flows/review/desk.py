"""The rules of reviewing: who may open which film, what is shown of it, and what is taken from whom.

Nothing here knows of HTTP. A `Desk` is safe to use from several threads and beside other processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.review.config import Item, ReviewConfig
from flows.review.store import EventStore, item_key
from stages.core.data.schema import LandmarkSchema
from stages.core.model.card import wrong_fields
from stages.core.review.events import PLACED, EventId, ReviewEvent, Verdict, standing

Result = Literal["stored", "known"]


class Said(BaseModel):
    """One verdict as the page sends it; the server adds what the page cannot or must not know.

    Attributes:
        event_id: made by the page, so that sending again after a broken connection adds nothing.
        x, y: raw px, for `correct` only; `accept` takes the prediction.
        supersedes: the event that this one replaces or, for `undo`, takes back.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    event_id: EventId
    landmark: str = Field(max_length=100)
    verdict: Verdict
    x: float | None = None
    y: float | None = None
    dwell_ms: int = Field(ge=0, le=24 * 3600 * 1000)
    supersedes: EventId | None = None


class RefusedError(Exception):
    """A request that cannot be served as it is; the message is for a person.

    Attributes:
        status: of HTTP.
        facts: what the page needs to go on, for example who holds the film.
    """

    def __init__(self, status: int, message: str, **facts: object) -> None:
        super().__init__(message)
        self.status = status
        self.facts = facts


def answers(events: Sequence[ReviewEvent]) -> dict[str, ReviewEvent]:
    """Landmark -> verdict that counts, of the events of one annotator on one item."""
    return {event.landmark: event for event in standing(events)}


def key_of(event: ReviewEvent) -> str:
    """What the database knows the item of an event by."""
    return item_key(event.film, event.queue_kind)


def is_done(counting: dict[str, ReviewEvent], schema: LandmarkSchema) -> bool:
    """Whether every landmark has a verdict."""
    return len(counting) == schema.n_points


class Desk:
    """One review, at work."""

    def __init__(self, config: ReviewConfig) -> None:
        self.config = config
        self.store = EventStore(config.database, config.clock)
        self._known: tuple[int, list[ReviewEvent]] = (-1, [])

    def item(self, rank: int) -> Item:
        """The item of this rank; RefusedError (404) where there is none."""
        if rank not in self.config.by_rank:
            raise RefusedError(404, f"the queue has no item {rank}; it has {len(self.config.items)}")
        return self.config.by_rank[rank]

    def events(self) -> list[ReviewEvent]:
        """All events of the round, read again only when there are more."""
        last = self.store.last()
        if self._known[0] != last:
            self._known = (last, self.store.of_round(self.config.round))
        return self._known[1]

    # -- reading -----------------------------------------------------------------------------------------

    def is_hidden(self, item: Item, annotator: str) -> bool:
        """Whether an annotator must not know what the model says of an item; see `hidden_keys`."""
        return item.key in self.hidden_keys(annotator)

    def hidden_keys(self, annotator: str) -> set[str]:
        """Blinded items that an annotator has not read to their end, and repeats that would tell of them."""
        seen = {key for key, who in self.store.revealed(self.config.round) if who == annotator}
        blinded = {item.key for item in self.config.items if item.blinded} - seen
        return {item.key for item in self.config.items if item.key in blinded or item.film in blinded}

    def view(self, rank: int, annotator: str) -> dict[str, Any]:
        """An item as the page shows it to an annotator."""
        item = self.item(rank)
        own = self.store.of_item(self.config.round, item.key, annotator)
        hidden = self.is_hidden(item, annotator)
        width, height = self.config.pictures.size(item.film)
        return {
            "rank": rank,
            "film": item.film,
            "kind": item.kind,
            "blinded": item.blinded,
            "hidden": hidden,
            "reason": None if hidden else item.reason,
            "width": width,
            "height": height,
            "spacing_mm": item.spacing,
            "predicted": None if hidden else item.points.round(3).tolist(),
            "expected_error_px": None if hidden else item.expected_error.round(3).tolist(),
            "events": [_shown(event) for event in own],
            "version": len(own),
            "held_by": self.store.holder(item.film),
        }

    # -- opening and giving back -------------------------------------------------------------------------

    def open(self, rank: int, annotator: str) -> dict[str, Any]:
        """Hold an item's film, give back the one held before, and show the item.

        Raises:
            RefusedError: 404 no such item; 409 another annotator holds the film.
        """
        item = self.item(rank)
        if not self.config.read_only:
            with self.store.writing():
                self._hold(item, annotator)
                self.store.release_others(annotator, item.film)
        return self.view(rank, annotator)

    def _hold(self, item: Item, annotator: str) -> None:
        if not self.store.lease(item.film, annotator, self.config.lease_seconds):
            holder = self.store.holder(item.film)
            raise RefusedError(409, f"{holder} is reviewing this film: take another", held_by=holder)

    def release(self, rank: int, annotator: str) -> None:
        """Give an item's film back."""
        item = self.item(rank)
        with self.store.writing():
            self.store.release(annotator, item.film)

    def renew(self, rank: int, annotator: str) -> None:
        """Go on holding an item's film; RefusedError (409) if another took it meanwhile."""
        item = self.item(rank)
        with self.store.writing():
            self._hold(item, annotator)

    # -- taking verdicts ---------------------------------------------------------------------------------

    def submit(
        self, rank: int, annotator: str, said: Sequence[Said], ui_version: str, version: int | None = None
    ) -> dict[str, Result]:
        """Add an annotator's verdicts on one item, all or none; they are on disk when this returns.

        Args:
            version: number of events that the annotator's page knew of this item, or None not to compare.
        Returns:
            event id -> whether it was stored now or known already.
        Raises:
            RefusedError: 403 read-only; 404 no such item; 409 another annotator holds the film by now, or the
                round is closed (the verdicts are kept aside and do not count), or an id was used before;
                412 the annotator went on elsewhere (`version`); 422 a verdict that cannot be.
        """
        item = self.item(rank)
        if self.config.read_only:
            raise RefusedError(403, "this page was opened read-only: it takes no verdicts")
        aside: str | None = None
        with self.store.writing():
            fresh = [one for one in said if not self._is_known(one, item, annotator)]
            own = self.store.of_item(self.config.round, item.key, annotator)
            if fresh and version is not None and version != len(own):
                raise RefusedError(
                    412, "this film was changed in another window of yours: load it again", version=len(own)
                )
            hidden = self.is_hidden(item, annotator)
            self._require_own_targets(fresh, item, annotator)
            events = [self._event(one, item, annotator, hidden, ui_version) for one in fresh]
            aside = self._reason_to_set_aside(item, annotator) if fresh else None
            for event in events:
                if aside:
                    self.store.set_aside(event, aside)
                else:
                    self.store.add(event.model_copy(update={"ts_utc": self.store.now_utc()}))
            if hidden and not aside and is_done(self._answers_of(item, annotator), self.config.schema):
                for key in {item.key, item.film}:
                    self.store.reveal(self.config.round, key, annotator)
        if aside:
            raise RefusedError(409, aside, kept_aside=[one.event_id for one in fresh])
        new = {one.event_id for one in fresh}
        return {one.event_id: "stored" if one.event_id in new else "known" for one in said}

    def _answers_of(self, item: Item, annotator: str) -> dict[str, ReviewEvent]:
        return answers(self.store.of_item(self.config.round, item.key, annotator))

    def _is_known(self, one: Said, item: Item, annotator: str) -> bool:
        """Whether an event is stored already; RefusedError (409) if its id belongs to another."""
        event = self.store.find(one.event_id)
        if event is None:
            return False
        same = (key_of(event), event.annotator, event.landmark, event.verdict) == (
            item.key, annotator, one.landmark, one.verdict,
        )  # fmt: skip
        if not same or (one.verdict == "correct" and (event.x, event.y) != (one.x, one.y)):
            raise RefusedError(
                409, f"the id {one.event_id} belongs to another verdict", event_id=one.event_id
            )
        return True

    def _reason_to_set_aside(self, item: Item, annotator: str) -> str | None:
        """Why verdicts on an item do not count, or None (then the annotator holds the film)."""
        if self.store.is_closed(self.config.round):
            return (
                f"round {self.config.round} is closed: this verdict is kept aside and does not count. "
                "Start `plumbline review` again for the next round"
            )
        if not self.store.lease(item.film, annotator, self.config.lease_seconds):
            return (
                f"your hold on this film ran out and {self.store.holder(item.film)} is reviewing it: this "
                "verdict is kept aside and does not count"
            )
        return None

    def _event(self, one: Said, item: Item, annotator: str, hidden: bool, ui_version: str) -> ReviewEvent:
        names = self.config.schema.names
        if one.landmark not in names:
            raise RefusedError(422, f"no landmark {one.landmark!r}; there are {', '.join(names)}")
        index = names.index(one.landmark)
        x, y = self._place(one, item, index, hidden)
        if one.verdict == "undo" and one.supersedes is None:
            raise RefusedError(422, "an undo must name the event that it takes back")
        predicted_x, predicted_y = (float(value) for value in item.points[index])
        try:
            return ReviewEvent(
                event_id=one.event_id,
                ts_utc=self.store.now_utc(),
                lane=self.config.lane,
                round=self.config.round,
                film=item.film,
                landmark=one.landmark,
                model_key=item.model_key,
                queue_kind=item.kind,
                blinded=hidden,
                rank=item.rank,
                uncertainty=item.score,
                pred_x=predicted_x,
                pred_y=predicted_y,
                verdict=one.verdict,
                x=x,
                y=y,
                spacing_mm=item.spacing_mm,
                moved_mm=None if x is None or y is None else item.moved_mm(index, x, y),
                dwell_ms=one.dwell_ms,
                annotator=annotator,
                ui_version=ui_version,
                supersedes=one.supersedes,
            )
        except ValidationError as error:
            raise RefusedError(422, f"event {one.event_id}: {wrong_fields(error)}") from None

    def _place(
        self, one: Said, item: Item, index: int, hidden: bool
    ) -> tuple[float, float] | tuple[None, None]:
        """Where a verdict puts its landmark, raw px."""
        if one.verdict not in PLACED:
            if one.x is not None or one.y is not None:
                raise RefusedError(422, f"the verdict {one.verdict} has no x and y")
            return None, None
        if one.verdict == "accept":
            if hidden:
                raise RefusedError(
                    422, "there is nothing to accept: on this film you place every point yourself"
                )
            return float(item.points[index, 0]), float(item.points[index, 1])
        if one.x is None or one.y is None:
            raise RefusedError(422, "the verdict correct needs x and y")
        width, height = self.config.pictures.size(item.film)
        if not (0 <= one.x <= width - 1 and 0 <= one.y <= height - 1):
            raise RefusedError(422, f"({one.x}, {one.y}) lies outside the film of {width} x {height} px")
        return one.x, one.y

    def _require_own_targets(self, said: Sequence[Said], item: Item, annotator: str) -> None:
        """What is superseded must be there, and of the same annotator, item and landmark. So no circle can
        come into being, in which nothing would count any more."""
        earlier: dict[str, str] = {}
        for one in said:
            if one.supersedes is not None and earlier.get(one.supersedes) != one.landmark:
                target = self.store.find(one.supersedes)
                own = (item.key, annotator, one.landmark)
                if target is None or (key_of(target), target.annotator, target.landmark) != own:
                    raise RefusedError(
                        422, f"event {one.event_id} supersedes {one.supersedes}, which is no verdict of "
                        f"{annotator} on {one.landmark} of this film"
                    )  # fmt: skip
            earlier[one.event_id] = one.landmark


def _shown(event: ReviewEvent) -> dict[str, Any]:
    """What the page may know of an annotator's own event: nothing that tells a hidden prediction."""
    return event.model_dump(
        include={"event_id", "landmark", "verdict", "x", "y", "supersedes", "dwell_ms", "ts_utc"}
    )

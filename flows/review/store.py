"""Live review events in SQLite: only ever added, on disk before anybody is told that they are kept.

.plumbline/review/<lane>/events.sqlite

    events    one row an event, the body as JSON; triggers refuse to change or delete a row
    late      events that came after their film had gone to another reviewer: kept, never counted
    leases    which annotator holds which film, until when
    reveals   blinded items whose prediction an annotator has seen by now
    closed    rounds that were closed: nothing is added to them any more

The journal is a write-ahead log that is flushed to disk with every commit (synchronous=FULL), so that a killed
process or a power cut loses nothing that was acknowledged. Several processes may use one file.
"""

from __future__ import annotations

import datetime
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import StageError
from stages.core.review.events import QueueKind, ReviewEvent
from stages.core.stage import STATE

BUSY_SECONDS = 30.0
"""patience with another process that is writing"""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, round INTEGER NOT NULL,
    item TEXT NOT NULL, annotator TEXT NOT NULL, ts_utc TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_item ON events (round, item, annotator, seq);
CREATE TABLE IF NOT EXISTS late (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, round INTEGER NOT NULL,
    why TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS leases (film TEXT PRIMARY KEY, annotator TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS reveals (
    round INTEGER NOT NULL, item TEXT NOT NULL, annotator TEXT NOT NULL,
    PRIMARY KEY (round, item, annotator));
CREATE TABLE IF NOT EXISTS closed (round INTEGER PRIMARY KEY);
"""
_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_never_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, 'review events are only ever added'); END;
"""


def item_key(film: str, kind: QueueKind) -> str:
    """What an item is known by in the database: its film, and whether that is shown again. Not its rank: a queue
    that is built again in the middle of a round has other ranks."""
    return f"{film} again" if kind == "repeat" else film


def database_file(root: Path, lane: str) -> Path:
    """Where a checkout keeps the live events of a lane."""
    return root / STATE / "review" / lane / "events.sqlite"


class EventStore:
    """An opened database. One connection, used by one thread at a time; close it when done."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        """
        Args:
            file: the database; made with its folder where there is none.
            clock: seconds since the epoch.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self.clock = clock
        self._alone = threading.RLock()
        self._database = sqlite3.connect(
            file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            for table in ("events", "late"):
                for verb in ("update", "delete"):
                    self._database.executescript(_APPEND_ONLY.format(table=table, verb=verb))
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise StageError(f"{file} cannot be used as a database of review events: {error}") from None

    def close(self) -> None:
        with self._alone:
            self._database.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All or nothing, and nobody else writes meanwhile; on disk when the block ends."""
        with self._alone:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    # -- events ------------------------------------------------------------------------------------------

    def now_utc(self) -> str:
        """A time stamp later than that of every event here, so that their order is the order of their times."""
        moment = datetime.datetime.fromtimestamp(self.clock(), datetime.UTC)
        rows = self._rows("SELECT ts_utc FROM events ORDER BY seq DESC LIMIT 1")
        if rows:
            last = datetime.datetime.fromisoformat(rows[0][0])
            moment = max(moment, last + datetime.timedelta(microseconds=1))
        return moment.isoformat(timespec="microseconds")

    def add(self, event: ReviewEvent) -> None:
        """Add an event; call it inside `writing`."""
        self._database.execute(
            "INSERT INTO events (event_id, round, item, annotator, ts_utc, body) VALUES (?, ?, ?, ?, ?, ?)",
            (
                event.event_id,
                event.round,
                item_key(event.film, event.queue_kind),
                event.annotator,
                event.ts_utc,
                event.model_dump_json(),
            ),
        )

    def set_aside(self, event: ReviewEvent, why: str) -> None:
        """Keep an event that does not count; call it inside `writing`. Repeating it changes nothing."""
        self._database.execute(
            "INSERT OR IGNORE INTO late (event_id, round, why, body) VALUES (?, ?, ?, ?)",
            (event.event_id, event.round, why, event.model_dump_json()),
        )

    def find(self, event_id: str) -> ReviewEvent | None:
        """The event of this id, if it counts."""
        rows = self._rows("SELECT body FROM events WHERE event_id = ?", event_id)
        return ReviewEvent.model_validate_json(rows[0][0]) if rows else None

    def of_item(self, round_: int, item: str, annotator: str) -> list[ReviewEvent]:
        """What an annotator said about an item, oldest first."""
        rows = self._rows(
            "SELECT body FROM events WHERE round = ? AND item = ? AND annotator = ? ORDER BY seq",
            round_,
            item,
            annotator,
        )
        return [ReviewEvent.model_validate_json(body) for (body,) in rows]

    def of_round(self, round_: int) -> list[ReviewEvent]:
        """Every event of a round, oldest first."""
        rows = self._rows("SELECT body FROM events WHERE round = ? ORDER BY seq", round_)
        return [ReviewEvent.model_validate_json(body) for (body,) in rows]

    def aside(self, round_: int) -> list[tuple[ReviewEvent, str]]:
        """Events of a round that do not count, each with the reason."""
        rows = self._rows("SELECT body, why FROM late WHERE round = ? ORDER BY seq", round_)
        return [(ReviewEvent.model_validate_json(body), why) for body, why in rows]

    def last(self) -> int:
        """A number that grows with every event."""
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    # -- rounds ------------------------------------------------------------------------------------------

    def close_round(self, round_: int) -> list[ReviewEvent]:
        """End a round: its events, to which nothing is added from now on. Repeating it gives the same events."""
        with self.writing():
            self._database.execute("INSERT OR IGNORE INTO closed (round) VALUES (?)", (round_,))
            return self.of_round(round_)

    def is_closed(self, round_: int) -> bool:
        return bool(self._rows("SELECT 1 FROM closed WHERE round = ?", round_))

    def open_round(self) -> int:
        """The round that events belong to now: one more than the last that was closed, from 1."""
        return int(self._rows("SELECT coalesce(max(round), 0) + 1 FROM closed")[0][0])

    # -- leases ------------------------------------------------------------------------------------------

    def holder(self, film: str) -> str | None:
        """Who holds a film now."""
        rows = self._rows("SELECT annotator FROM leases WHERE film = ? AND until > ?", film, self.clock())
        return rows[0][0] if rows else None

    def holders(self) -> dict[str, str]:
        """Film -> annotator of all leases that have not run out."""
        return dict(self._rows("SELECT film, annotator FROM leases WHERE until > ?", self.clock()))

    def lease(self, film: str, annotator: str, seconds: float) -> bool:
        """Take or renew a lease, inside `writing`; False where another holds the film."""
        if self.holder(film) not in (None, annotator):
            return False
        self._database.execute(
            "INSERT OR REPLACE INTO leases (film, annotator, until) VALUES (?, ?, ?)",
            (film, annotator, self.clock() + seconds),
        )
        return True

    def release(self, annotator: str, film: str) -> None:
        """Give a film back."""
        self._database.execute("DELETE FROM leases WHERE annotator = ? AND film = ?", (annotator, film))

    def release_others(self, annotator: str, film: str) -> None:
        """Give back all that an annotator holds but one film."""
        self._database.execute("DELETE FROM leases WHERE annotator = ? AND film != ?", (annotator, film))

    # -- blinded items -----------------------------------------------------------------------------------

    def reveal(self, round_: int, item: str, annotator: str) -> None:
        """Note that an annotator has seen the prediction of a blinded item, inside `writing`."""
        self._database.execute("INSERT OR IGNORE INTO reveals VALUES (?, ?, ?)", (round_, item, annotator))

    def revealed(self, round_: int) -> set[tuple[str, str]]:
        """(item, annotator) of all blinded items that were seen."""
        return {(i, a) for i, a in self._rows("SELECT item, annotator FROM reveals WHERE round = ?", round_)}

    def _rows(self, statement: str, *values: object) -> list[tuple]:
        with self._alone:
            return self._database.execute(statement, values).fetchall()

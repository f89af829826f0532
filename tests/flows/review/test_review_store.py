"""Nothing that was acknowledged is lost, and nothing that is stored is changed."""

from __future__ import annotations

import http.client
import itertools
import json
import sqlite3
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from flows.review.desk import Desk, Said
from flows.review.store import EventStore
from stages.core.errors import StageError
from stages.core.review.events import standing
from tests.flows.review.desks import SCHEMA, Clock, review_config, verdict_on
from tests.flows.review.serving import served

VERDICTS = ("accept", "unsure", "not_visible")


def _post(url: str, rank: int, annotator: str, said: dict[str, object]) -> None:
    body = json.dumps({"annotator": annotator, "events": [said]}).encode()
    request = urllib.request.Request(
        f"{url}/api/items/{rank}/events", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["results"] == {said["event_id"]: "stored"}


def test_every_acknowledged_event_survives_a_kill(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    enough = threading.Event()

    def review(url: str, rank: int, annotator: str) -> None:
        names = itertools.cycle(SCHEMA.names)
        for verdict in itertools.cycle(VERDICTS):
            said = verdict_on(next(names), verdict)
            try:
                _post(url, rank, annotator, said)
            except (OSError, http.client.HTTPException):
                return  # the server is dead: this one was not acknowledged
            acknowledged.append(said["event_id"])
            if len(acknowledged) > 30:
                enough.set()

    with served(tmp_path) as server:
        threads = [
            threading.Thread(target=review, args=(server.url, rank, f"reader {rank}"))
            for rank in (1, 2, 4, 5)
        ]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
        _post(server.url, 6, "reader 6", verdict_on("sella"))
    desk = Desk(review_config(tmp_path))
    stored = [event.event_id for event in desk.events()]
    assert set(acknowledged) <= set(stored)
    assert len(stored) <= len(acknowledged) + len(threads) + 1, "at most one a reader was on its way"
    assert len({(e.film, e.landmark) for e in standing(desk.events())}) >= len(SCHEMA.names)


def test_stored_events_cannot_be_changed_or_deleted(tmp_path: Path, clock: Clock) -> None:
    config = review_config(tmp_path, clock=clock)
    desk = Desk(config)
    desk.submit(1, "Ada", [Said(**verdict_on("sella"))], "page")
    with closing(sqlite3.connect(config.database)) as database:
        for statement in ("UPDATE events SET body = '{}'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
                database.execute(statement)
    assert len(desk.events()) == 1


def test_times_grow_with_every_event_even_when_the_clock_goes_back(tmp_path: Path, clock: Clock) -> None:
    desk = Desk(review_config(tmp_path, clock=clock))
    for name in SCHEMA.names:
        desk.submit(1, "Ada", [Said(**verdict_on(name))], "page")
        clock.now -= 10
    moments = [event.moment[0] for event in desk.events()]
    assert moments == sorted(set(moments))


def test_two_processes_may_use_one_file(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    with closing(EventStore(file, time.time)) as one, closing(EventStore(file, time.time)) as other:
        with one.writing():
            assert one.lease("film", "Ada", 60)
        with other.writing():
            assert not other.lease("film", "Ben", 60)
        assert other.holder("film") == "Ada"
        one.close_round(1)
        assert other.is_closed(1)


def _lease_then_fail(store: EventStore) -> None:
    store.lease("film", "Ada", 60)
    store._rows("SELECT nothing FROM nowhere")


def test_what_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with closing(EventStore(tmp_path / "events.sqlite", time.time)) as store:
        with pytest.raises(sqlite3.OperationalError), store.writing():
            _lease_then_fail(store)
        assert store.holder("film") is None
        with store.writing():
            assert store.lease("film", "Ben", 60)


def test_a_file_that_is_no_database_is_an_error_in_words(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(StageError, match=r"events\.sqlite cannot be used"):
        EventStore(file, time.time)

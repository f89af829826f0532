"""Live review events to an immutable snapshot that DVC tracks.

data/reviews/<lane>/round-<K>/events.parquet   all events of the rounds 1 to K, so that a round needs no other file
data/reviews/<lane>/round-<K>/events.parquet.dvc

Every step may be repeated: a round that was killed goes on where it stopped (`pending`), and a snapshot is
never written twice.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import yaml

from flows.lanes import LANES
from flows.review.store import EventStore, database_file
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.review.events import ReviewEvent, fold, read_events, write_events
from stages.core.stage import STATE

REVIEWS = Path("data") / "reviews"
EVENTS = "events.parquet"


@dataclass(frozen=True)
class Readiness:
    """How far the open round is.

    Attributes:
        round: its number, from 1.
        events: of it so far.
        films: with a place to learn, over all rounds.
        needed: films that a round needs.
        fresh: films of it that no earlier round had.
    """

    lane: str
    round: int
    events: int
    films: int
    needed: int
    fresh: int

    @property
    def ready(self) -> bool:
        return self.films >= self.needed and self.fresh > 0

    def __str__(self) -> str:
        state = "ready" if self.ready else "not ready"
        return (
            f"round {self.round} of {self.lane} is {state}: {self.films} films are reviewed ({self.fresh} of them "
            f"since the last round), {self.needed} are needed"
        )


def snapshot_file(root: Path, lane: str, round_: int) -> Path:
    """Where the events of the rounds up to `round_` lie."""
    return root / REVIEWS / lane / f"round-{round_}" / EVENTS


@contextmanager
def alone(root: Path, lane: str) -> Iterator[None]:
    """Hold the lane's rounds. Raises a StageError where another process does."""
    from filelock import FileLock, Timeout

    path = root / STATE / "review" / lane / "round.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise StageError(f"another round of {lane} is being run: wait until it has ended") from None


def readiness(root: Path, lane: str) -> Readiness:
    """How many films of the clinic's pool are reviewed, in closed rounds and in the open one.

    Raises:
        StageError: the lane does not learn from reviews, or events that may not become labels.
    """
    labels = _labels_module(lane)
    params = load_params(labels.Params, root / "params.yaml")
    split = read_split(root / "data" / lane / "clinic-split.parquet")
    with _store(root, lane) as store:
        number = store.open_round()
        live = store.of_round(number)
    closed = earlier(root, lane, number)

    def films(events: list[ReviewEvent]) -> set[str]:
        table = fold(labels.trainable_events(events, split), params.fold)
        return set(table.loc[table["weight"] > 0, "id"])

    before, now = films(closed), films([*closed, *live])
    return Readiness(lane, number, len(live), len(now), params.ready_after, len(now - before))


def require_ready(root: Path, lane: str) -> Readiness:
    """`readiness` of a round that may be closed. Raises a StageError that says what a round lacks."""
    found = readiness(root, lane)
    if not found.ready:
        raise StageError(
            f"{found}: review {max(found.needed - found.films, 1)} more with `plumbline review {lane}` "
            f"({lane}.labels.ready_after in params.yaml)"
        )
    return found


def close_round(lane: str, round_: int, root: Path) -> Path:
    """End a round and write its snapshot; a round that has one already is left as it is.

    Returns:
        The snapshot.
    Raises:
        StageError: another process closes a round; the round is not the open one; an earlier snapshot or this
            one's content is missing here; or a snapshot was changed.
    """
    with alone(root, lane):
        return close_held(lane, round_, root)


def close_held(lane: str, round_: int, root: Path) -> Path:
    """`close_round` for a caller that holds `alone`."""
    file = snapshot_file(root, lane, round_)
    if not file.is_file():
        _require_content(root, file)
        with _store(root, lane) as store:
            if not store.is_closed(round_) and round_ != store.open_round():
                raise StageError(
                    f"the open round of {lane} is {store.open_round()}, so {round_} cannot be closed"
                )
            if not store.of_round(round_):
                raise StageError(f"round {round_} of {lane} has no events: nothing was reviewed")
            before = earlier(root, lane, round_)
            live = store.close_round(round_)
        write_events(file, [*before, *live])
    _track(root, file)
    return file


def earlier(root: Path, lane: str, round_: int) -> list[ReviewEvent]:
    """The events of all rounds before `round_`, from the last snapshot before it."""
    if round_ <= 1:
        return []
    file = snapshot_file(root, lane, round_ - 1)
    _require_content(root, file)
    if not file.is_file():
        raise StageError(
            f"{file.relative_to(root)} is missing: round {round_ - 1} was closed, and every round learns from all "
            "before it. Restore it with `git checkout` and `dvc pull`"
        )
    return read_events(file)


def pending(root: Path, lane: str) -> int | None:
    """The round that was begun and not ended, if there is one."""
    file = _pending_file(root, lane)
    return int(file.read_text(encoding="utf-8")) if file.is_file() else None


def begin(root: Path, lane: str, round_: int) -> None:
    """Note that a round is under way, before anything is done for it."""
    file = _pending_file(root, lane)
    partial = file.with_suffix(".partial")
    partial.write_text(f"{round_}\n", encoding="utf-8")
    partial.replace(file)


def end(root: Path, lane: str) -> None:
    """Note that the round under way has ended."""
    _pending_file(root, lane).unlink(missing_ok=True)


def _pending_file(root: Path, lane: str) -> Path:
    return root / STATE / "review" / lane / "round-pending"


@contextmanager
def _store(root: Path, lane: str) -> Iterator[EventStore]:
    with closing(EventStore(database_file(root, lane), time.time)) as store:
        yield store


def _labels_module(lane: str) -> ModuleType:
    """The stage that makes labels of a lane's reviews."""
    known = LANES.get(lane)
    try:
        if known is None:
            raise ModuleNotFoundError(lane)
        return known.module("labels")
    except ModuleNotFoundError:
        raise StageError(f"there are no rounds of {lane}: no stage of it makes labels of reviews") from None


def _require_content(root: Path, file: Path) -> None:
    """A snapshot that Git knows but that is not here must be fetched, never written anew."""
    if not file.is_file() and _pointer(file).is_file():
        raise StageError(
            f"{file.relative_to(root)} is tracked but its content is not here: run `dvc pull "
            f"{_pointer(file).relative_to(root)}`"
        )


def _pointer(file: Path) -> Path:
    return file.with_name(file.name + ".dvc")


def _track(root: Path, file: Path) -> None:
    """`dvc add`, once; a snapshot that differs from what was added is refused."""
    pointer = _pointer(file)
    if pointer.is_file():
        added = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"]
        if hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != added:
            raise StageError(
                f"{file.relative_to(root)} was changed after its round was closed: restore it with `dvc checkout "
                f"{pointer.relative_to(root)}`"
            )
        return
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "add", "--quiet", str(file.relative_to(root))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc add {file.relative_to(root)}` failed:\n{done.stderr.strip()}")

"""The registry's log: one JSON line per decision, appended and never changed, and what follows from it."""

from __future__ import annotations

import datetime
import getpass
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.core.errors import StageError
from stages.core.evaluate.statistics import Comparison

LOG = Path(".plumbline") / "registry.jsonl"
LOCK = Path(".plumbline") / "registry.lock"
_PATIENCE_S = 300.0

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class Event(BaseModel):
    """One line of the log.

    Attributes:
        event: `registered` (a version was given out), `promoted`, `refused` or `rolled back`.
        name: registered model, `<lane>-<data set>`.
        key, model_sha256: the model that it is about: DVC key of its training run, digest of its folder.
        version: its version number; None for a candidate that was refused without being registered.
        when, who: UTC time; user and host.
        source, target: the champion's version before and after, in the file `from` and `to`.
        why: the reason that was given.
        refusals: what spoke against promotion, also where it was forced.
        forced: promoted in spite of them.
        comparison: against the champion on the gate set, in the errors' own unit; None without a champion.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    event: Literal["registered", "promoted", "refused", "rolled back"]
    name: str
    key: str
    version: int | None = None
    model_sha256: str = ""
    when: datetime.datetime
    who: str
    source: int | None = Field(default=None, alias="from")
    target: int | None = Field(default=None, alias="to")
    why: str = ""
    refusals: tuple[str, ...] = ()
    forced: bool = False
    comparison: Comparison | None = None

    @property
    def lane(self) -> str:
        return self.name.partition("-")[0]


def event(kind: str, **fields: Any) -> Event:
    """An event of now, by the user who runs this."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return Event.model_validate({"event": kind, "when": now, "who": _who(), **fields})


@dataclass
class Registered:
    """What the log says of one registered model.

    Attributes:
        versions: version -> the event that gave it out, in order.
        champions: the champions in turn, the present one last; a rollback takes the newer ones off.
        challenger: the version that was refused last, if it is not champion by now.
        verdicts: version -> the promotion or refusal that spoke of it last.
        withdrawn: DVC key -> the rollback that took the model from the champion's place.
    """

    name: str
    versions: dict[int, Event] = field(default_factory=dict)
    champions: list[int] = field(default_factory=list)
    challenger: int | None = None
    verdicts: dict[int, Event] = field(default_factory=dict)
    withdrawn: dict[str, Event] = field(default_factory=dict)

    @property
    def aliases(self) -> dict[str, int]:
        """Alias -> version, of the aliases that stand for one."""
        previous = self.champions[-2] if len(self.champions) > 1 else None
        named = {CHAMPION: self.champion, PREVIOUS: previous, CHALLENGER: self.challenger}
        return {alias: version for alias, version in named.items() if version is not None}

    @property
    def champion(self) -> int | None:
        return self.champions[-1] if self.champions else None

    def version_of(self, key: str) -> int | None:
        """The version of this DVC key, or None."""
        return next((v for v, given in self.versions.items() if given.key == key), None)

    def apply(self, entry: Event) -> None:
        """Take in one event of this name."""
        if entry.version is None:
            return
        if entry.event in ("promoted", "refused"):
            self.verdicts[entry.version] = entry
        if entry.event == "registered":
            self.versions[entry.version] = entry
        elif entry.event == "refused":
            self.challenger = self.challenger if entry.version == self.champion else entry.version
        else:
            if entry.event == "rolled back":
                self._leave(entry)
            if self.champion != entry.version:
                self.champions.append(entry.version)
            self.withdrawn.pop(entry.key, None)
            if self.challenger == entry.version:
                self.challenger = None

    def _leave(self, entry: Event) -> None:
        """Withdraw the champions since `entry.version` was one, or the present one if it is not below it."""
        below = [place for place, version in enumerate(self.champions) if version == entry.version]
        place = below[-1] + 1 if below else len(self.champions) - 1
        for version in self.champions[place:]:
            self.withdrawn[self.versions[version].key] = entry
        if below:
            del self.champions[place:]


def fold(events: Iterable[Event]) -> dict[str, Registered]:
    """Name -> what the log says of it."""
    found: dict[str, Registered] = {}
    for entry in events:
        found.setdefault(entry.name, Registered(entry.name)).apply(entry)
    return found


def registered_as(root: Path, name: str) -> Registered:
    """What the log says of one name; empty where it says nothing."""
    return fold(read_log(root)).get(name) or Registered(name)


def read_log(root: Path) -> list[Event]:
    """All events, oldest first. A last line without an end, left by a crash, never happened.

    Raises:
        StageError: naming every line that cannot be read.
    """
    events, broken = [], []
    for number, line in enumerate(_complete_lines(root / LOG), start=1):
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            broken.append(f"line {number}: {'.'.join(map(str, problem['loc']))} {problem['msg']}")
    if broken:
        raise StageError(
            f"{LOG} was changed by hand or damaged; restore it from a backup:\n  " + "\n  ".join(broken)
        )
    return events


def append(root: Path, entry: Event) -> None:
    """Add one event and see it on disk; call only inside `locked`."""
    path = root / LOG
    whole = b"".join(_complete_lines(path))
    with path.open("ab") as stream:
        if stream.tell() > len(whole):
            stream.truncate(len(whole))
        line = json.dumps(
            entry.model_dump(mode="json", by_alias=True, exclude_defaults=True), ensure_ascii=False
        )
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Decide alone: one promotion or rollback at a time in a checkout."""
    from filelock import FileLock, Timeout

    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=_PATIENCE_S):
            yield
    except Timeout:
        raise StageError(f"another command has held {LOCK} for {_PATIENCE_S:.0f} s: see what runs") from None


def _complete_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user}@{platform.node()}"

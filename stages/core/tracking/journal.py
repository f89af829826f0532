"""The journal: one record per run of a stage, kept for good at .plumbline/journal/<stage>/<key>.json."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

JOURNAL = Path(".plumbline") / "journal"


class Dependency(BaseModel):
    """One input of a stage as it was: its path in the checkout and DVC's hash (`<md5>` or `<md5>.dir`)."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    path: str
    md5: str

    @property
    def is_code(self) -> bool:
        return self.path.startswith(("stages/", "flows/"))


class Record(BaseModel):
    """What one run of a stage was: its identity, numbers and surroundings.

    The journal outlives the code that wrote it, so fields that a record lacks have defaults and fields that
    this version does not know are left alone.

    Attributes:
        stage, key: name in dvc.yaml and DVC's key of the run.
        params: the stage's validated parameters.
        metrics: final figures; None where a figure could not be computed.
        history: one row per observed step, `step` among its columns.
        started: UTC; None for a run rebuilt from dvc.lock, whose time nobody noted.
        profile: the profile of params.yaml that was active.
        backfilled: rebuilt from dvc.lock, not seen running.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    stage: str
    key: str
    params: dict[str, Any] = Field(default_factory=dict)
    deps: tuple[Dependency, ...] = ()
    outs: tuple[str, ...] = ()
    metrics: dict[str, float | None] = Field(default_factory=dict)
    history: tuple[dict[str, float | None], ...] = ()
    started: datetime.datetime | None = None
    seconds: float = 0.0
    host: str = ""
    python: str = ""
    torch: str | None = None
    git_commit: str = ""
    git_dirty: bool = False
    profile: str = ""
    backfilled: bool = False

    @property
    def lane(self) -> str:
        """The lane that the stage belongs to, or "project" for a stage that spans lanes."""
        lane, dash, _ = self.stage.partition("-")
        return lane if dash else "project"

    @property
    def step(self) -> str:
        """The stage's name without its lane: train, evaluate, ..."""
        return self.stage.partition("-")[2] or self.stage

    @property
    def ended(self) -> datetime.datetime:
        never = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        return self.started + datetime.timedelta(seconds=self.seconds) if self.started else never

    @property
    def data(self) -> tuple[Dependency, ...]:
        """The inputs that are data or models, not code."""
        return tuple(d for d in self.deps if not d.is_code)


@dataclass(frozen=True)
class Journal:
    """All readable records in the order in which they ended, and the files that could not be read: why."""

    records: tuple[Record, ...]
    unreadable: dict[str, str]


def read_journal(root: Path) -> Journal:
    """Read the journal of the checkout at `root`; an empty one where no stage has run."""
    records, unreadable = [], {}
    for file in sorted((root / JOURNAL).glob("*/*.json")):
        try:
            records.append(Record.model_validate_json(file.read_bytes()))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "file"
            unreadable[file.relative_to(root).as_posix()] = f"{where}: {problem['msg']}"
    records.sort(key=lambda r: (r.ended, r.stage, r.key))
    return Journal(tuple(records), unreadable)

"""Which films the challenger answers, and when that is stopped.

A film's place between 0 and 100 follows from its own digest and the challenger's key: the same film always goes
to the same model, raising the share moves no film back, and each challenger meets other films. Decisions are kept
in `.plumbline/serving/canary.json`, so that a halted challenger stays halted over a restart.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from flows.serving import FOLDER
from flows.serving.settings import CanarySettings
from stages.core.errors import StageError
from stages.core.model.card import wrong_fields

Arm = Literal["champion", "challenger"]
_STEPS = 10_000


class Decision(BaseModel):
    """What was decided about one challenger last.

    Attributes:
        key: DVC key of the challenger; a decision holds for no other.
        percent: its share of the films.
        halted: why the guardrails took its share away; None where a person decided.
        when: UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    percent: float = Field(ge=0, le=100)
    halted: str | None = None
    when: datetime.datetime


class _Decisions(RootModel[dict[str, Decision]]):
    pass


def goes_to_challenger(film_sha256: str, key: str, percent: float) -> bool:
    """Whether a film is the challenger's, by stable hash."""
    digest = hashlib.sha256(f"{key}\0{film_sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _STEPS < percent * _STEPS / 100


def decisions(root: Path) -> dict[str, Decision]:
    """Registered name -> the last decision; a StageError if the file is damaged."""
    path = root / FOLDER / "canary.json"
    if not path.is_file():
        return {}
    try:
        return _Decisions.model_validate_json(path.read_text(encoding="utf-8")).root
    except ValidationError as error:
        raise StageError(
            f"{path} is damaged ({wrong_fields(error)}); remove it to start with no canary"
        ) from None


def decide(root: Path, name: str, key: str, percent: float, halted: str | None = None) -> Decision:
    """Give a challenger its share from now on; running services follow at their next poll."""
    now = datetime.datetime.now(datetime.UTC)
    decision = Decision(key=key, percent=percent, halted=halted, when=now)
    path = root / FOLDER / "canary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=10):
        text = _Decisions(decisions(root) | {name: decision}).model_dump_json(indent=1)
        partial = path.with_suffix(".partial")
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    return decision


@dataclass(frozen=True)
class Outcome:
    """How one film went: whether the model failed, how long it took, and whether a point lies off the film."""

    failed: bool
    seconds: float
    outlier: bool


@dataclass
class Guardrail:
    """The latest films of both models. Shared by the workers."""

    settings: CanarySettings
    _seen: dict[Arm, deque[Outcome]] = field(init=False)
    _key: str | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._seen = {arm: deque(maxlen=self.settings.window) for arm in ("champion", "challenger")}

    def add(self, arm: Arm, outcome: Outcome, challenger: str | None) -> str | None:
        """Count one film; returns why the challenger (its DVC key) has to be halted, or None."""
        with self._lock:
            if challenger != self._key:
                self._key = challenger
                self._seen["challenger"].clear()
            self._seen[arm].append(outcome)
            if challenger is None:
                return None
            return _judge(list(self._seen["champion"]), list(self._seen["challenger"]), self.settings)


def _judge(champion: list[Outcome], challenger: list[Outcome], settings: CanarySettings) -> str | None:
    if len(challenger) < settings.minimum_films:
        return None
    # A champion that saw few films is taken to be without failures.
    for what, margin in (("failed", settings.error_margin), ("outlier", settings.outlier_margin)):
        own, other = _share(challenger, what), _share(champion, what)
        if own > other + margin:
            named = "failed on" if what == "failed" else "put a point off the film on"
            return f"it {named} {own:.0%} of {len(challenger)} films, the champion on {other:.0%}"
    if len(champion) < settings.minimum_films:
        return None
    slow, usual = (_p95(outcomes) for outcomes in (challenger, champion))
    if slow > settings.latency_factor * usual:
        return f"it takes {slow:.2f} s (95th percentile) a film, the champion {usual:.2f} s"
    return None


def _share(outcomes: list[Outcome], what: str) -> float:
    return float(np.mean([getattr(outcome, what) for outcome in outcomes])) if outcomes else 0.0


def _p95(outcomes: list[Outcome]) -> float:
    return float(np.percentile([outcome.seconds for outcome in outcomes], 95))

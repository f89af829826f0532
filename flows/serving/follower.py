"""One lane's models in service: follows the alias, loads beside what serves, checks, and swaps in one step."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flows.registry.log import CHALLENGER
from flows.serving.canary import decide, decisions
from flows.serving.predictor import Served
from flows.serving.settings import ServingParams
from flows.serving.source import Source, Target
from stages.core.errors import StageError

_log = logging.getLogger("plumbline.serving")

Load = Callable[[Target, Path], Served]
"""Opens, warms up and checks a model; raises whatever speaks against it."""


@dataclass(frozen=True)
class Lineup:
    """Who answers. A request takes one line-up and keeps it, so that no swap can change what it says of itself.

    Attributes:
        champion: the model of the followed alias.
        challenger: the model of the alias `challenger`, where shadow or canary asks for it.
        percent: the challenger's share of the films.
    """

    champion: Served
    challenger: Served | None = None
    percent: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """A model that was not let in, why, and when (monotonic seconds)."""

    why: str
    when: float


class Follower:
    """Keeps `lineup` in line with the registry. One thread refreshes; any number read.

    At most two models are loaded, apart from those that requests under way still hold.

    Attributes:
        lineup: who answers; None until the first model is let in.
        swaps, refusals: changes of champion, and models that were not let in, so far.
        problem: why the registry could not be followed at the last poll.
        refused: models that the registry names and that were not let in.
    """

    def __init__(
        self,
        source: Source,
        load: Load,
        params: ServingParams,
        root: Path,
        alias: str = "champion",
        percent: float = 0.0,
        shadow: bool = False,
    ) -> None:
        self.source = source
        self.alias = alias
        self.lineup: Lineup | None = None
        self.swaps = 0
        self.refusals = 0
        self.problem: str | None = None
        self.refused: dict[Target, Refusal] = {}
        self._load = load
        self._params = params
        self._root = root
        self._percent = percent
        self._shadow = shadow
        self._started = self._resolved = time.monotonic()
        self._stop = threading.Event()
        self._halting = threading.Lock()
        self._halted: dict[str, datetime.datetime] = {}
        self._thread = threading.Thread(target=self._run, name=f"follow {source.lane}", daemon=True)

    @property
    def age_s(self) -> float:
        """Seconds since the registry answered last."""
        return time.monotonic() - self._resolved

    @property
    def complaints(self) -> list[str]:
        """What is wrong although the lane may well be answering."""
        said = [f"not let in: {refusal.why}" for refusal in self.refused.values()]
        if self.problem is not None and self.age_s > self._params.stale_s:
            said.append(f"the registry has not answered for {self.age_s:.0f} s: {self.problem}")
        elif self.problem is not None:
            said.append(self.problem)
        return said

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def refresh(self) -> None:
        """Resolve once and act on it. Never raises: what serves goes on serving."""
        try:
            target = self.source.resolve(self.alias)
            other = self.source.resolve(CHALLENGER) if self.alias != CHALLENGER else None
            percent = self._share_of(other)
        except Exception as error:  # whatever a registry may raise, the loaded model is as good as before
            self._say(f"the registry cannot be read: {_words(error)}")
            return
        self._resolved = time.monotonic()
        if other == target or (percent == 0 and not self._shadow):
            other = None
        self.refused = {t: refusal for t, refusal in self.refused.items() if t in (target, other)}
        if target is None:
            self._say(f"{self.source.name} has no {self.alias}")
            return
        self._say(None)
        self._follow(target)
        self._accompany(other, percent)

    def halt(self, challenger: Served, why: str) -> None:
        """Take the challenger's share away, here at once and for good in the decisions' file."""
        with self._halting:
            if challenger.target.key in self._halted:
                return
            self._halted[challenger.target.key] = datetime.datetime.now(datetime.UTC)
            lineup = self.lineup
            if lineup is not None and lineup.challenger is challenger:
                self.lineup = replace(lineup, percent=0.0)
        _log.warning("%s: canary halted: %s", challenger.target, why)
        try:
            decide(self._root, self.source.name, challenger.target.key, 0.0, halted=why)
        except (OSError, StageError, TimeoutError) as error:
            _log.error("the halt could not be written down: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(self._params.poll_s)

    def _follow(self, target: Target) -> None:
        lineup = self.lineup
        if lineup is not None and lineup.champion.target == target:
            return
        if lineup is not None and lineup.challenger is not None:
            if lineup.challenger.target == target:  # loaded and checked already
                self._swap(Lineup(lineup.challenger))
                return
            self.lineup = lineup = Lineup(lineup.champion)  # room for the third
        if (served := self._let_in(target)) is not None:
            self._swap(Lineup(served))

    def _accompany(self, other: Target | None, percent: float) -> None:
        if self.lineup is None:
            return
        champion, present = self.lineup.champion, self.lineup.challenger
        if present is None or present.target != other:
            present, self.lineup = None, Lineup(champion)  # room for the next one
            present = None if other is None else self._let_in(other)
        with self._halting:  # a halt while this poll read the decisions must not be undone by it
            if present is None or present.target.key in self._halted:
                percent = 0.0
            self.lineup = Lineup(champion, present, percent)

    def _share_of(self, other: Target | None) -> float:
        """The challenger's share by the last decision about it, else the one that the service was started with."""
        if other is None:
            return 0.0
        decision = decisions(self._root).get(self.source.name)
        decided = decision if decision is not None and decision.key == other.key else None
        with self._halting:
            halted = self._halted.get(other.key)
            if halted is not None and (
                decided is None or decided.halted is not None or decided.when < halted
            ):
                return 0.0
            self._halted.pop(other.key, None)  # a person has spoken since
        return self._percent if decided is None else decided.percent

    def _let_in(self, target: Target) -> Served | None:
        """Load and check a model; None if something speaks against it, which is remembered for a while."""
        before = self.refused.get(target)
        if before is not None and time.monotonic() - before.when < self._params.retry_s:
            return None
        try:
            served = self._load(target, self.source.folder(target))
        except Exception as error:  # a damaged file or other code may raise anything; the present model stays
            self.refused[target] = Refusal(f"{target}: {_words(error)}", time.monotonic())
            self.refusals += 1
            _log.error("not let in: %s", self.refused[target].why)
            return None
        self.refused.pop(target, None)
        return served

    def _swap(self, lineup: Lineup) -> None:
        before = self.lineup
        self.lineup = lineup
        self.swaps += before is not None
        _log.info("%s serves now", lineup.champion.target)

    def _say(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            _log.warning("%s: %s", self.source.lane, problem)
        self.problem = problem


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, StageError) else f"{type(error).__name__}: {error}"

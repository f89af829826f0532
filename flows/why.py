"""`plumbline why`: in words, why a stage would run, be restored, or be left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from pathlib import Path

from flows.changes import History, overlay_of, parameters, profile_of
from flows.forecast import Cause, Forecast, Kind, Verdict, forecast
from flows.profiles import selection
from stages.core.errors import StageError

Forecasts = Mapping[str, Forecast]
_SHOWN = 8
"""Differences of one stage that are named; further ones are counted."""


def explain(root: Path, patterns: Sequence[str] = ()) -> Iterator[str]:
    """What DVC would do with the stages that match, or with all that are not up to date, and why.

    Root causes come first, each with the stages that it touches; those that only follow stand in one line.

    Raises:
        StageError: a pattern matches no stage, or DVC cannot read the pipeline.
    """
    foretold, history = forecast(root), History(root)
    for name in _matching(foretold, patterns):
        yield from _one(foretold, name, history)
    if not patterns:
        yield from _roots(foretold, list(foretold), history)
        if followers := [name for name, told in foretold.items() if told.causes and not _own(told)]:
            yield f"below them, would run unless what they read comes out the same: {', '.join(followers)}"
    counts = Counter(told.verdict for told in foretold.values())
    summary = ", ".join(f"{counts[verdict]} {_COUNTED[verdict]}" for verdict in Verdict if counts[verdict])
    yield f"{len(foretold)} stages, profile {selection(root).profile}: {summary}; compared with {history.lock()}"


_COUNTED = {
    Verdict.RUN: "would run",
    Verdict.DEPENDS: "may run",
    Verdict.RESTORED: "would be restored",
    Verdict.UNCHANGED: "unchanged",
}


def _roots(foretold: Forecasts, names: Sequence[str], history: History) -> Iterator[str]:
    """Causes that come from no other stage, with the stages among `names` that have them."""
    touched: dict[str, dict[str, list[str]]] = {}
    for name in names:
        for line in _lines(foretold[name], history, brief=True):
            touched.setdefault(line, {}).setdefault(_verdict(foretold[name]), []).append(name)
    for line, by_verdict in touched.items():
        yield line
        yield from (f"  {verdict}: {', '.join(stages)}" for verdict, stages in by_verdict.items())


def _matching(foretold: Forecasts, patterns: Sequence[str]) -> list[str]:
    def matches(name: str, pattern: str) -> bool:
        return any(fnmatchcase(known, pattern) for known in (name, name.partition("@")[0]))

    if idle := [p for p in patterns if not any(matches(name, p) for name in foretold)]:
        raise StageError(f"no stage matches {', '.join(idle)}; there are {', '.join(foretold)}")
    return [name for name in foretold if any(matches(name, pattern) for pattern in patterns)]


def _own(told: Forecast) -> bool:
    """Whether a stage has a reason that does not come from another stage."""
    return any(cause.kind is not Kind.ABOVE for cause in told.causes)


def _above(foretold: Forecasts, name: str) -> list[str]:
    """All that a stage needs, directly or not, in the order of a build."""
    seen: set[str] = set()
    todo = list(foretold[name].now.needs)
    while todo:
        above = todo.pop()
        if above not in seen:
            seen.add(above)
            todo += foretold[above].now.needs
    return [other for other in foretold if other in seen]


def _one(foretold: Forecasts, name: str, history: History) -> Iterator[str]:
    told = foretold[name]
    yield f"{name} {'is ' if told.verdict is Verdict.UNCHANGED else ''}{_verdict(told)}"
    lines = _lines(told, history)
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} further differences"
    if inputs := [f"{cause.what} ({cause.stage})" for cause in told.causes if cause.kind is Kind.ABOVE]:
        yield f"  stages above it would make its input anew: {', '.join(inputs)}"
        yield from (f"    {line}" for line in _roots(foretold, _above(foretold, name), history))


def _verdict(told: Forecast) -> str:
    return told.verdict + (f" from {_SOURCES[told.source]}" if told.source else "")


_SOURCES = {"dvc.lock": "the cache", "run-cache": "an earlier run on the same inputs"}


def _lines(told: Forecast, history: History, brief: bool = False) -> list[str]:
    """What speaks for doing something with a stage, apart from the stages above it."""
    own = (cause for cause in told.causes if cause.kind is not Kind.ABOVE)
    return [line for cause in own for line in _words(cause, history, brief)]


def _words(cause: Cause, history: History, brief: bool) -> Iterator[str]:
    match cause.kind:
        case Kind.NEVER_BUILT:
            yield "never built: dvc.lock has no entry of it"
        case Kind.COMMAND:
            yield f"its command changed from `{cause.before}` to `{cause.now}`"
        case Kind.PARAMETERS:
            yield from _parameters(cause, brief)
        case Kind.INPUT:
            yield from history.changed_files(cause.what, cause.before)
        case Kind.INPUT_MISSING:
            yield f"its input {cause.what} is not there, and no stage makes it: DVC will stop here"
        case Kind.NOT_IN_CACHE:
            yield "and the cache does not hold what belongs there"
        case Kind.OUTPUT:
            yield f"its output {cause.what} {_STATES[cause.now]}"


_STATES = {
    "deleted": "is missing",
    "modified": "was changed by hand",
    "not in cache": "is not in the cache",
    "new": "is new",
}


def _parameters(cause: Cause, brief: bool) -> Iterator[str]:
    """`brief` leaves out what only another profile changes."""
    was, now = profile_of(cause.before), profile_of(cause.now)
    switched = was is not None and was != now
    if switched:
        yield f"the profile changed from {was} to {now}"
    before, after = (
        {key: value for key, value in tracked.items() if not (switched and brief and overlay_of(key))}
        for tracked in (cause.before, cause.now)
    )
    for difference in parameters(before, after):
        if not (switched and overlay_of(difference.name)):
            yield f"parameter {difference}"


def affected(root: Path, edited: Sequence[str]) -> Iterator[str]:
    """Which stages would run after an edit of files or folders, or of sections of params.yaml.

    Args:
        root: the checkout.
        edited: paths (`stages/core/train`), or dotted parameters (`ceph.base.fit`).
    """
    foretold = forecast(root)
    for item in edited:
        path = Path(item)
        name = path.resolve().relative_to(root).as_posix() if path.exists() else item.rstrip("/")
        direct = [n for n, told in foretold.items() if _reads(told, name)]
        yield f"{item}: {'no stage depends on it' if not direct else 'would run: ' + ', '.join(direct)}"
        if below := _below(foretold, set(direct)):
            yield f"  below them, unless what they read comes out the same: {', '.join(below)}"


def _reads(told: Forecast, item: str) -> bool:
    keys = [key for values in told.now.params.values() for key in values]
    plain = [overlay_of(key) or key for key in keys]
    nested = any(_within(item, key, ".") or _within(key, item, ".") for key in (*keys, *plain))
    return nested or any(_within(item, dep, "/") or _within(dep, item, "/") for dep in told.now.deps)


def _within(inner: str, outer: str, separator: str) -> bool:
    return inner == outer or inner.startswith(outer + separator)


def _below(foretold: Forecasts, names: Set[str]) -> list[str]:
    reached = set(names)
    for name, told in foretold.items():
        if reached & set(told.now.needs):
            reached.add(name)
    return [name for name in foretold if name in reached - names]

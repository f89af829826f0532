"""What DVC would do with each stage now, and for which reasons, found without doing it.

`dvc status` compares a checkout with dvc.lock. It knows neither that an output which would be restored settles
what lies below, nor what the run-cache holds. Here the walk of `dvc repro` is taken with hashes in place of
files. Names that DVC does not document: `Stage.deps` and its kin, `Repo.stage_cache.cache_dir`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

from flows import dag
from stages.core.identity import locked_identity, locked_stages


class Verdict(StrEnum):
    """What DVC would do with a stage."""

    UNCHANGED = "unchanged"
    RESTORED = "would be restored"
    RUN = "would run"
    DEPENDS = "would run unless what it reads comes out the same"


class Kind(StrEnum):
    """What may speak for doing something with a stage."""

    NEVER_BUILT = "never built"
    COMMAND = "command"
    PARAMETERS = "parameters"
    INPUT = "input"
    INPUT_MISSING = "input missing"
    ABOVE = "above"
    OUTPUT = "output"
    NOT_IN_CACHE = "not in cache"


@dataclass(frozen=True)
class Cause:
    """One reason.

    Attributes:
        kind: what it is.
        what: the path, the parameter file, or for `ABOVE` the input; empty where the kind says all.
        before, now: command, parameters (a table), content hash of an input, or state of an output
            (`deleted`, `modified`, `not in cache`), where there is one.
        stage: for `ABOVE` the stage that makes the input.
    """

    kind: Kind
    what: str = ""
    before: Any = None
    now: Any = None
    stage: str = ""


@dataclass(frozen=True)
class StageNow:
    """A stage as dvc.yaml, params.yaml and the checkout have it.

    Attributes:
        deps: path -> content hash, None where nothing lies there.
        params: parameter file -> tracked key -> value.
        outs: paths.
    """

    name: str
    command: str
    needs: tuple[str, ...]
    deps: Mapping[str, str | None]
    params: Mapping[str, Mapping[str, Any]]
    outs: tuple[str, ...]

    def key(self, deps: Mapping[str, str]) -> str:
        """DVC's key of a run on inputs with these hashes."""
        entry: dict[str, Any] = {
            "cmd": self.command,
            "deps": [{"path": path, "hash": "md5", "md5": deps[path]} for path in sorted(deps)],
        }
        if self.params:
            entry["params"] = self.params
        return locked_identity(entry | {"outs": [{"path": path} for path in sorted(self.outs)]}).key


@dataclass(frozen=True)
class Forecast:
    """What DVC would do with one stage.

    Attributes:
        verdict: what it would do.
        causes: why; empty for an unchanged stage.
        source: where a restored stage comes from, `dvc.lock` or `run-cache`.
        key: DVC's key of the run that it would be, None where inputs are not known before others ran.
    """

    now: StageNow
    verdict: Verdict
    causes: tuple[Cause, ...] = ()
    source: str = ""
    key: str | None = None


@dataclass
class _Walk:
    """Hashes that outputs will have once the stages seen so far are up to date."""

    repo: Any
    lock: Mapping[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    """output -> stage, of stages that would run: their bytes are not known"""
    moved: dict[str, str] = field(default_factory=dict)
    """output -> stage, of stages that would be restored: what lies there now says nothing of a folder around it"""
    forecasts: dict[str, Forecast] = field(default_factory=dict)

    def settle(self, outs: Mapping[str, str], restored: str = "") -> None:
        self.hashes |= outs
        if restored:
            self.moved |= dict.fromkeys(outs, restored)

    def leave_open(self, stage: StageNow) -> None:
        self.open |= dict.fromkeys(stage.outs, stage.name)

    def expected(self, path: str, there: str | None) -> str | None:
        """The hash that an input will have: that of the output at `path`, or of the file in a folder that is
        one, or else of what lies `there`."""
        if path in self.hashes:
            return self.hashes[path]
        for parent in map(Path.as_posix, Path(path).parents):
            if parent in self.hashes:
                files = _listing(self.repo, self.hashes[parent])
                return files.get(Path(path).relative_to(parent).as_posix(), there)
        return there

    def maker(self, path: str) -> str | None:
        """A stage that leaves it open what this input, which it makes wholly or in part, will be."""
        running = (stage for out, stage in self.open.items() if _touch(out, path))
        inside = (stage for out, stage in self.moved.items() if Path(path) in Path(out).parents)
        return next(chain(running, inside), None)


def _touch(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    a, b = Path(one).parts, Path(other).parts
    return a[: len(b)] == b or b[: len(a)] == a


def forecast(root: Path) -> dict[str, Forecast]:
    """What `dvc repro` would do with every stage, in the order in which it would come to them.

    Raises:
        StageError: dvc.yaml or params.yaml cannot be read, or a parameter is missing.
    """
    with dag.opened(root) as repo:
        walk = _Walk(repo, locked_stages(root))
        for stage, needs in dag.in_order(repo).items():
            name = dag.stage_name(stage)
            foretold = _added(stage, name, walk) if not stage.cmd else _stage(stage, name, needs, walk)
            walk.forecasts[name] = foretold
        return walk.forecasts


def describe(stage: Any, name: str, needs: Iterable[Any]) -> StageNow:
    """Hash the inputs of a stage as DVC does, and read its parameters."""
    inputs = [dep for dep in stage.deps if dep not in stage.params]
    return StageNow(
        name=name,
        command=stage.cmd or "",
        needs=tuple(map(dag.stage_name, needs)),
        deps={dep.def_path: dep.get_hash().value if dep.exists else None for dep in inputs},
        params={dep.def_path: dict(dep.get_hash().value) for dep in stage.params},
        outs=tuple(out.def_path for out in stage.outs),
    )


def _added(stage: Any, name: str, walk: _Walk) -> Forecast:
    """A file or folder that `dvc add` tracks: DVC takes in what lies there."""
    now = describe(stage, name, ())
    causes = []
    for out in stage.outs:
        state = out.status().get(str(out))
        if out.exists:
            walk.settle({out.def_path: out.get_hash().value})
        if state is not None:
            causes.append(Cause(Kind.OUTPUT, out.def_path, now=state))
    return Forecast(now, Verdict.RUN if causes else Verdict.UNCHANGED, tuple(causes))


def _stage(stage: Any, name: str, needs: Sequence[Any], walk: _Walk) -> Forecast:
    now, entry = describe(stage, name, needs), walk.lock.get(name)
    above = {path: maker for path in now.deps if (maker := walk.maker(path))}
    expected = {p: walk.expected(p, md5) for p, md5 in now.deps.items() if p not in above}
    known = {path: md5 for path, md5 in expected.items() if md5 is not None}
    causes = [
        *_differences(now, entry, known),
        *(Cause(Kind.INPUT_MISSING, path) for path in expected if path not in known),
        *(Cause(Kind.ABOVE, path, stage=maker) for path, maker in above.items()),
    ]
    key = now.key(known) if known.keys() == now.deps.keys() else None
    if entry is not None and not causes:
        return _same_inputs(stage, now, entry, str(key), walk)
    if key is not None and (outs := _run_cached(walk.repo, key)) is not None:
        walk.settle(outs, restored=now.name)
        return Forecast(now, Verdict.RESTORED, tuple(causes), "run-cache", key)
    walk.leave_open(now)
    only_above = all(cause.kind is Kind.ABOVE for cause in causes)
    return Forecast(now, Verdict.DEPENDS if only_above else Verdict.RUN, tuple(causes), key=key)


def _differences(now: StageNow, entry: Any, deps: Mapping[str, str]) -> Iterable[Cause]:
    """Command, parameters and inputs that differ from those of the last run."""
    if entry is None:
        yield Cause(Kind.NEVER_BUILT)
        return
    if entry["cmd"] != now.command:
        yield Cause(Kind.COMMAND, before=entry["cmd"], now=now.command)
    for file, values in now.params.items():
        noted = entry.get("params", {}).get(file, {})
        if any(key not in noted or noted[key] != value for key, value in values.items()):
            yield Cause(Kind.PARAMETERS, file, before=dict(noted), now=values)
    locked = {dep["path"]: dep["md5"] for dep in entry.get("deps", [])}
    for path, md5 in deps.items():
        if locked.get(path) != md5:
            yield Cause(Kind.INPUT, path, before=locked.get(path), now=md5)


def _same_inputs(stage: Any, now: StageNow, entry: Any, key: str, walk: _Walk) -> Forecast:
    """A stage whose inputs are those of dvc.lock: its outputs stand, or are restored, or are gone."""
    states = {out.def_path: out.status().get(str(out)) for out in stage.outs}
    causes = tuple(Cause(Kind.OUTPUT, path, now=state) for path, state in states.items() if state)
    outs = {out["path"]: out["md5"] for out in entry.get("outs", []) if "md5" in out}
    if not causes:
        walk.settle(outs)
        return Forecast(now, Verdict.UNCHANGED, key=key)
    if outs.keys() >= set(now.outs) and _cached(walk.repo, outs):
        walk.settle(outs, restored=now.name)
        return Forecast(now, Verdict.RESTORED, causes, "dvc.lock", key)
    walk.leave_open(now)
    return Forecast(now, Verdict.RUN, (*causes, Cause(Kind.NOT_IN_CACHE)), key=key)


def _run_cached(repo: Any, key: str) -> dict[str, str] | None:
    """Output -> hash of the newest run under a key, if the cache holds all of them."""
    from dvc.utils.serialize import YAMLError, load_yaml

    folder = Path(repo.stage_cache.cache_dir) / key[:2] / key
    runs = sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime) if folder.is_dir() else []
    try:
        entry = load_yaml(str(runs[-1])) if runs else {}
    except YAMLError:
        return None
    outs = {out["path"]: out["md5"] for out in entry.get("outs", [])}
    return outs if outs and _cached(repo, outs) else None


def _cached(repo: Any, outs: Mapping[str, str]) -> bool:
    """Whether the cache holds these hashes, folders with all their files."""
    return all(
        _object(repo, oid).is_file()
        for md5 in outs.values()
        for oid in (md5, *(_listing(repo, md5).values()))
    )


def _listing(repo: Any, md5: str) -> dict[str, str]:
    """Name -> hash of the files of a folder; empty for a file, and where the cache does not have it."""
    file = _object(repo, md5)
    if not md5.endswith(".dir") or not file.is_file():
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_bytes())}


def _object(repo: Any, oid: str) -> Path:
    return Path(repo.cache.local.oid_to_path(oid))

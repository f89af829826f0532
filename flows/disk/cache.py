"""DVC's cache: which objects are needed by what.

`dvc gc` knows commits and the workspace, and would drop what the run-cache restores when a profile is switched
back. So the objects that an earlier run can give back under the code and parameters of today are told apart from
those of code or parameters that are no more. Objects in the form of DVC before version 3 are left alone.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import yaml

from flows.changes import overlay_of
from flows.disk import DAY, Area, Holding, newest, size
from flows.forecast import Forecast, StageNow
from stages.core.errors import StageError
from stages.core.identity import locked_stages
from stages.core.params import lookup

Forecasts = Mapping[str, Forecast]


class Need(IntEnum):
    """What an object is for, the strongest need first."""

    CURRENT = 0
    COMMITTED = 1
    SWITCH = 2
    NOTHING = 3


WORDS = {
    Need.CURRENT: "named by dvc.lock or a .dvc file here",
    Need.COMMITTED: "named by dvc.lock or a .dvc file of a branch, tag or stash",
    Need.SWITCH: "restored when a profile or raw folder is switched back",
    Need.NOTHING: "made by code or with parameters that are no more, and in no branch or tag",
}


@dataclass(frozen=True)
class Run:
    """One entry of DVC's run-cache."""

    file: Path
    deps: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]
    outs: Mapping[str, str]
    command: str


def folder(root: Path) -> Path:
    """The folder of DVC's cache. Raises a StageError where it lies outside the checkout: others may use it."""
    from dvc.config import Config

    configured = Config(str(root / ".dvc"), validate=False).get("cache", {}).get("dir")
    cache = (root / ".dvc" / configured) if configured else root / ".dvc" / "cache"
    if not cache.resolve().is_relative_to(root.resolve()):
        raise StageError(
            f"the cache of this checkout is {cache}, outside of it: other checkouts may use it, so it is not looked at"
        )
    return cache


@dataclass(frozen=True)
class Cache:
    """The cache of a checkout.

    Attributes:
        folder: where it lies.
        objects: hash -> file.
        runs: the run-cache.
        reachable: the runs that DVC would restore for some profile and raw folders.
    """

    folder: Path
    objects: Mapping[str, Path]
    runs: Sequence[Run]
    reachable: Sequence[Run]


def read_cache(root: Path, foretold: Forecasts) -> Cache:
    """Look at the whole cache.

    Args:
        root: the checkout.
        foretold: what `forecast` says of it.
    Raises:
        StageError: the cache lies outside the checkout.
    """
    cache = folder(root)
    objects = {f"{f.parent.name}{f.name}": f for f in sorted((cache / "files" / "md5").glob("??/*"))}
    runs = read_runs(cache)
    return Cache(cache, objects, runs, reachable(root, foretold, runs))


def holdings(root: Path, foretold: Forecasts, cache: Cache) -> list[Holding]:
    """The cache by lane, need and day; entries of the run-cache come before what they name."""
    needs, touched = _needs(root, foretold, cache), _touched(cache)
    makers = _makers(root, foretold, cache)
    grouped: dict[tuple[str, Need, int], list[str]] = defaultdict(list)
    for oid in cache.objects:
        need = needs.get(oid, Need.NOTHING)
        grouped[_lane(makers.get(oid, "")), need, int(touched[oid] // DAY)].append(oid)
    found = _run_holdings(cache, needs)
    for (lane, need, _), oids in sorted(grouped.items()):
        files = [cache.objects[oid] for oid in sorted(oids, key=_folders_first)]
        found.append(_holding(lane, need, files, max(touched[oid] for oid in oids)))
    return found


def _run_holdings(cache: Cache, needs: Mapping[str, Need]) -> list[Holding]:
    """The run-cache by need and day. A key's folder goes as a whole: DVC stumbles over an empty one."""
    by_key: dict[Path, Need] = {}
    for run in cache.runs:
        need = max((needs.get(md5, Need.NOTHING) for md5 in run.outs.values()), default=Need.NOTHING)
        by_key[run.file.parent] = min(need, by_key.get(run.file.parent, need))
    grouped: dict[tuple[Need, int], list[Path]] = defaultdict(list)
    for folder, need in by_key.items():
        grouped[need, int(newest(folder) // DAY)].append(folder)
    return [_holding("run-cache", need, folders) for (need, _), folders in sorted(grouped.items())]


def _folders_first(oid: str) -> tuple[bool, str]:
    return not oid.endswith(".dir"), oid


def _touched(cache: Cache) -> dict[str, float]:
    """Hash -> when the object, a folder that holds it or a run that made it was last written."""
    touched = {oid: file.stat().st_mtime for oid, file in cache.objects.items()}
    parents = [(touched[oid], oid) for oid in cache.objects if oid.endswith(".dir")]
    runs = [(run.file.stat().st_mtime, md5) for run in cache.runs for md5 in run.outs.values()]
    for moment, md5 in (*runs, *parents):
        for oid in (md5, *_children(cache.folder, md5)):
            touched[oid] = max(touched.get(oid, 0.0), moment)
    return touched


def _holding(what: str, need: Need, paths: list[Path], touched: float = 0.0) -> Holding:
    return Holding(
        area=Area.CACHE,
        what=what,
        bytes=sum(map(size, paths)),
        why=WORDS[need],
        paths=tuple(paths) if need >= Need.SWITCH else (),
        touched=max(touched, *map(newest, paths)),
        other_profile=need is Need.SWITCH,
        count=len(paths),
    )


def read_runs(cache: Path) -> list[Run]:
    """All readable entries of the run-cache."""
    from dvc.utils.serialize import YAMLError, load_yaml

    found = []
    for file in sorted((cache / "runs").glob("??/*/*")):
        try:
            entry = load_yaml(str(file))  # not PyYAML: it would read `1e-05` as a string
            found.append(
                Run(
                    file,
                    {dep["path"]: dep.get("md5", "") for dep in entry.get("deps", [])},
                    entry.get("params", {}),
                    {out["path"]: out["md5"] for out in entry["outs"] if "md5" in out},
                    entry["cmd"],
                )
            )
        except (YAMLError, KeyError, TypeError, AttributeError):
            continue
    return found


def _needs(root: Path, foretold: Forecasts, cache: Cache) -> dict[str, Need]:
    """Object -> its strongest need; objects that nothing needs are left out."""
    needs: dict[str, Need] = {}
    stated = {
        Need.CURRENT: _current(root, foretold),
        Need.COMMITTED: _committed(root),
        Need.SWITCH: [md5 for run in cache.reachable for md5 in run.outs.values()],
    }
    for need, hashes in stated.items():
        for md5 in hashes:
            for oid in (md5, *_children(cache.folder, md5)):
                needs.setdefault(oid, need)
    return needs


def _children(cache: Path, md5: str) -> list[str]:
    listing = cache / "files" / "md5" / md5[:2] / md5[2:]
    if not md5.endswith(".dir") or not listing.is_file():
        return []
    return [entry["md5"] for entry in json.loads(listing.read_bytes())]


def _current(root: Path, foretold: Forecasts) -> Iterator[str]:
    for entry in locked_stages(root).values():
        yield from _out_hashes(entry)
    for name in foretold:
        if name.endswith(".dvc"):
            yield from _out_hashes(yaml.safe_load((root / name).read_text(encoding="utf-8")))


def _committed(root: Path) -> Iterator[str]:
    """Hashes that the tips of all branches, tags, remote branches and stashes name."""
    commits = {*_git(root, "for-each-ref", "--format=%(objectname)").split(), "HEAD"}
    for commit in sorted(commits):
        names = _git(root, "ls-tree", "-r", "--name-only", commit).splitlines()
        for name in names:
            if Path(name).name == "dvc.lock" or name.endswith(".dvc"):
                tree = yaml.safe_load(_git(root, "show", f"{commit}:{name}")) or {}
                for entry in (tree.get("stages") or {"": tree}).values():
                    yield from _out_hashes(entry)


def _out_hashes(entry: Any) -> list[str]:
    return [str(out["md5"]) for out in entry.get("outs", []) if "md5" in out]


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def reachable(root: Path, foretold: Forecasts, runs: Iterable[Run]) -> list[Run]:
    """Runs that DVC would restore for some profile and raw folders, with the code and parameters of today.

    A raw folder may hold anything; an input that a stage makes must be one that a run which is reachable made.
    """
    from dvc.utils.serialize import load_yaml

    params = load_yaml(str(root / "params.yaml"))
    tracked = _git(root, "ls-files").splitlines()
    by_outs: dict[frozenset[str], list[Run]] = defaultdict(list)
    for run in runs:
        by_outs[frozenset(run.outs)].append(run)
    lock = locked_stages(root)
    made: dict[str, set[str]] = {}
    found = []
    for name, told in foretold.items():
        for path in told.now.outs:
            made[path] = {out["md5"] for out in lock.get(name, {}).get("outs", []) if out["path"] == path}
        code = {
            path: md5 for path, md5 in told.now.deps.items() if path not in made and _is_in(path, tracked)
        }
        for run in by_outs[frozenset(told.now.outs)]:
            if _same_code(run, code) and _same_params(run, told.now, params) and _inputs_made(run, made):
                found.append(run)
                for path, md5 in run.outs.items():
                    made[path].add(md5)
    return found


def _is_in(path: str, tracked: Iterable[str]) -> bool:
    return any(name == path or name.startswith(f"{path}/") for name in tracked)


def _same_code(run: Run, code: Mapping[str, str | None]) -> bool:
    return all(run.deps.get(path) == md5 for path, md5 in code.items())


def _same_params(run: Run, now: StageNow, params: dict[str, Any]) -> bool:
    """Whether a run read what params.yaml says today, of whatever profile."""
    if {_plain(f, k) for f in run.params for k in run.params[f]} != {
        _plain(f, k) for f in now.params for k in now.params[f]
    }:
        return False
    return all(
        lookup(params, key) == value for values in run.params.values() for key, value in values.items()
    )


def _plain(file: str, key: str) -> tuple[str, str, bool]:
    return file, overlay_of(key) or key, overlay_of(key) is not None


def _inputs_made(run: Run, made: Mapping[str, set[str]]) -> bool:
    return all(md5 in made[path] for path, md5 in run.deps.items() if path in made)


def _makers(root: Path, foretold: Forecasts, cache: Cache) -> dict[str, str]:
    """Object -> a stage that made it, of today's graph or, where that has no such output, by its command."""
    stage_of = {path: name for name, told in foretold.items() for path in told.now.outs}
    made = [
        (md5, stage_of.get(path) or _by_command(run.command))
        for run in cache.runs
        for path, md5 in run.outs.items()
    ]
    made += [(md5, name) for name, entry in locked_stages(root).items() for md5 in _out_hashes(entry)]
    return {oid: stage for md5, stage in made for oid in (md5, *_children(cache.folder, md5))}


def _by_command(command: str) -> str:
    found = re.search(r"-m\s+\w+\.(\w+)\.\w+", command)
    return found[1] if found else ""


def _lane(stage: str) -> str:
    return re.split(r"[-@]", stage)[0] or "no known stage"

"""The graph of stages as DVC has it, what of it is out of date, and repair of what a killed DVC leaves.

Nobody writes the graph down a second time. Beside `stages/core/identity.py` only this module and `forecast.py`
use names which DVC does not document: here `Repo.index.graph`, `Repo.lock`, `Repo._wait_for_lock`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows import quick_dvc
from stages.core.errors import StageError


class StageMeta(BaseModel):
    """What the flow reads from a stage's `meta` in dvc.yaml; changing it reruns nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    retries: int = Field(default=0, ge=0)
    gpu: bool = False


@dataclass(frozen=True)
class Stage:
    """One node: a stage of dvc.yaml, or a file that `dvc add` tracks."""

    name: str
    needs: tuple[str, ...]
    """direct upstream stages"""
    stale: bool
    """whether DVC sees a change in its command, inputs, parameters or outputs"""
    meta: StageMeta
    params: tuple[str, ...] = ()
    """sections and values of params.yaml that it reads"""


Graph = Mapping[str, Stage]
"""Stages by name; every stage stands after what it needs, otherwise in the order of dvc.yaml."""


def read_graph(root: Path) -> dict[str, Stage]:
    """The stages of a checkout with their state. Waits while another DVC holds the repository.

    Raises:
        StageError: dvc.yaml or params.yaml cannot be read, or a `meta` holds an unknown key.
    """
    with opened(root) as repo:
        stale = repo.status().keys()
        stages = in_order(repo)
        metas = _metas({stage_name(stage): stage.meta or {} for stage in stages})
        return {
            stage_name(stage): Stage(
                name=stage_name(stage),
                needs=tuple(map(stage_name, needs)),
                stale=stage.addressing in stale,
                meta=metas[stage_name(stage)],
                params=_params(stage),
            )
            for stage, needs in stages.items()
        }


def in_order(repo: Any) -> dict[Any, list[Any]]:
    """DVC's stages with what each directly needs; every stage stands after that."""
    from networkx import lexicographical_topological_sort

    edges = repo.index.graph
    order = {stage: position for position, stage in enumerate(repo.index.stages)}
    stages = lexicographical_topological_sort(edges.reverse(copy=False), key=order.__getitem__)
    return {stage: sorted(edges.successors(stage), key=order.__getitem__) for stage in stages}


def _params(stage: Any) -> tuple[str, ...]:
    from dvc.dependency import ParamsDependency

    of_file = (dep.params for dep in stage.deps if isinstance(dep, ParamsDependency))
    return tuple(name for names in of_file for name in names)


def stage_name(stage: Any) -> str:
    """What `dvc repro`, called at the root, knows the stage by; DVC's own `addressing` hangs on the cwd."""
    file = Path(stage.path_in_repo).as_posix()
    if not hasattr(stage, "name"):
        return file
    return str(stage.name) if file == "dvc.yaml" else f"{file}:{stage.name}"


def _metas(raw: Mapping[str, Any]) -> dict[str, StageMeta]:
    metas, problems = {}, []
    for name, meta in raw.items():
        try:
            metas[name] = StageMeta.model_validate(meta)
        except ValidationError as error:
            problems += [f"  {name}: meta.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    if problems:
        known = ", ".join(StageMeta.model_fields)
        raise StageError(f"dvc.yaml: the flow reads {known} from `meta`:\n" + "\n".join(problems))
    return metas


def select(graph: Graph, patterns: Set[str]) -> dict[str, Stage]:
    """The stages whose names match a pattern (`spine-*`), and all that they need.

    As to DVC, the name of a repeated stage alone (`chest-phase`) means all of `chest-phase@...`.

    Raises:
        StageError: naming every pattern that matches no stage.
    """
    names = {name: (name, name.partition("@")[0]) for name in graph}
    matched = {
        p: {n for n, known in names.items() if any(fnmatchcase(k, p) for k in known)} for p in patterns
    }
    if idle := sorted(pattern for pattern, found in matched.items() if not found):
        raise StageError(f"no stage matches {', '.join(idle)}; there are {', '.join(graph)}")
    wanted = set().union(*matched.values())
    chosen: set[str] = set()
    for name in reversed(list(graph)):
        if name in wanted or any(name in graph[later].needs for later in chosen):
            chosen.add(name)
    return {name: stage for name, stage in graph.items() if name in chosen}


def unchanged(graph: Graph) -> frozenset[str]:
    """Stages that need no look by DVC: neither they nor anything above them is stale.

    Below a stale stage only DVC can tell: a stage that ran may have written the same bytes again.
    """
    settled: set[str] = set()
    for name, stage in graph.items():
        if not stage.stale and settled.issuperset(stage.needs):
            settled.add(name)
    return frozenset(settled)


def ready(graph: Graph, done: Set[str], running: Set[str], workers: int) -> list[str]:
    """Stages to start now: all that they need is done, `workers` run at once, of them one on the GPU."""
    free = workers - len(running)
    gpu_free = not any(graph[name].meta.gpu for name in running)
    start: list[str] = []
    for name, stage in graph.items():
        if len(start) >= free:
            break
        if name in done or name in running or not done >= set(stage.needs):
            continue
        if stage.meta.gpu:
            if not gpu_free:
                continue
            gpu_free = False
        start.append(name)
    return start


def heal(root: Path) -> list[str]:
    """Repair what a killed DVC leaves behind; does nothing, and says nothing, where all is well.

    Three things block or break later `dvc` commands: a lock table cut short (DVC writes it in place, and
    then refuses every command), entries of processes that are gone but whose number another process now
    has (a restarted container), and a dvc.lock cut short. All are repaired under DVC's own locks, so the
    half-written file of a live DVC is never taken for that of a dead one.

    Returns:
        A line for each repair.
    """
    with _locked(root) as repo:
        return [*_heal_lock_table(repo), *_heal_lock_file(repo)]


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """DVC's view of the checkout, with the repository lock held: no other DVC begins anything meanwhile.

    Raises:
        StageError: DVC cannot read the pipeline.
    """
    from dvc.exceptions import DvcException

    try:
        with _locked(root) as repo:
            yield repo
    except DvcException as error:
        raise StageError(f"DVC cannot read the pipeline in {root}: {error}") from error


@contextmanager
def _locked(root: Path) -> Iterator[Any]:
    """DVC's view of the checkout, with the repository lock held."""
    quick_dvc.install()
    from dvc.repo import Repo, lock_repo

    with Repo(str(root), _wait_for_lock=True) as repo, lock_repo(repo):
        yield repo


def _heal_lock_table(repo: Any) -> list[str]:
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
    from voluptuous import Invalid

    folder = Path(repo.tmp_dir)
    table = folder / RWLOCK_FILE
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hardlink, wait=True):
        if not table.exists():
            return []
        try:
            locks = SCHEMA(json.loads(table.read_text(encoding="utf-8")))
        except (ValueError, Invalid):
            table.unlink()
            return [f"removed {table.relative_to(repo.root_dir)}: a killed process had cut it short"]
        written = table.stat().st_mtime
        gone = {i["pid"] for i in _infos(locks) if not _was_alive(i["pid"], written)}
        if not gone:
            return []
        write = {path: info for path, info in locks["write"].items() if info["pid"] not in gone}
        readers = {path: [i for i in infos if i["pid"] not in gone] for path, infos in locks["read"].items()}
        kept = {"write": write, "read": {path: infos for path, infos in readers.items() if infos}}
        partial = table.with_suffix(".partial")
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(table)
        return [f"released the locks of processes that are gone: {', '.join(map(str, sorted(gone)))}"]


def at_work(repo: Any) -> list[str]:
    """The living processes that hold paths of the checkout: DVC at work on a stage, as `PID (command)`."""
    from dvc.rwlock import RWLOCK_FILE, SCHEMA
    from voluptuous import Invalid

    table = Path(repo.tmp_dir) / RWLOCK_FILE
    if not table.exists():
        return []
    try:
        locks = SCHEMA(json.loads(table.read_text(encoding="utf-8")))
    except (ValueError, Invalid):
        return ["unknown, since its lock table was cut short; `plumbline repair` mends it"]
    written = table.stat().st_mtime
    living = {i["pid"]: i["cmd"] for i in _infos(locks) if _was_alive(i["pid"], written)}
    return [f"{pid} ({command})" for pid, command in sorted(living.items()) if pid != os.getpid()]


def _infos(locks: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from locks["write"].values()
    for readers in locks["read"].values():
        yield from readers


def _was_alive(pid: int, moment: float) -> bool:
    """Whether the process that has this number now had it at `moment` (seconds since the epoch)."""
    try:
        # Start times come in clock ticks after a boot time that may be a second off.
        return psutil.Process(pid).create_time() <= moment + 2.0
    except psutil.NoSuchProcess:
        return False


def _heal_lock_file(repo: Any) -> list[str]:
    from dvc.dvcfile import LOCK_FILE

    path = Path(repo.root_dir) / LOCK_FILE
    if not path.exists() or _is_whole(repo, path):
        return []
    kept = Path(repo.tmp_dir) / f"{LOCK_FILE}.broken"
    path.replace(kept)
    return [
        f"moved {LOCK_FILE} to {kept.relative_to(repo.root_dir)}: a killed process had cut it short. "
        f"The next build writes it anew and restores what the cache holds; "
        f"`git checkout {LOCK_FILE}` gives the committed one"
    ]


def _is_whole(repo: Any, path: Path) -> bool:
    """Whether a dvc.lock was written to its end. One with Git's conflict marks is for a person to mend."""
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException

    text = path.read_text(encoding="utf-8", errors="replace")
    if "<<<<<<<" in text:
        return True
    try:
        Lockfile(repo, str(path)).load()
    except DvcException:
        return False
    return text.endswith("\n")

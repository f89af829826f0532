"""The frame around every stage: arguments, parameters, identity, progress, metrics and the journal.

A stage module defines `run(params, <inputs>: Path..., output: Path, observe) -> dict[str, float]` and ends
with `stage_main(run)`. `run` knows nothing of DVC, MLflow or Prefect; this module is the only bridge.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import inspect
import json
import math
import os
import shutil
import sys
import time
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import StageError
from stages.core.identity import StageIdentity, StageInputs
from stages.core.lifeline import end_with_dvc
from stages.core.params import StageParams, load_params, parse_params, project_root

STATE = Path(".plumbline")
"""Folder at the root of a checkout for everything that is neither tracked nor an output."""


class Observer:
    """What a running stage may tell the outside, and the one place where it may keep unfinished work.

    Attributes:
        scratch: folder outside DVC's outputs, named by the stage's key; survives a kill, so that a rerun
            on the same inputs resumes, and is removed when the stage succeeds. Created on first use.
        key: the stage's DVC key (64 hex digits), or "untracked" outside DVC.
    """

    def __init__(self, scratch: Path, key: str, echo: bool) -> None:
        self._scratch = scratch
        self.key = key
        self.history: dict[int, dict[str, float]] = {}
        self._echo = echo
        self._last_line = 0.0

    @classmethod
    def quiet(cls, scratch: Path, key: str = "untracked") -> Observer:
        """An observer that prints nothing, for tests and for use from Python."""
        return cls(scratch, key, echo=False)

    @property
    def scratch(self) -> Path:
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def __call__(self, step: int, **metrics: float) -> None:
        """Record the metrics of one epoch or step. Observing a step again replaces what it said."""
        self.history.setdefault(step, {}).update({k: float(v) for k, v in metrics.items()})
        if self._echo:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"  {step:>4}  {shown}", flush=True)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say how far a loop has come; prints at most one line a second."""
        now = time.monotonic()
        if self._echo and now - self._last_line > 1.0:
            self._last_line = now
            print(f"  {done}/{total} {unit}", flush=True)


def stage_main(run: Callable[..., dict[str, float]], argv: Sequence[str] | None = None) -> None:
    """Run a stage from the command line: see the module's docstring. Exits with 1 on a StageError."""
    end_with_dvc()
    try:
        _run_stage(run, argv)
    except StageError as error:
        sys.exit(f"ERROR: {error}")
    except OSError as error:
        if error.errno in _STORAGE_ERRORS:
            sys.exit(f"ERROR: {_STORAGE_ERRORS[error.errno]}: {error}")
        raise


_STORAGE_ERRORS = {
    errno.ENOSPC: "the disk is full (free some space and run again; finished work is kept)",
    errno.EDQUOT: "the disk quota is used up (free some space and run again; finished work is kept)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "a file or folder may not be read or written by this user",
}


def _run_stage(run: Callable[..., dict[str, float]], argv: Sequence[str] | None) -> None:
    model, paths = _signature(run)
    arguments = _parser(run, paths).parse_args(argv)
    name = os.environ.get("DVC_STAGE")
    root = Path(os.environ["DVC_ROOT"]) if "DVC_ROOT" in os.environ else project_root()
    item = arguments.output.name if model.each is not None else None
    params = load_params(model, root / "params.yaml", item=item)
    looked = StageInputs(root, name) if name else None
    before = looked.identity() if looked else None
    key = before.key if before else "untracked"
    observe = Observer(root / STATE / "scratch" / f"{name or run.__module__}-{key[:16]}", key, echo=True)

    inputs = {p: getattr(arguments, p) for p in paths}
    for path in (inputs["output"], arguments.write_metrics, arguments.write_history):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    metrics = _with_threads(params, lambda: run(params=params, observe=observe, **inputs))
    seconds = time.monotonic() - clock

    if arguments.write_metrics is not None:
        arguments.write_metrics.write_text(
            json.dumps(_flat(metrics), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    if arguments.write_history is not None:
        arguments.write_history.write_text(_history_csv(observe.history), encoding="utf-8")
    if name and looked and before:
        _assert_unchanged(name, before, looked.identity())
        _record(root, name, before, params, metrics, observe, started, seconds)
    shutil.rmtree(observe._scratch, ignore_errors=True)


def _signature(run: Callable[..., Any]) -> tuple[type[StageParams], dict[str, bool]]:
    """The params class of a stage, and its path arguments with whether each is required."""
    hints = typing.get_type_hints(run)
    required = {}
    for name, parameter in inspect.signature(run).parameters.items():
        if name in ("params", "observe"):
            continue
        hint = hints[name]
        optional = isinstance(hint, types.UnionType)
        assert hint is Path or (optional and Path in typing.get_args(hint)), f"{name} of {run.__module__}.run"
        required[name] = parameter.default is inspect.Parameter.empty
    return hints["params"], required


def _parser(run: Callable[..., Any], paths: dict[str, bool]) -> argparse.ArgumentParser:
    spec = sys.modules[run.__module__].__spec__
    parser = argparse.ArgumentParser(prog=f"python -m {spec.name}" if spec else None, allow_abbrev=False)
    for name, required in paths.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=Path, required=required)
    harness = {
        "metrics": "where to write the returned metrics as JSON",
        "history": "where to write what was observed per epoch as CSV",
    }
    parser.set_defaults(**{f"write_{name}": None for name in harness})
    for name, said in harness.items():
        if name not in paths:  # a report reads a history under the same name
            parser.add_argument(f"--{name}", dest=f"write_{name}", type=Path, metavar="FILE", help=said)
    return parser


def _with_threads(params: StageParams, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Bound the native thread pools: sums in another order give other bytes."""
    threads = getattr(params, "threads", None)
    if threads is None:
        return work()
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        return work()


def _flat(metrics: dict[str, float]) -> dict[str, float | int | None]:
    """Metrics as JSON values: six significant digits, so that files compare well in Git; NaN is null."""
    flat: dict[str, float | int | None] = {}
    for name, value in metrics.items():
        if isinstance(value, bool | int) or (hasattr(value, "dtype") and value.dtype.kind in "iub"):
            flat[name] = int(value)
        else:
            flat[name] = float(f"{float(value):.6g}") if math.isfinite(value) else None
    return flat


def _history_csv(history: dict[int, dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in history.values() for name in row))
    lines = [",".join(["step", *columns])]
    for step in sorted(history):
        cells = [f"{history[step][c]:.8g}" if c in history[step] else "" for c in columns]
        lines.append(",".join([str(step), *cells]))
    return "\n".join(lines) + "\n"


def _assert_unchanged(name: str, before: StageIdentity, after: StageIdentity) -> None:
    if before.key == after.key:
        return
    paths = before.deps.keys() | after.deps.keys()
    changed = sorted(p for p in paths if before.deps.get(p) != after.deps.get(p))
    what = ", ".join(changed) or "its parameters or command"
    raise StageError(
        f"stage {name}: {what} changed while it ran, so its outputs belong to neither version. "
        "Nothing was recorded; run it again."
    )


def _record(
    root: Path,
    name: str,
    identity: StageIdentity,
    params: StageParams,
    metrics: dict[str, float],
    observe: Observer,
    started: datetime.datetime,
    seconds: float,
) -> None:
    """Write the stage's journal entry, and mirror the journal to MLflow unless the caller does that."""
    entry = {
        "stage": name,
        "key": identity.key,
        "params": params.model_dump(mode="json"),
        "deps": [{"path": p, "md5": h} for p, h in identity.deps.items()],
        "outs": list(identity.outs),
        "metrics": _flat(metrics),
        "history": [{"step": s, **_flat(row)} for s, row in sorted(observe.history.items())],
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        **_environment(root),
    }
    path = root / STATE / "journal" / name / f"{identity.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(entry, indent=1, allow_nan=False), encoding="utf-8")
    partial.replace(path)
    if os.environ.get("PLUMBLINE_TRACK") != "journal":
        from stages.core import tracking

        tracking.sync(root, fresh=identity.key)


def _environment(root: Path) -> dict[str, Any]:
    import platform
    import subprocess

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    torch = sys.modules.get("torch")
    return {
        "profile": parse_params(root / "params.yaml")["profile"],
        "host": platform.node(),
        "python": platform.python_version(),
        "torch": getattr(torch, "__version__", None),
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }

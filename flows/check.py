"""`plumbline check`: everything that a first run needs, each with a yes or what to do."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.lanes import known_lanes
from flows.services import status
from stages.core.params import parse_params

FREE_BYTES = 5_000_000_000
"""Disk that the demo, its cache and MLflow's copies fit into with room to spare."""


@dataclass(frozen=True)
class Finding:
    """One line of the check."""

    what: str
    ok: bool
    detail: str


def findings(root: Path) -> list[Finding]:
    """All checks, in reading order. None of them changes anything."""
    checks: tuple[Callable[[Path], Finding], ...] = (
        _python,
        _packages,
        _command_path,
        _profile,
        _device,
        _disk,
        _dvc_locks,
        _services,
    )
    return [check(root) for check in checks] + _raw_folders(root) + _models(root)


def _python(root: Path) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), f"{version} (3.11 or newer is needed)")


def _packages(root: Path) -> Finding:
    pins = re.findall(
        r"^([\w.\-]+)==([^\s;]+)", (root / "requirements.lock").read_text(encoding="utf-8"), re.M
    )
    wrong = []
    for name, pinned in pins:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed.split("+")[0] != pinned:
            wrong.append(f"{name} {installed} instead of {pinned}")
    if wrong:
        return Finding("packages", False, f"{'; '.join(wrong[:5])} ({len(wrong)} in all): run `make setup`")
    return Finding("packages", True, f"{len(pins)} as in requirements.lock")


def _command_path(root: Path) -> Finding:
    """DVC starts stages as `python`: that must be the interpreter that has the packages."""
    found = shutil.which("python")
    same = found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    return Finding(
        "`python` on PATH",
        same,
        str(found)
        if same
        else f"{found}; plain `dvc repro` needs `source .venv/bin/activate` (`make repro` does not)",
    )


def _profile(root: Path) -> Finding:
    tree = parse_params(root / "params.yaml")
    return Finding(
        "profile", tree["profile"] in tree["profiles"], f"{tree['profile']} of {', '.join(tree['profiles'])}"
    )


def _device(root: Path) -> Finding:
    import torch

    tree = parse_params(root / "params.yaml")
    overlays = tree["profiles"].get(tree["profile"]) or {}
    named = {str(tree["device"]), *_devices(overlays)}
    there = [
        "cpu",
        *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())),
    ]
    ok = all(device == "cpu" or torch.cuda.is_available() for device in named)
    wanted = ", ".join(sorted(named))
    return Finding(
        "device", ok, f"params.yaml asks for {wanted}; here: {', '.join(there)}, {os.cpu_count()} cores"
    )


def _devices(tree: Any) -> Iterator[str]:
    """Every `device` in the sections of a profile."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == "device":
            yield str(value)
        yield from _devices(value)


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    return Finding("disk", free > FREE_BYTES, f"{free / 1e9:.1f} GB free ({FREE_BYTES / 1e9:.0f} GB wanted)")


def _dvc_locks(root: Path) -> Finding:
    import json

    rwlock = root / ".dvc" / "tmp" / "rwlock"
    try:
        if rwlock.is_file():
            json.loads(rwlock.read_text(encoding="utf-8"))
    except ValueError:
        return Finding("DVC locks", False, "a killed process left a broken lock: run `plumbline repair`")
    return Finding("DVC locks", True, "none stale")


def _services(root: Path) -> Finding:
    states = ", ".join(status(root))
    return Finding("services", True, f"{states} (`make up` starts them; not needed to build)")


def _raw_folders(root: Path) -> list[Finding]:
    raw = parse_params(root / "params.yaml")["raw"]
    found = []
    for lane in known_lanes(root).values():
        folder = root / raw[lane.name]
        if raw[lane.name] == lane.phantom:
            state = "generated phantom" + ("" if folder.is_dir() else ", made by the first build")
            found.append(Finding(f"{lane.name} data", True, state))
        else:
            detail = (
                str(raw[lane.name]) if folder.is_dir() else f"{raw[lane.name]} is not there: `plumbline use`"
            )
            found.append(Finding(f"{lane.name} data", folder.is_dir(), detail))
    return found


def _models(root: Path) -> list[Finding]:
    return [
        Finding(
            f"{lane.name} model",
            True,
            str(lane.model) if (root / lane.model / "card.json").is_file() else "none yet: `make repro`",
        )
        for lane in known_lanes(root).values()
    ]

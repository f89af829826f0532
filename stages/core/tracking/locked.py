"""Records for stages that dvc.lock knows and the journal does not: a fresh clone, or a lost journal."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from stages.core.identity import locked_identity, locked_stages
from stages.core.params import merge
from stages.core.tracking.contents import Contents
from stages.core.tracking.journal import Dependency, Record


def locked_records(root: Path) -> list[Record]:
    """One record a stage of dvc.lock, producers first, as far as metrics and history can still be read."""
    stages, contents = locked_stages(root), Contents(root)
    made_by = {out["path"]: stage for stage, entry in stages.items() for out in entry.get("outs", [])}
    needs = {
        stage: {made_by[d["path"]] for d in entry.get("deps", []) if d["path"] in made_by}
        for stage, entry in stages.items()
    }
    return [_record(contents, stage, stages[stage]) for stage in TopologicalSorter(needs).static_order()]


def _record(contents: Contents, stage: str, entry: Mapping[str, Any]) -> Record:
    identity = locked_identity(entry)
    params, profile = _params(entry.get("params", {}).get("params.yaml", {}))
    metrics: dict[str, float | None] = {}
    history: list[dict[str, float | None]] = []
    for out in entry.get("outs", []):
        file = contents.files(out["path"], out["md5"]).get("") if "md5" in out else None
        if file is not None and out["path"].endswith(".json"):
            metrics |= _flat_figures(file)
        elif file is not None and out["path"].endswith(".csv"):
            history += _steps(file)
    return Record(
        stage=stage,
        key=identity.key,
        params=params,
        profile=profile,
        deps=tuple(Dependency(path=path, md5=md5) for path, md5 in identity.deps.items()),
        outs=identity.outs,
        metrics=metrics,
        history=tuple(history),
        backfilled=True,
    )


def _params(locked: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A stage's parameters as its params class sees them, and the profile, "" if no value depends on it."""
    params: dict[str, Any] = {}
    overlay: dict[str, Any] = {}
    profile = ""
    for name, value in locked.items():
        if name.startswith("profiles."):
            profile = name.split(".")[1]
            overlay = merge(overlay, value or {})
        elif isinstance(value, Mapping):
            params = merge(params, dict(value))
        else:
            params[name.rpartition(".")[2]] = value
    return merge(params, overlay), profile


def _flat_figures(file: Path) -> dict[str, float | None]:
    """The file's content if it is a flat table of numbers, as the harness writes metrics; else nothing."""
    content = json.loads(file.read_bytes())
    numbers = isinstance(content, dict) and all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        for value in content.values()
    )
    return content if numbers else {}


def _steps(file: Path) -> list[dict[str, float | None]]:
    """The rows of a history file: a CSV whose first column is `step`; an empty cell was not observed."""
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if (reader.fieldnames or [""])[0] != "step":
            return []
        return [{name: float(cell) if cell else None for name, cell in row.items()} for row in reader]

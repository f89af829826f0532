"""Which review events the stages learn from: the key `events` of a lane's section in params.yaml."""

from __future__ import annotations

from pathlib import Path

from flows.settings import set_values
from stages.core.errors import StageError
from stages.core.params import parse_params


def events_file(root: Path, lane: str) -> str:
    """The events that params.yaml names, relative to the checkout."""
    tree = parse_params(root / "params.yaml")
    return str(_section(tree, lane)["events"])


def point_at(root: Path, lane: str, file: str) -> bool:
    """Make params.yaml name the events `file`; whether that changed anything."""
    events_file(root, lane)
    return set_values(root / "params.yaml", {f"{lane}.events": file})


def _section(tree: dict, lane: str) -> dict:
    section = tree.get(lane)
    if not isinstance(section, dict) or "events" not in section:
        raise StageError(f"params.yaml names no review events: it has no {lane}.events")
    return section

"""Which review events the stages learn from: the key `events` of a lane's section in params.yaml."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from stages.core.errors import StageError


def events_file(root: Path, lane: str) -> str:
    """The events that params.yaml names, relative to the checkout."""
    tree = YAML(typ="safe").load((root / "params.yaml").read_text(encoding="utf-8"))
    return str(_section(tree, lane)["events"])


def point_at(root: Path, lane: str, file: str) -> bool:
    """Make params.yaml name the events `file`, comments and order kept; whether that changed anything."""
    yaml = YAML()
    yaml.width = 4096
    params = root / "params.yaml"
    tree = yaml.load(params.read_text(encoding="utf-8"))
    section = _section(tree, lane)
    if section["events"] == file:
        return False
    section["events"] = file
    partial = params.with_suffix(".yaml.partial")
    with partial.open("w", encoding="utf-8") as stream:
        yaml.dump(tree, stream)
    partial.replace(params)
    return True


def _section(tree: dict, lane: str) -> dict:
    section = tree.get(lane)
    if not isinstance(section, dict) or "events" not in section:
        raise StageError(f"params.yaml names no review events: it has no {lane}.events")
    return section

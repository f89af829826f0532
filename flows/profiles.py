"""Switching the profile and the raw folders in params.yaml, comments and order kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from flows.lanes import LANES
from stages.core.errors import StageError


@dataclass(frozen=True)
class Selection:
    """The active profile and the raw folders, as params.yaml names them."""

    profile: str
    raw: dict[str, str]


def use(root: Path, profile: str, folders: Mapping[str, str | None]) -> Selection:
    """Make `profile` the active one and set raw folders.

    Args:
        root: the checkout.
        profile: a key of `profiles` in params.yaml.
        folders: key of section `raw` -> folder, or "phantom" for the generated one, or None to leave it as it is
            (with the profile `demo`, None means the phantom: demo needs no films).
    Raises:
        StageError: for an unknown profile, or naming every folder that does not exist.
    """
    yaml = YAML()
    yaml.width = 4096
    file = root / "params.yaml"
    tree = yaml.load(file.read_text(encoding="utf-8"))
    if profile not in tree["profiles"]:
        raise StageError(f"no profile '{profile}' in params.yaml; there are {', '.join(tree['profiles'])}")
    missing = [f"{n}: {d}" for n, d in folders.items() if d not in (None, "phantom") and not Path(d).is_dir()]
    if missing:
        raise StageError("these raw folders do not exist:\n  " + "\n  ".join(missing))
    tree["profile"] = profile
    for name, phantom in _raw_folders().items():
        chosen = folders.get(name)
        if chosen == "phantom" or (chosen is None and profile == "demo"):
            tree["raw"][name] = phantom
        elif chosen is not None:
            tree["raw"][name] = as_dependency(root, Path(chosen))
    partial = file.with_suffix(".yaml.partial")
    with partial.open("w", encoding="utf-8") as stream:
        yaml.dump(tree, stream)
    partial.replace(file)
    return Selection(profile, {name: str(tree["raw"][name]) for name in _raw_folders()})


def _raw_folders() -> dict[str, str]:
    """Keys of section `raw` of params.yaml, each with the phantom that stands in for it."""
    return {name: phantom for lane in LANES.values() for name, phantom in lane.raw.items()}


def selection(root: Path) -> Selection:
    """What params.yaml says now."""
    tree = YAML(typ="safe").load((root / "params.yaml").read_text(encoding="utf-8"))
    return Selection(tree["profile"], dict(tree["raw"]))


def as_dependency(root: Path, folder: Path) -> str:
    """A path that DVC takes: relative inside the checkout, absolute outside."""
    folder = folder.resolve()
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()

"""Switching the profile and the raw folders in params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.lanes import LANES
from flows.settings import set_values
from stages.core.errors import StageError
from stages.core.params import parse_params


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
    tree = parse_params(root / "params.yaml")
    _assert_known(profile, tree)
    missing = [f"{n}: {d}" for n, d in folders.items() if d not in (None, "phantom") and not Path(d).is_dir()]
    if missing:
        raise StageError("these raw folders do not exist:\n  " + "\n  ".join(missing))
    values = {"profile": profile}
    for name, phantom in _raw_folders().items():
        chosen = folders.get(name)
        if chosen == "phantom" or (chosen is None and profile == "demo"):
            values[f"raw.{name}"] = phantom
        elif chosen is not None:
            values[f"raw.{name}"] = as_dependency(root, Path(chosen))
    set_values(root / "params.yaml", values)
    return selection(root)


def switch(root: Path, profile: str) -> list[str]:
    """`use` without folders, for a build that is asked for a profile; leaves params.yaml as it is if it fits.

    Returns:
        A line for each thing that changed.
    Raises:
        StageError: for an unknown profile.
    """
    before = selection(root)
    if before.profile == profile:
        return []
    after = use(root, profile, {})
    folders = {name: folder for name, folder in after.raw.items() if folder != before.raw.get(name)}
    return [
        f"params.yaml: profile {after.profile} (was {before.profile})",
        *(
            f"params.yaml: raw.{name} {folder} (was {before.raw.get(name)})"
            for name, folder in folders.items()
        ),
    ]


def assert_known(root: Path, profile: str) -> None:
    """Refuse a profile that params.yaml does not have.

    Raises:
        StageError: naming those that it has.
    """
    _assert_known(profile, parse_params(root / "params.yaml"))


def _assert_known(profile: str, tree: Mapping[str, Any]) -> None:
    if profile not in tree["profiles"]:
        raise StageError(f"no profile '{profile}' in params.yaml; there are {', '.join(tree['profiles'])}")


def _raw_folders() -> dict[str, str]:
    """Keys of section `raw` of params.yaml, each with the phantom that stands in for it."""
    return {name: phantom for lane in LANES.values() for name, phantom in lane.raw.items()}


def selection(root: Path) -> Selection:
    """What params.yaml says now."""
    tree = parse_params(root / "params.yaml")
    return Selection(tree["profile"], {name: str(folder) for name, folder in tree.get("raw", {}).items()})


def as_dependency(root: Path, folder: Path) -> str:
    """A path that DVC takes: relative inside the checkout, absolute outside."""
    folder = folder.resolve()
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()

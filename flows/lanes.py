"""What the commands need to know of each lane: its code, its raw folders, its default model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from stages.core.errors import StageError
from stages.core.params import project_root


@dataclass(frozen=True)
class Lane:
    """One lane as the commands see it."""

    name: str
    model: Path
    """folder of the model that `evaluate` and `predict` use by default, relative to the checkout"""
    judge: str = "evaluate"
    """module that judges a model on any raw folder"""
    earlier: tuple[str, ...] = ()
    """candidates that are offered for promotion before the lane's last one, which then has to beat them"""
    extra_raw: Mapping[str, str] = field(default_factory=dict)
    """further keys of section `raw` in params.yaml, each with the phantom that stands in for it"""
    description: Path | None = None
    """of a lane by description: its landmarks, which are data; its code is that of all such lanes"""

    @property
    def phantom(self) -> str:
        """Raw folder that the lane's phantom stage writes."""
        return f"data/raw/{self.name}-phantom"

    @property
    def candidates(self) -> tuple[Path, ...]:
        """In the order in which they are offered for promotion."""
        folder = Path("models") / self.name
        return tuple(folder / name for name in (*self.earlier, "candidate.json"))

    @property
    def raw(self) -> dict[str, str]:
        """Keys of the lane's raw folders in params.yaml, each with the phantom that stands in for it."""
        return {self.name: self.phantom, **self.extra_raw}

    @property
    def candidate(self) -> Path:
        """The one that is offered last."""
        return self.candidates[-1]

    def module(self, stage: str) -> ModuleType:
        """`stages.<lane>.<stage>`, imported on demand: some bring torch along."""
        package = self.name if self.description is None else "custom"
        return importlib.import_module(f"stages.{package}.{stage}")


LANES = {
    "spine": Lane("spine", Path("models/spine/system"), judge="folder"),
    "chest": Lane("chest", Path("models/chest/system"), judge="folder"),
    "ceph": Lane(
        "ceph",
        Path("models/ceph/tuned"),
        judge="folder",
        earlier=("base_candidate.json",),
        extra_raw={"ceph_clinic": "data/raw/ceph-clinic-phantom"},
    ),
    "pose": Lane("pose", Path("models/pose/refiner"), extra_raw={"pose_videos": "data/raw/pose-phantom"}),
}


def described(root: Path) -> dict[str, Lane]:
    """The lanes that `plumbline new-lane` made in a checkout, one for each data/lanes/NAME.json."""
    return {
        path.stem: Lane(path.stem, Path("models") / path.stem / "network", judge="folder", description=path)
        for path in sorted((root / "data" / "lanes").glob("*.json"))
    }


def known_lanes(root: Path | None = None) -> dict[str, Lane]:
    """The lanes of the project and those described in the checkout `root` (default: the one that this code is in)."""
    return {**LANES, **described(root or project_root(Path(__file__).parent))}


def lane(name: str, root: Path | None = None) -> Lane:
    """The lane of this name; see `known_lanes`."""
    known = known_lanes(root)
    if name not in known:
        raise StageError(f"no lane '{name}'; there are {', '.join(known)}")
    return known[name]

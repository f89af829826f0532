"""What the commands need to know of each lane: its code, its raw folders, its default model."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from stages.core.errors import StageError


@dataclass(frozen=True)
class Lane:
    """One lane as the commands see it."""

    name: str
    model: Path
    """folder of the model that `evaluate` and `predict` use by default, relative to the checkout"""
    judge: str = "evaluate"
    """module that judges a model on any raw folder"""

    @property
    def phantom(self) -> str:
        """Raw folder that the lane's phantom stage writes."""
        return f"data/raw/{self.name}-phantom"

    @property
    def candidate(self) -> Path:
        return Path("models") / self.name / "candidate.json"

    def module(self, stage: str) -> ModuleType:
        """`stages.<lane>.<stage>`, imported on demand: some bring torch along."""
        return importlib.import_module(f"stages.{self.name}.{stage}")


LANES = {
    "spine": Lane("spine", Path("models/spine/system"), judge="folder"),
    "chest": Lane("chest", Path("models/chest/system"), judge="folder"),
    "pose": Lane("pose", Path("models/pose/refiner")),
}


def lane(name: str) -> Lane:
    if name not in LANES:
        raise StageError(f"no lane '{name}'; there are {', '.join(LANES)}")
    return LANES[name]

"""`plumbline clean`: remove what nothing needs, in an order in which a kill leaves nothing that points nowhere."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from flows import dag, repro
from flows.disk import DAY, Area, Holding
from flows.disk.checkpoints import TRASH
from flows.disk.inventory import Inventory, inventory
from stages.core import tracking
from stages.core.errors import StageError


@dataclass(frozen=True)
class Wish:
    """What may go.

    Attributes:
        areas: of `Area`; the others are left alone.
        older_than: days that it must not have been touched, or None.
        other_profiles: also what only other profiles and raw folders would be restored from.
    """

    areas: Set[Area]
    older_than: float | None = None
    other_profiles: bool = False


@dataclass(frozen=True)
class Plan:
    """What a clean-up would remove, what it would keep of the same areas, and what it could not look at."""

    going: tuple[Holding, ...]
    kept: tuple[Holding, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(holding.bytes for holding in self.going)


def plan(root: Path, wish: Wish, now: float | None = None) -> Plan:
    """Decide, and change nothing."""
    return _decide(inventory(root), wish, time.time() if now is None else now)


def _decide(found: Inventory, wish: Wish, now: float) -> Plan:
    going, kept = [], []
    for holding in found.holdings:
        if holding.area not in wish.areas:
            continue
        if not holding.paths:
            kept.append(holding)
        elif holding.other_profile and not wish.other_profiles:
            kept.append(replace(holding, why=f"{holding.why} (goes with --other-profiles)"))
        elif wish.older_than is not None and now - holding.touched < wish.older_than * DAY:
            kept.append(replace(holding, why=f"{holding.why} (younger than {wish.older_than:g} days)"))
        else:
            going.append(holding)
    return Plan(tuple(going), tuple(kept), found.notes)


def clean(root: Path, wish: Wish) -> Plan:
    """Remove what `plan` says, while nothing else works in the checkout.

    Returns:
        What was removed.
    Raises:
        StageError: a build, or a DVC at work, holds the checkout.
    """
    with repro.RUNNER.exclusive(root):
        decided = plan(root, wish)
        stated = _stated(root)
        with dag.opened(root) as repo:
            if working := dag.at_work(repo):
                raise StageError(f"DVC is at work here ({', '.join(working)}): wait until it has ended")
            if _stated(root) != stated:
                raise StageError("dvc.lock or params.yaml changed meanwhile: try again")
            _forget_models(root, [model for holding in decided.going for model in holding.models])
            for path in (path for holding in decided.going for path in holding.paths):
                _remove(root, path)
    return decided


def _stated(root: Path) -> list[bytes]:
    """The files that say what the cache is needed for."""
    names = ("dvc.yaml", "dvc.lock", "params.yaml")
    return [(root / name).read_bytes() for name in names if (root / name).is_file()]


def _forget_models(root: Path, models: Sequence[str]) -> None:
    """Delete models in MLflow before their files: files without a model are found by the next clean-up."""
    if models:
        with tracking.connected(root) as client:
            for model in models:
                client.delete_logged_model(model)


def _remove(root: Path, path: Path) -> None:
    """Remove a file, or a folder as a whole: it leaves its place in one step."""
    if path.is_dir() and path.parent != root / TRASH:
        trash = root / TRASH / uuid.uuid4().hex
        trash.parent.mkdir(parents=True, exist_ok=True)
        path = path.rename(trash)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

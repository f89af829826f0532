"""Everything that a checkout keeps, area by area."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import services
from flows.disk import Area, Holding, artifacts, cache, checkpoints, newest, size
from flows.forecast import Forecast, forecast
from flows.registry.log import fold, read_log
from stages.core.errors import StageError
from stages.core.identity import locked_identity, locked_stages
from stages.core.stage import STATE


@dataclass(frozen=True)
class Inventory:
    """Attributes:
    holdings: in reading order.
    notes: what could not be looked at, in words.
    """

    holdings: tuple[Holding, ...]
    notes: tuple[str, ...] = ()


def inventory(root: Path) -> Inventory:
    """Look at everything and change nothing.

    Raises:
        StageError: DVC cannot read the pipeline.
    """
    foretold = forecast(root)
    found: list[Holding] = []
    notes: list[str] = []
    keys = {told.key for told in foretold.values() if told.key}
    keys |= {locked_identity(entry).key for entry in locked_stages(root).values()}
    try:
        cached = cache.read_cache(root, foretold)
        keys |= {run.file.parent.name for run in cached.reachable}
        found += cache.holdings(root, foretold, cached)
    except StageError as error:
        notes.append(str(error))
    found += checkpoints.holdings(root, foretold)
    found += artifacts.holdings(root, wanted=keys)
    return Inventory((*found, *_prefect(root), *_outputs(root, foretold), *_records(root)), tuple(notes))


def _prefect(root: Path) -> Iterator[Holding]:
    folder = root / ".prefect"
    content = sorted(folder.glob("*")) if folder.is_dir() else []
    if not content:
        return
    runs = services.running(root, services.PREFECT)
    why = (
        "its server runs: `plumbline down` first"
        if runs
        else "history of builds in the Prefect UI; nothing else reads it"
    )
    yield Holding(
        Area.PREFECT, "past builds", size(folder), why, () if runs else tuple(content), newest(folder)
    )


def _outputs(root: Path, foretold: Mapping[str, Forecast]) -> Iterator[Holding]:
    """What the stages made, as it lies in the checkout."""
    for name, told in foretold.items():
        for path in told.now.outs:
            if bytes_ := size(root / path):
                yield Holding(
                    Area.OUTPUTS, path, bytes_, f"output of {name}" if told.now.command else "added"
                )


def _records(root: Path) -> Iterator[Holding]:
    """What is kept for good."""
    state = root / STATE
    registered = sum(len(known.versions) for known in fold(read_log(root)).values())
    kept = {
        "registry": f"{registered} registered versions, from which MLflow can be rebuilt",
        "journal": "a record of every run",
        "review": "review events, and what reviewers hold",
        "serving": "what the service remembers",
        "downloads": "models of another checkout's registry",
        "services": "logs of what `plumbline up` started",
    }
    for name, why in kept.items():
        if bytes_ := size(state / name):
            yield Holding(Area.RECORDS, (STATE / name).as_posix(), bytes_, why)

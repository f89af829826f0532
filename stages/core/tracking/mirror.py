"""Bring MLflow up to date with the journal: `sync` as often as one likes, `rebuild` after a loss."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stages.core.tracking.contents import Contents
from stages.core.tracking.journal import Record, read_journal
from stages.core.tracking.locked import locked_records
from stages.core.tracking.runs import StageNotes, known_keys, log_run
from stages.core.tracking.store import TrackingError, connected, set_aside_if_moved, tracking_uri

_log = logging.getLogger("plumbline.tracking")


@dataclass(frozen=True)
class SyncReport:
    """What a sync found and did.

    Attributes:
        uri: the store.
        added: stages whose runs were logged, in order of their start.
        present: number of records that MLflow had already.
        failed: stage, file or store -> what went wrong; the records are tried again by the next sync.
        set_aside: where a database of another checkout was moved to.
    """

    uri: str
    added: tuple[str, ...] = ()
    present: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    set_aside: Path | None = None

    def __str__(self) -> str:
        said = f"MLflow: {len(self.added)} runs added, {self.present} there already"
        if self.failed:
            said += f", {len(self.failed)} failed; `plumbline sync` tries again"
        if self.set_aside is not None:
            said += f"; the database of another folder is now {self.set_aside.name}"
        return said


def sync(root: Path, fresh: str | None = None) -> SyncReport:
    """Log every journal record that MLflow lacks. Idempotent; safe beside other processes.

    Args:
        root: the checkout.
        fresh: key of the stage that calls this from its own process, before DVC has taken in its outputs.
    Raises:
        TrackingError: only with MLFLOW_STRICT=1; otherwise failures are logged as warnings and reported.
    """
    journal = read_journal(root)
    return _mirror(root, journal.records, journal.unreadable, fresh)


def rebuild(root: Path) -> SyncReport:
    """`sync`, and runs from dvc.lock for stages that the journal does not know, tagged `backfilled`.

    For a fresh clone, a wiped database, or a database that was copied here from another folder, which is
    put aside first.
    """
    journal = read_journal(root)
    known = {record.key for record in journal.records}
    missing = [record for record in locked_records(root) if record.key not in known]
    aside = set_aside_if_moved(root)
    report = _mirror(root, (*missing, *journal.records), journal.unreadable, None)
    return SyncReport(report.uri, report.added, report.present, report.failed, aside)


def _mirror(
    root: Path, records: Sequence[Record], unreadable: dict[str, str], fresh: str | None
) -> SyncReport:
    added: list[str] = []
    present, failed = 0, dict(unreadable)
    try:
        if records:
            images, notes = _images_allowed(root), StageNotes(_descriptions(root))
            contents = Contents(root, fresh)
            with connected(root) as client:
                known = known_keys(client)
                present = sum(record.key in known for record in records)
                for record in records:
                    if record.key in known:
                        continue
                    try:
                        shown = images or record.params.get("images") is False
                        log_run(client, contents, record, notes, shown)
                        added.append(record.stage)
                    except Exception as error:  # tracking must not fail a stage, whatever MLflow raises
                        failed[f"{record.stage} ({record.key[:10]})"] = _first_line(error)
    except Exception as error:
        failed[tracking_uri(root)] = _first_line(error)
    _complain(failed)
    return SyncReport(tracking_uri(root), tuple(added), present, failed)


def _complain(failed: dict[str, str]) -> None:
    if not failed:
        return
    listed = "\n".join(f"  {what}: {why}" for what, why in failed.items())
    message = f"MLflow lacks what could not be logged (data and models are not affected):\n{listed}"
    if os.environ.get("MLFLOW_STRICT") == "1":
        raise TrackingError(message)
    _log.warning("WARNING: %s", message)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _images_allowed(root: Path) -> bool:
    """The setting `images` of params.yaml: false keeps films out of MLflow."""
    return bool(_yaml(root / "params.yaml").get("images", True))


def _descriptions(root: Path) -> dict[str, str]:
    stages = _yaml(root / "dvc.yaml").get("stages") or {}
    return {name: (stage.get("do") or stage).get("desc", "") for name, stage in stages.items()}


def _yaml(file: Path) -> dict[str, Any]:
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}

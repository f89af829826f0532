"""From a stage to the MLflow run of its present outputs: by DVC's key, found once and noted.

Finding runs imports MLflow (seconds), and reading dvc.lock as DVC does takes a second with all lanes in it.
A build in which nothing changed does neither: it takes both from `.plumbline/links.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows import services
from stages.core.identity import locked_identity, locked_stages
from stages.core.stage import STATE

NOTE = STATE / "links.json"


@dataclass
class Links:
    """What is known of the present outputs.

    Attributes:
        lock: SHA-256 of the dvc.lock that `keys` came from.
        keys: stage -> DVC key.
        runs: DVC key -> experiment and run in MLflow.
    """

    lock: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    runs: dict[str, tuple[str, str]] = field(default_factory=dict)

    def url(self, stage: str, ui: str | None) -> str | None:
        """Page of the stage's run in the MLflow UI at `ui`."""
        experiment, run = self.runs.get(self.keys.get(stage, ""), ("", ""))
        return f"{ui}/#/experiments/{experiment}/runs/{run}" if ui and run else None


def read(root: Path) -> Links:
    """What is noted, with the keys brought up to date."""
    file, lock = root / NOTE, root / "dvc.lock"
    links = Links(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else Links()
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else ""
    if links.lock != digest:
        keys = {stage: locked_identity(entry).key for stage, entry in locked_stages(root).items()}
        links = Links(digest, keys, links.runs)
        _write(root, links)
    return links


def refresh(root: Path) -> Links:
    """`read`, and the runs as MLflow has them now: for use after MLflow was brought up to date."""
    from stages.core import tracking
    from stages.core.tracking.runs import all_pages
    from stages.core.tracking.store import KEY_TAG

    with tracking.connected(root) as client:
        experiments = [e.experiment_id for e in client.search_experiments()]
        found = all_pages(lambda token: client.search_runs(experiments, max_results=1000, page_token=token))
        known = {run.data.tags[KEY_TAG]: run.info for run in found if KEY_TAG in run.data.tags}
    links = read(root)
    links.runs = {key: (info.experiment_id, info.run_id) for key, info in known.items()}
    _write(root, links)
    return links


def ui_url(root: Path) -> str | None:
    """Where the MLflow UI of this checkout's store is: a server of yours, or the one that `up` started."""
    foreign = os.environ.get("MLFLOW_TRACKING_URI", "")
    if foreign.startswith("http"):
        return foreign.rstrip("/")
    own = services.running(root, services.MLFLOW)
    return own.url if own else None


def _write(root: Path, links: Links) -> None:
    file = root / NOTE
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(links)), encoding="utf-8")
    partial.replace(file)

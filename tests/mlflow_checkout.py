"""A checkout without DVC at work: journal, cache and run-cache as DVC and the harness would leave them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dvc.utils import dict_sha256

from stages.core import tracking


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Checkout:
    """A folder that looks to tracking and registry like a checkout in which stages have run."""

    def __init__(self, root: Path, empty_mlflow: Path | None = None) -> None:
        root.mkdir(parents=True)
        self.root = root
        self.params: dict[str, Any] = {"profile": "demo", "images": True}
        self.stages: dict[str, Any] = {}
        self.locked: dict[str, Any] = {}
        (root / ".dvc").mkdir()
        self.write_settings()
        if empty_mlflow is not None:
            shutil.copyfile(empty_mlflow, root / "mlflow.db")

    def write_settings(self) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params))
        (self.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": self.stages}))

    def store(self, path: str, content: bytes | Mapping[str, bytes]) -> str:
        """Write a file or folder to the checkout and to DVC's cache; returns DVC's hash of it."""
        if isinstance(content, bytes):
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            return self._cache(content)
        shutil.rmtree(self.root / path, ignore_errors=True)
        files = {name: self.store(f"{path}/{name}", body) for name, body in sorted(content.items())}
        listing = json.dumps([{"md5": digest, "relpath": name} for name, digest in files.items()]).encode()
        return self._cache(listing, ".dir")

    def run(
        self,
        stage: str,
        outs: Mapping[str, bytes | Mapping[str, bytes]],
        deps: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        journal: bool = True,
        **record: Any,
    ) -> str:
        """Let a stage have run: outputs, run-cache, dvc.lock and, if asked, the journal; returns its key."""
        deps, params = dict(deps or {}), dict(params or {})
        hashes = {path: self.store(path, content) for path, content in outs.items()}
        identity = {
            "cmd": f"python -m {stage}",
            "deps": [{"path": p, "hash": "md5", "md5": h} for p, h in deps.items()],
            "params": {"params.yaml": params},
        }
        key = dict_sha256(identity | {"outs": list(outs)}, exclude=["size", "nfiles"])
        entry = identity | {"outs": [{"path": p, "hash": "md5", "md5": h} for p, h in hashes.items()]}
        cached = self.root / ".dvc/cache/runs" / key[:2] / key / md5(json.dumps(hashes).encode())
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_text(yaml.safe_dump(entry))
        self.locked[stage] = entry
        lock = {"schema": "2.0", "stages": self.locked}
        (self.root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
        if journal:
            self.note(stage, key, deps=deps, outs=outs, params=params, **record)
        return key

    def note(self, stage: str, key: str, **record: Any) -> Path:
        """Write a journal record as the harness does."""
        deps = [{"path": p, "md5": h} for p, h in record.pop("deps", {}).items()]
        content = {
            "stage": stage,
            "key": key,
            "deps": deps,
            "outs": list(record.pop("outs", ())),
            "started": "2026-03-04T05:06:07+00:00",
            "seconds": 12.5,
            "git_commit": "c0ffee" * 6,
            "git_dirty": False,
            "profile": "demo",
        }
        file = self.root / ".plumbline/journal" / stage / f"{key}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content | record))
        return file

    def runs(self) -> list[Any]:
        """All runs of the store that are not deleted, oldest first."""
        with tracking.connected(self.root) as client:
            experiments = [e.experiment_id for e in client.search_experiments()]
            return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))

    def _cache(self, content: bytes, suffix: str = "") -> str:
        digest = md5(content) + suffix
        file = self.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return digest


def card(lane: str = "toy", dataset: str = "phantom", key: str = "k" * 64) -> bytes:
    """A card.json that `stages.core.model.card` accepts."""
    content = {
        "lane": lane,
        "dataset": dataset,
        "architecture": "mean",
        "key": key,
        "params": {},
        "input": {"height": 8, "width": 4},
        "schema": ["tip", "base"],
        "n_train": 3,
        "split_sha256": "0" * 64,
        "research_use_only": True,
    }
    return json.dumps(content).encode()

"""Files of any version that DVC still holds, found by hash instead of by what now lies in the checkout.

A record may reach MLflow long after its stage ran, when the same path holds another version. DVC's run-cache
says which hashes the outputs of a key had, and DVC's cache holds their bytes.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stages.core.identity import locked_identity, locked_stages
from stages.core.tracking.journal import Record


class Contents:
    """What the outputs and inputs of a record were.

    Args:
        root: the checkout.
        fresh: key of the stage that is running now; its outputs are not yet in DVC's hands and are read from
            the checkout.
    """

    def __init__(self, root: Path, fresh: str | None = None) -> None:
        self.root = root
        self.fresh = fresh

    def inputs(self, record: Record) -> dict[str, dict[str, Path]]:
        """Path of each data input -> its files, as `files` gives them; empty where they are gone."""
        return {d.path: self.files(d.path, d.md5) for d in record.data}

    def outputs(self, record: Record) -> dict[str, dict[str, Path]]:
        """Path of each output -> its files, as `files` gives them; empty where they are gone."""
        if record.key == self.fresh:
            return {path: _folder_files(self.root / path) for path in record.outs}
        hashes = self._output_hashes(record)
        return {path: self.files(path, hashes[path]) if path in hashes else {} for path in record.outs}

    def files(self, path: str, md5: str) -> dict[str, Path]:
        """Name below `path` -> file on disk with that content; the name is "" if `path` is itself a file."""
        stored = self._object(md5)
        if not stored.is_file():
            return self._same_in_checkout(path, md5)
        if not md5.endswith(".dir"):
            return {"": stored}
        listing: list[dict[str, str]] = json.loads(stored.read_bytes())
        files = {entry["relpath"]: self._object(entry["md5"]) for entry in listing}
        return {name: file for name, file in files.items() if file.is_file()}

    @cached_property
    def _cache(self) -> Path:
        """DVC's cache folder: of the settings, else the usual one."""
        from dvc.config import Config

        configured = Config(str(self.root / ".dvc"), validate=False).get("cache", {}).get("dir")
        return Path(configured) if configured else self.root / ".dvc" / "cache"

    @cached_property
    def _locked(self) -> dict[str, Any]:
        return locked_stages(self.root)

    def _object(self, md5: str) -> Path:
        return self._cache / "files" / "md5" / md5[:2] / md5[2:]

    def _output_hashes(self, record: Record) -> dict[str, str]:
        """Output path -> hash, from the newest entry of the run-cache under this key, else from dvc.lock."""
        entries = [f for f in (self._cache / "runs" / record.key[:2] / record.key).glob("*") if f.is_file()]
        if entries:
            newest = max(entries, key=lambda f: f.stat().st_mtime_ns)
            return _hashes(yaml.safe_load(newest.read_text(encoding="utf-8")))
        entry = self._locked.get(record.stage)
        if entry is not None and locked_identity(entry).key == record.key:
            return _hashes(entry)
        return {}

    def _same_in_checkout(self, path: str, md5: str) -> dict[str, Path]:
        """The file at `path` in the checkout, if it has this content: outputs kept in Git are in no cache."""
        file = self.root / path
        if not file.is_file() or md5.endswith(".dir"):
            return {}
        with file.open("rb") as stream:
            same = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5
        return {"": file} if same else {}


def _hashes(entry: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in entry.get("outs", []) if "md5" in out}


def _folder_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {"": path}
    return {f.relative_to(path).as_posix(): f for f in sorted(path.rglob("*")) if f.is_file()}

"""In words, what changed since a stage's last run: parameters by name, files by the commit that changed them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.params import merge

_PROFILES = "profiles"
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """One parameter that has another value; `None` stands for none too."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        if self.before is _ABSENT:
            return f"{self.name} is new: {_short(self.now)}"
        if self.now is _ABSENT:
            return f"{self.name} is gone; it was {_short(self.before)}"
        return f"{self.name} changed from {_short(self.before)} to {_short(self.now)}"


def overlay_of(key: str) -> str | None:
    """The section that a tracked key of a profile is laid over: `spine.refiner` of `profiles.demo.spine.refiner`."""
    return key.split(".", 2)[2] if key.startswith(f"{_PROFILES}.") else None


def profile_of(keys: Iterable[str]) -> str | None:
    """The profile whose overlay a stage's tracked keys name."""
    return next((key.split(".")[1] for key in keys if overlay_of(key)), None)


def parameters(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The parameters of a stage that differ, overlays of a profile laid over their sections.

    Args:
        before, now: tracked key -> value, as dvc.lock and params.yaml have them.
    Returns:
        Differences in the values that the stage reads; where there is none, in the tracked keys themselves:
        another profile with the same values still has another key.
    """
    return list(_differences("", _effective(before), _effective(now))) or [
        Difference(key, before.get(key, _ABSENT), value)
        for key, value in now.items()
        if before.get(key, _ABSENT) != value
    ]


def _effective(tracked: Mapping[str, Any]) -> dict[str, Any]:
    """Key -> value as the stage reads it; `profiles.P.KEY` is laid over `KEY`, if that is tracked too."""
    plain = {key: value for key, value in tracked.items() if not overlay_of(key)}
    for key, value in tracked.items():
        if below := overlay_of(key):
            both = isinstance(value, dict) and isinstance(plain.get(below), dict)
            plain[below] = merge(plain[below], value) if both else value
    return plain


def _differences(name: str, before: Any, now: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(k for k in before if k not in now)]:
            below = f"{name}.{key}" if name else str(key)
            yield from _differences(below, before.get(key, _ABSENT), now.get(key, _ABSENT))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{name}.{place}", one, other)
    elif before is _ABSENT or now is _ABSENT or before != now:
        yield Difference(name, before, now)


def _short(value: Any) -> str:
    said = value if isinstance(value, str) else json.dumps(value, default=str)
    return said if len(said) <= 60 else f"{said[:57]}..."


class History:
    """The versions of code that Git holds, found by the hashes that DVC noted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._md5: dict[str, str] = {}

    def changed_files(self, path: str, md5: str | None) -> list[str]:
        """A line for each file at or below `path` that is not as in the version with this hash.

        Returns:
            Lines in words; a single one about `path` itself where Git knows no such version, or no such path.
        """
        commit = self._commit_of(path, md5) if md5 else None
        if commit is None:
            return [f"{path} changed" + ("" if md5 else ": the last run did not read it")]
        names = self._git("diff", "--name-only", commit, "--", path).split()
        names += self._git("ls-files", "--others", "--exclude-standard", "--", path).split()
        built = self._git("log", "-1", "--format=%h", commit).strip()
        return [f"{name} {self._by(commit, name)} (last run: as of {built})" for name in names]

    def _by(self, commit: str, name: str) -> str:
        if self._git("status", "--porcelain", "--", name):
            return (
                "changed, and the change is not committed" if (self._root / name).exists() else "was removed"
            )
        by = self._git("log", "-1", "--format=%h", f"{commit}..HEAD", "--", name).strip()
        return f"changed by commit {by}" if by else "changed"

    def _commit_of(self, path: str, md5: str) -> str | None:
        """The newest commit in which `path` has this content, among those that touched it."""
        commits = self._git("rev-list", "--max-count=200", "HEAD", "--", path).split()
        return next((commit for commit in commits if self._hash_at(commit, path) == md5), None)

    def _hash_at(self, commit: str, path: str) -> str | None:
        """DVC's hash of a file or folder as of a commit."""
        listed = self._git("ls-tree", "-r", "-z", "--format=%(objectname) %(path)", commit, "--", path)
        blobs = [line.split(" ", 1) for line in listed.split("\0") if line]
        if [name for _, name in blobs] == [path]:
            return self._blob_md5(blobs[0][0])
        files = [
            {"md5": self._blob_md5(blob), "relpath": name.removeprefix(f"{path}/")} for blob, name in blobs
        ]
        listing = json.dumps(sorted(files, key=lambda file: file["relpath"]), sort_keys=True)
        return f"{_md5(listing.encode())}.dir" if files else None

    def _blob_md5(self, blob: str) -> str:
        if blob not in self._md5:
            command = ["git", "-C", str(self._root), "cat-file", "blob", blob]
            self._md5[blob] = _md5(subprocess.run(command, capture_output=True, check=True).stdout)
        return self._md5[blob]

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self._root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def lock(self) -> str:
        """In words, which dvc.lock speaks."""
        commit = self._git("log", "-1", "--format=%h", "--", "dvc.lock").strip()
        if not commit:
            return "dvc.lock, in no commit yet"
        edited = self._git("status", "--porcelain", "--", "dvc.lock")
        return (
            f"dvc.lock as it lies here, newer than that of commit {commit}"
            if edited
            else f"dvc.lock of commit {commit}"
        )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()

"""DVC's own key of a stage: a hash over its command, inputs, parameters and output paths.

The key names the directory of the run in DVC's run-cache, so it links a model card, an MLflow run and a
registry version to exactly the inputs that made them. Uses two private names of DVC (pinned, tested).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import StageError


@dataclass(frozen=True)
class StageIdentity:
    """What DVC knows of a stage's inputs at one moment."""

    key: str
    deps: dict[str, str]
    """path -> content hash (`<md5>` of a file, `<md5>.dir` of a folder)"""
    outs: tuple[str, ...]


class StageInputs:
    """The inputs of a stage as they lie on disk, whenever asked.

    The first look reads the graph; later ones hash only what changed. Safe while DVC runs the stage.
    """

    def __init__(self, root: Path, stage: str) -> None:
        self._root, self._stage = root, stage
        self._graph = b""
        self._loaded: Any = None

    def identity(self) -> StageIdentity:
        """Hash the inputs.

        Raises:
            StageError: naming the inputs that are missing.
        """
        from dvc.dvcfile import ProjectFile
        from dvc.repo import Repo
        from dvc.stage.cache import _get_stage_hash

        remember_params_files()

        # parameters stand in commands and paths too
        graph = b"".join((self._root / name).read_bytes() for name in ("dvc.yaml", "params.yaml"))
        if graph != self._graph:
            with Repo(str(self._root)) as repo:
                project = ProjectFile(repo, str(self._root / "dvc.yaml"))
                project.lockfile_contents = {}  # what was is of no interest, and takes long to parse
                self._loaded, self._graph = project.stages[self._stage], graph
        with self._loaded.repo:
            missing = [d.def_path for d in self._loaded.deps if not d.exists]
            if missing:
                raise StageError(f"stage {self._stage}: inputs are missing: {', '.join(missing)}")
            self._loaded.save_deps()
        return StageIdentity(
            key=str(_get_stage_hash(self._loaded)),
            # parameters are dependencies to DVC too; theirs is a table of values, no content hash
            deps={
                d.def_path: d.hash_info.value for d in self._loaded.deps if isinstance(d.hash_info.value, str)
            },
            outs=tuple(o.def_path for o in self._loaded.outs),
        )


def locked_stages(root: Path) -> dict[str, Any]:
    """The entries of dvc.lock by stage, read as DVC reads them; empty where there is no dvc.lock.

    Not with PyYAML: DVC writes YAML 1.2, where `1e-05` is a number, and PyYAML would read a string.
    """
    from dvc.utils.serialize import load_yaml

    lock = root / "dvc.lock"
    return load_yaml(str(lock)).get("stages", {}) if lock.is_file() else {}


def locked_identity(entry: Mapping[str, Any]) -> StageIdentity:
    """The identity of a stage's run from its entry in dvc.lock: what `StageInputs` said when it ran."""
    from dvc.utils import dict_sha256

    cache = {k: entry[k] for k in ("cmd", "deps", "params") if k in entry}
    cache["outs"] = [out["path"] for out in entry.get("outs", [])]
    return StageIdentity(
        key=str(dict_sha256(cache, exclude=["size", "nfiles"])),
        deps={d["path"]: d["md5"] for d in entry.get("deps", [])},
        outs=tuple(cache["outs"]),
    )


def remember_params_files() -> None:
    """Have the DVC of this process parse a parameter file once as long as it does not change, not once a stage."""
    from dvc.dependency import param

    if not isinstance(param.load_path, _Parsed):
        param.load_path = _Parsed(param.load_path)


class _Parsed:
    """DVC's reader of parameter files, which remembers what it read from files of this disk."""

    def __init__(self, load_path: Any) -> None:
        self._load_path = load_path
        self._known: dict[tuple[str, int, int], Any] = {}

    def __call__(self, path: str, fs: Any, **options: Any) -> Any:
        if getattr(fs, "protocol", None) != "local" or options or not os.path.isfile(path):
            return self._load_path(path, fs, **options)
        state = os.stat(path)
        key = (path, state.st_mtime_ns, state.st_size)
        if key not in self._known:
            self._known = {key: self._load_path(path, fs)}
        return copy.deepcopy(self._known[key])

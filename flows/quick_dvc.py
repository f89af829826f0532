"""DVC's command line with three costs taken out that grow with the number of stages.

DVC parses the whole params.yaml once a stage, and to note one finished stage in dvc.lock it parses and writes
the whole file with a parser that keeps comments, of which a lock has none. Here params.yaml is parsed once as
long as it does not change, a stage's entry takes the place of the old one in the text, and stages do not each
import torch anew (warm.py). What is written is the same, byte for byte, and DVC as it comes
(`python -m dvc`) may be used beside it at any time.

    dvc repro                     # the script of this name in the project's environment calls `main`
    python -m flows.quick_dvc repro
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows import warm
from stages.core.identity import remember_params_files

_LOCK_HEAD = "schema: '2.0'\nstages:\n"


def main(argv: Sequence[str] | None = None) -> int:
    """`dvc ARGV...`; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    install()
    warm.install(one_stage="--single-item" in arguments)
    from dvc.cli import main as dvc

    return int(dvc(arguments))


@functools.cache
def install() -> None:
    """Put both short cuts into the DVC of this process; once is enough."""
    from dvc.dependency import param
    from dvc.dvcfile import Lockfile

    stock_dump = Lockfile.dump_stages

    def dump_stages(self: Any, stages: Sequence[Any], **options: Any) -> None:
        if not _note(self, stages, options):
            stock_dump(self, stages, **options)

    Lockfile.dump_stages = dump_stages
    remember_params_files()
    param.dpath = _DirectPaths(param.dpath)


class _DirectPaths:
    """`dpath` whose `get` follows a path of plain keys instead of comparing it with every path of the tree."""

    def __init__(self, dpath: Any) -> None:
        self._dpath = dpath

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dpath, name)

    def get(self, tree: Any, path: str, separator: str = "/") -> Any:
        node = tree
        for key in path.split(separator):
            if not isinstance(node, dict) or key not in node:
                return self._dpath.get(tree, path, separator=separator)
            node = node[key]
        return node


def _note(lockfile: Any, stages: Sequence[Any], options: dict[str, Any]) -> bool:
    """Write the entries of `stages` into dvc.lock; False where that is left to DVC."""
    from dvc.stage import serialize
    from dvc.utils.serialize import dumps_yaml

    path = Path(lockfile.path)
    if not path.is_file():
        return False
    before = text = path.read_text(encoding="utf-8")
    if not text.startswith(_LOCK_HEAD):
        return False
    for stage in stages:
        entry = serialize.to_lockfile(stage, **options)
        text = replace_entry(text, dumps_yaml({"stages": entry}).removeprefix("stages:\n"))
    if text != before:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
        lockfile.repo.scm_context.track_file(lockfile.relpath)
    return True


def replace_entry(lock: str, entry: str) -> str:
    """The text of dvc.lock with the entry of one stage in place of the old one, or at the end."""
    lines = lock.splitlines(keepends=True)
    key = entry[: entry.index("\n") + 1]
    if key not in lines:
        return lock + entry
    start = lines.index(key)
    following = (i for i in range(start + 1, len(lines)) if not lines[i].startswith("   "))
    end = next(following, len(lines))
    return "".join([*lines[:start], entry, *lines[end:]])


if __name__ == "__main__":
    sys.exit(main())

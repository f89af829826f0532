"""What a stage's code depends on, read from its imports. `python -m flows.deps` prints what dvc.yaml lacks.

DVC does not follow imports: a stage reruns after an edit only if dvc.yaml lists the file or its folder.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.core.params import lookup, parse_params

FRAME = {
    "stages/core/stage.py": "passes paths and parameters on, keeps the journal",
    "stages/core/lifeline.py": "ends a stage together with DVC",
    "stages/core/identity.py": "asks DVC for the key",
    "stages/core/errors.py": "words of messages",
    "stages/core/tracking": "runs after the outputs are written",
}
"""Code that every stage runs through and that shapes no output: an edit there reruns nothing."""


@dataclass(frozen=True)
class CodeDependencies:
    """How one stage's declared code dependencies compare with what it imports."""

    stage: str
    imported: frozenset[str]
    uncovered: frozenset[str]
    idle: frozenset[str]
    """declared, but covering nothing that is imported"""


def read_stages(root: Path) -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml, those that `foreach` repeats written out as `name@key`, in the file's order.

    Of the placeholders only `${key}` and `${item...}` are filled; the others stay as they are written.
    """
    tree = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    params = parse_params(root / "params.yaml")
    stages: dict[str, dict[str, Any]] = {}
    for name, stage in tree["stages"].items():
        if "foreach" not in stage:
            stages[name] = stage
            continue
        for key, item in lookup(params, stage["foreach"].strip("${} ")).items():
            stages[f"{name}@{key}"] = _filled(stage["do"], {"key": key, "item": item})
    return stages


def _filled(node: Any, values: Mapping[str, Any]) -> Any:
    """`node` with each `${path}` whose first part is in `values` replaced in every string."""
    if isinstance(node, dict):
        return {_filled(key, values): _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, values) for value in node]
    if not isinstance(node, str):
        return node
    known = rf"\$\{{((?:{'|'.join(values)})(?:\.\w+)*)\}}"
    return re.sub(known, lambda found: str(lookup(dict(values), found[1])), node)


def stage_modules(root: Path) -> dict[str, str]:
    """stage name -> module that its command runs."""
    modules = {}
    for name, stage in read_stages(root).items():
        words = stage["cmd"].split()
        modules[name] = words[words.index("-m") + 1]
    return modules


def imported_files(root: Path, module: str) -> frozenset[str]:
    """Files of `stages` that a module imports, directly or through others, at its top or inside functions."""
    todo, seen = [_file_of(root, module)], set()
    while todo:
        file = todo.pop()
        if file is None or file in seen or FRAME.keys() & {p.as_posix() for p in (file, *file.parents)}:
            continue
        seen.add(file)
        todo += [_file_of(root, name) for name in _imports(root / file)]
    return frozenset(f.as_posix() for f in seen if (root / f).read_text(encoding="utf-8").strip())


def _imports(file: Path) -> list[str]:
    """Dotted names that a file imports from `stages`; `from a import b` counts as `a` and `a.b`."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith("stages.")]


def _file_of(root: Path, module: str) -> Path | None:
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (root / candidate).is_file():
            return candidate
    return None


def code_dependencies(root: Path) -> list[CodeDependencies]:
    """One entry a stage of dvc.yaml."""
    stages = read_stages(root)
    found = []
    for name, module in stage_modules(root).items():
        imported = imported_files(root, module)
        declared = [d for d in stages[name]["deps"] if d.startswith("stages/")]
        covering = {d: {f for f in imported if f == d or f.startswith(f"{d}/")} for d in declared}
        covered = set().union(*covering.values())
        idle = frozenset(d for d, files in covering.items() if not files)
        found.append(CodeDependencies(name, imported, frozenset(imported - covered), idle))
    return found


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    wrong = [d for d in code_dependencies(root) if d.uncovered or d.idle]
    for dependencies in wrong:
        print(f"{dependencies.stage}:")
        for file in sorted(dependencies.uncovered):
            print(f"  lacks   {file}")
        for file in sorted(dependencies.idle):
            print(f"  needless {file}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Changing single values of params.yaml; every other byte of the file stays as a person wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from stages.core.errors import StageError


def set_values(file: Path, values: Mapping[str, str]) -> bool:
    """Put scalars in place of others; whether that changed anything.

    Args:
        file: a YAML file.
        values: dotted path of a scalar that is there -> its new value.
    Raises:
        StageError: naming every path that leads to no scalar.
    """
    text = file.read_text(encoding="utf-8")
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes = {path: _scalar(tree, path) for path in values}
    if absent := [path for path, node in nodes.items() if node is None]:
        raise StageError(f"{file.name} has no {', '.join(absent)}")
    changed = text
    for path, node in sorted(nodes.items(), key=lambda item: -item[1].start_mark.index if item[1] else 0):
        if node is not None and node.value != values[path]:
            start, end = node.start_mark.index, node.end_mark.index
            changed = changed[:start] + _written(values[path]) + changed[end:]
    if changed == text:
        return False
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(changed, encoding="utf-8")
    partial.replace(file)
    return True


def _scalar(tree: yaml.Node | None, path: str) -> yaml.ScalarNode | None:
    node = tree
    for part in path.split("."):
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == part), None)
    return node if isinstance(node, yaml.ScalarNode) else None


def _written(value: str) -> str:
    """A string as YAML, in quotes where it would read as something else."""
    written: str = yaml.safe_dump(value, width=4096, allow_unicode=True)
    return written.removesuffix("\n").removesuffix("\n...")

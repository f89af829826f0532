"""Typed parameters: one frozen model per stage, filled from params.yaml and the active profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.core.errors import StageError


class StageParams(BaseModel):
    """Parameters of one stage. `section` is its path in params.yaml, for example `spine.train`.

    Fields named like a top-level scalar of params.yaml (`seed`, `threads`, `device`, ...) are filled from
    there; all others from the section. The same section of the active profile is laid over both.

    A stage that dvc.yaml repeats over the entries of a section (`foreach`) names it in `each`, for example
    `chest.phases`. The entry of this run, found by the name of the stage's output, is laid over `section`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    section: ClassVar[str]
    each: ClassVar[str | None] = None


Model = TypeVar("Model", bound=StageParams)


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: here) that holds dvc.yaml."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise StageError(f"no dvc.yaml at or above {here}: run this inside a Plumbline checkout")


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overlay` laid over it, dictionaries merged key by key; neither argument is changed."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def lookup(tree: dict[str, Any], dotted: str) -> Any:
    """The value at a dotted path, or None where the path ends early."""
    node: Any = tree
    for part in dotted.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def parse_params(file: Path) -> dict[str, Any]:
    """The content of params.yaml, by libyaml where PyYAML has it: ten times as fast as the parser in Python."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    tree: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
    return tree


def load_params(
    model: type[Model], file: Path | None = None, profile: str | None = None, item: str | None = None
) -> Model:
    """Fill `model` from params.yaml.

    Args:
        model: a StageParams class.
        file: params.yaml; default is the one at the root of the checkout.
        profile: overrides the file's `profile`.
        item: which entry of `model.each`, where the class has one.
    Raises:
        StageError: naming every unknown, missing or wrong key at once.
    """
    file = file or project_root() / "params.yaml"
    tree = parse_params(file)
    profile = profile or tree["profile"]
    if profile not in tree["profiles"]:
        raise StageError(f"{file.name}: profile '{profile}' is not one of {', '.join(tree['profiles'])}")
    section = lookup(tree, model.section)
    if section is None:
        raise StageError(f"{file.name} has no section '{model.section}'")
    paths = [model.section]
    if model.each is not None:
        entries = lookup(tree, model.each) or {}
        if item not in entries:
            raise StageError(
                f"{file.name}, section '{model.each}', has no '{item}', only {', '.join(entries) or 'nothing'}: "
                "the last part of --output names the entry"
            )
        paths.append(f"{model.each}.{item}")
        section = merge(section, entries[item])
    shared = {k: v for k, v in tree.items() if k in model.model_fields and not isinstance(v, dict)}
    if doubled := sorted(shared.keys() & section.keys()):
        raise StageError(f"{file.name}: {', '.join(doubled)} in '{paths[-1]}' is set at the top level")
    values = merge(shared, section)
    for path in paths:
        values = merge(values, lookup(tree["profiles"][profile], path) or {})
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        named = " and ".join(f"'{path}'" for path in paths)
        raise StageError(f"{file.name}, section {named}:\n" + "\n".join(problems)) from None

"""Blocks of text put into files that people keep, and taken out again byte for byte."""

from __future__ import annotations

from pathlib import Path

from stages.core.errors import StageError


def insert_before(text: str, line: str, block: str, file: Path) -> str:
    """`text` with `block` before the first line that begins with `line`."""
    lines = text.splitlines(keepends=True)
    at = next((i for i, own in enumerate(lines) if own.startswith(line)), None)
    if at is None:
        raise StageError(f"{file} has no line '{line.rstrip()}', before which a new lane would stand")
    return "".join([*lines[:at], block, *lines[at:]])


def append_to_section(text: str, section: str, block: str, file: Path) -> str:
    """`text` with the lines `block` after the last indented line of the top-level `section`."""
    lines = text.splitlines(keepends=True)
    start = next((i for i, own in enumerate(lines) if own.startswith(f"{section}:")), None)
    if start is None:
        raise StageError(f"{file} has no section '{section}'")
    end = start + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    return "".join([*lines[:end], block, *lines[end:]])


def without_block(text: str, first: str, until: tuple[str, ...]) -> str:
    """`text` without the lines from the one that begins with `first` to the next that begins with one of `until`."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        inside = line.startswith(first) or (inside and not line.startswith(until))
        if not inside:
            kept.append(line)
    return "".join(kept)


def without_section(text: str, section: str) -> str:
    """The text of params.yaml without a top-level section and the empty lines behind it."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        inside = line.startswith(f"{section}:") or (inside and line.startswith((" ", "\n")))
        if not inside:
            kept.append(line)
    return "".join(kept)


def without_keys(text: str, section: str, keys: tuple[str, ...]) -> str:
    """The text of params.yaml without some keys of a top-level section."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if not line.startswith((" ", "\n")):
            inside = line.startswith(f"{section}:")
        if not (inside and line.startswith(tuple(f"  {key}:" for key in keys))):
            kept.append(line)
    return "".join(kept)


def without_lines(text: str, *lines: str) -> str:
    """`text` without the lines that are one of `lines`."""
    return "".join(line for line in text.splitlines(keepends=True) if line not in lines)


def without_entries(lock: str, prefix: str) -> str:
    """The text of dvc.lock without the entries of the stages whose names begin with `prefix`."""
    kept: list[str] = []
    inside = False
    for line in lock.splitlines(keepends=True):
        if not line.startswith("   "):
            inside = line.startswith(f"  {prefix}")
        if not inside:
            kept.append(line)
    return "".join(kept)


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; one that would be empty goes."""
    if not text:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)

"""Films of equal bytes, found before any is taken in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.ceph.raw.layout import Problem


def find_copies(films: Mapping[str, Path], pseudonyms: Mapping[str, str]) -> dict[str, Problem]:
    """All films but the last by name of those with equal bytes: they could lie in different roles.

    The last is kept because ISBI 2015 has training films that are there again among the higher numbers, which
    are tested: 038 is 283, and 144 is 173.
    """
    last: dict[str, str] = {}
    copies = {}
    for name in sorted(films, reverse=True):
        try:
            digest = hashlib.sha256(films[name].read_bytes()).hexdigest()
        except OSError:
            continue
        if last.setdefault(digest, name) != name:
            copies[name] = Problem("copied_film", f"the same file as {pseudonyms[last[digest]]}")
    return copies

"""verdict.json of ceph-compare, as later stages read it."""

from __future__ import annotations

import json
from pathlib import Path

from stages.core.errors import StageError


def read_verdict(path: Path) -> tuple[str, tuple[str, ...]]:
    """The word of ceph-compare on the tuned model, and what it holds against it: nothing where it may be promoted.

    Raises:
        StageError: the file is no verdict.
    """
    if not path.is_file():
        raise StageError(f"{path} does not exist: run `dvc repro` for ceph-compare")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["verdict"]), tuple(str(reason) for reason in found["reasons"])
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f'{path}: expected {{"verdict": "...", "reasons": [...]}}, found something else ({error!r})'
        ) from None

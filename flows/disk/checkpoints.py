"""What killed runs left: progress that a rerun goes on from, and progress that nobody will ask for any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.disk import Area, Holding, newest, size
from flows.forecast import Forecast, Verdict
from stages.core.stage import STATE

TRASH = STATE / "trash"


def holdings(root: Path, foretold: Mapping[str, Forecast]) -> Iterator[Holding]:
    """Folders of unfinished stages, and halves of files that a kill left.

    Args:
        root: the checkout.
        foretold: what `forecast` says of it.
    """
    for folder in sorted((root / STATE / "scratch").glob("*")):
        why, kept, other = _judge(root, folder.name, foretold)
        yield Holding(
            area=Area.CHECKPOINTS,
            what=f"progress of {folder.name.rpartition('-')[0] or folder.name}",
            bytes=size(folder),
            why=why,
            paths=() if kept else (folder,),
            touched=newest(folder),
            other_profile=other,
        )
    state = root / STATE
    for path in sorted([*state.glob("registry/*/*.partial"), *state.glob("journal/*/*.partial")]):
        name = path.relative_to(root).as_posix()
        yield Holding(Area.CHECKPOINTS, name, size(path), "half of a file", (path,), newest(path))
    if left := sorted((root / TRASH).glob("*")):
        yield Holding(
            Area.CHECKPOINTS, "an interrupted clean-up", size(root / TRASH), "on its way out", tuple(left)
        )


def _judge(root: Path, name: str, foretold: Mapping[str, Forecast]) -> tuple[str, bool, bool]:
    """Why, whether it is kept, whether another profile may want it."""
    stage, _, key = name.rpartition("-")
    if stage not in foretold or len(key) != 16:
        return "no stage of this name: another branch's, or a command's", False, True
    if any((root / STATE / "journal" / stage).glob(f"{key}*.json")):
        return "that run ended", False, False
    told = foretold[stage]
    if told.key is None:
        return f"{stage} may go on from it: what it reads is not known yet", True, False
    if told.key.startswith(key) and told.verdict is not Verdict.UNCHANGED:
        return f"the next run of {stage} goes on from it", True, False
    return "other inputs or parameters than those of now: another profile's, or earlier ones", False, True

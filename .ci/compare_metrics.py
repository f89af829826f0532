"""Compare the metrics of the build with the committed ones.

Stages without training must give equal numbers on every CPU. Trained ones (and what follows from them) may
differ between kinds of CPU, whose sums round differently: by a quarter of the value, or of a pixel.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TRAINED = ("train", "evaluate", "report", "candidate", "floors")
RELATIVE, ABSOLUTE = 0.25, 0.25


def committed(path: Path) -> dict[str, float | None]:
    shown = subprocess.run(
        ["git", "show", f"HEAD:{path.as_posix()}"], capture_output=True, text=True, check=True
    )
    return dict(json.loads(shown.stdout))


def differs(name: str, before: float | None, after: float | None, trained: bool) -> bool:
    if before is None or after is None:
        return before is not after
    bound = max(ABSOLUTE, RELATIVE * abs(before)) if trained else 1e-4 * max(1.0, abs(before))
    return abs(after - before) > bound


def main() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "reports/*/*.json"], capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in listed.stdout.splitlines()]
    if not paths:
        sys.exit("no metrics are committed under reports/")
    wrong, compared = [], 0
    for path in paths:
        before, after = committed(path), json.loads(path.read_text(encoding="utf-8"))
        if before.keys() != after.keys():
            wrong.append(f"{path}: names differ: {sorted(before.keys() ^ after.keys())}")
        for name in before.keys() & after.keys():
            compared += 1
            if differs(name, before[name], after[name], path.stem in TRAINED):
                wrong.append(f"{path}: {name} was {before[name]}, is {after[name]}")
    print(f"{compared} metrics of {len(paths)} files compared")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()

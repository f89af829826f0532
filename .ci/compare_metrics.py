"""Compare the metrics of the build with the committed ones.

Stages without training must give equal numbers on every CPU. Where networks were trained, sums that round
differently on another kind of CPU grow into other networks: there the mean errors may differ by a quarter of
their value or of a pixel, and counts, choices and extremes are only asked for by name.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

TRAINED = (
    "candidate",
    "corrector",
    "detector",
    "errors",
    "evaluate",
    "floors",
    "folds",
    "refiner",
    "report",
    "system",
    "train",
)
MEANS = re.compile(
    r"(n_films|n_train|n_parameters|(.*_)?(mre_raw_px(_loop)?(@\d+)?|mean_px224|sim_mean_abs_dz_cm|sim_mpjpe_mm)(_input)?|error_raw_px@0|val_error_\w+)"
)
"""names of the metrics that are compared where networks were trained"""
RELATIVE, ABSOLUTE = 0.25, 0.25


def committed(path: Path) -> dict[str, float | None]:
    shown = subprocess.run(
        ["git", "show", f"HEAD:{path.as_posix()}"], capture_output=True, text=True, check=True
    )
    return dict(json.loads(shown.stdout))


def differs(name: str, before: float | None, after: float | None, trained: bool) -> bool:
    if trained and not MEANS.fullmatch(name):
        return False
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

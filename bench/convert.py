"""Conversion of films on one process and on several, which have to give the same bytes.

    python -m bench.convert [--raw DIR] [--films 60] [--workers 2] [--repeats 3]

Without --raw (a folder in the AASCE layout) it draws phantom films of the real size first. One run that does
not count warms the machine up; then both sides run in turn, and the table shows the run of median time of
each. Exit status 1 where the ratio is below what the project promises for two processes, or the bytes differ.

CPU seconds tell a slow conversion from a busy machine: a process that has its core to itself uses about as
many of them as pass on the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from stages.core.data.pool import worker_count
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine import convert, phantom
from stages.spine.layout import list_films

PROMISED = 1.8
"""times faster on two processes than on one"""
IDLE = 0.8
"""share of its cores' time that a conversion gets on a machine with nothing else to do, at least"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--raw", type=Path, help="films in the AASCE layout; default: phantoms of the real size"
    )
    parser.add_argument("--films", type=int, default=60, help="phantoms to draw")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(_compare(arguments, Path(folder)))


@dataclass(frozen=True)
class Cost:
    """Seconds that a conversion took, and CPU seconds of this process and of its workers."""

    wall: float
    here: float
    workers: float

    @property
    def cpu(self) -> float:
        return self.here + self.workers


def _compare(arguments: argparse.Namespace, folder: Path) -> int:
    raw = arguments.raw or _draw(folder / "raw", arguments.films)
    count = len(list_films(raw))
    if worker_count(0, count) < arguments.workers:
        print(f"only {worker_count(0, count)} cores: the ratio cannot show anything", file=sys.stderr)
    costs: dict[int, list[Cost]] = {1: [], arguments.workers: []}
    digests = {_convert(raw, folder / "warm-up", 1)[1]}
    for repeat in range(arguments.repeats):
        for workers in costs:
            cost, digest = _convert(raw, folder / f"{repeat}-{workers}", workers)
            costs[workers].append(cost)
            digests.add(digest)
    middle = {workers: _median(taken) for workers, taken in costs.items()}
    for workers, cost in middle.items():
        print(
            f"{workers:3} process(es) {cost.wall:7.2f} s {count / cost.wall:7.1f} films/s; CPU "
            f"{cost.here:.2f} s here, {cost.workers:.2f} s in workers"
        )
    one, several = middle[1], middle[arguments.workers]
    ratio = one.wall / several.wall
    same = "equal" if len(digests) == 1 else "DIFFERENT"
    print(f"ratio {ratio:.2f} (promised for two: {PROMISED}); bytes {same}")
    limit = one.cpu / (several.here + several.workers / arguments.workers)
    print(
        f"by CPU seconds {arguments.workers} free cores would give {limit:.2f}, with what is done here in series"
    )
    for workers, cost in middle.items():
        if cost.cpu < IDLE * cost.wall * workers:
            print(
                f"with {workers} process(es) the cores were not free: the ratio says little", file=sys.stderr
            )
    return int(len(digests) != 1 or (arguments.workers == 2 and ratio < PROMISED))


def _convert(raw: Path, folder: Path, workers: int) -> tuple[Cost, str]:
    """What one conversion costs, and a hash of its output."""
    params = load_params(convert.Params).model_copy(update={"workers": workers})
    output = folder / "data" / "spine" / "films"
    before, start = os.times(), time.perf_counter()
    convert.run(params, raw, output, Observer.quiet(folder / "scratch"))
    wall, after = time.perf_counter() - start, os.times()
    spent = [b - a for a, b in zip(before[:4], after[:4], strict=True)]
    digest = _digest(output)
    shutil.rmtree(folder)
    return Cost(wall, spent[0] + spent[1], spent[2] + spent[3]), digest


def _median(costs: list[Cost]) -> Cost:
    return sorted(costs, key=lambda cost: cost.wall)[len(costs) // 2]


def _draw(raw: Path, films: int) -> Path:
    """Phantom films as large as those of AASCE."""
    demo = load_params(phantom.Params).model_dump()
    demo |= {"films": films, "patients": films, "defects": {}}
    demo["rows"]["median"] = 2360
    phantom.run(phantom.Params.model_validate(demo), raw, Observer.quiet(raw.parent / "drawing"))
    return raw


def _digest(folder: Path) -> str:
    """One hash of all files of a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()

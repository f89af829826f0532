"""Conversion of films on one process and on several, which have to give the same bytes.

    python -m bench.convert [--raw DIR] [--films 60] [--workers 2] [--repeats 3]

Without --raw (a folder in the AASCE layout) it draws phantom films of the real size first. Both sides run in
turn, so that a busy machine slows both alike; the table shows the median time of each. Exit status 1 where
the ratio is below what the project promises for two processes, or the bytes differ.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

from stages.core.data.pool import worker_count
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine import convert, phantom
from stages.spine.layout import list_films

PROMISED = 1.8
"""times faster on two processes than on one"""


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


def _compare(arguments: argparse.Namespace, folder: Path) -> int:
    raw = arguments.raw or _draw(folder / "raw", arguments.films)
    count = len(list_films(raw))
    if worker_count(0, count) < arguments.workers:
        print(f"only {worker_count(0, count)} cores: the ratio cannot show anything", file=sys.stderr)
    seconds: dict[int, list[float]] = {1: [], arguments.workers: []}
    digests = set()
    for repeat in range(arguments.repeats):
        for workers, times in seconds.items():
            work = folder / f"{repeat}-{workers}"
            start = time.perf_counter()
            params = load_params(convert.Params).model_copy(update={"workers": workers})
            convert.run(params, raw, work / "data" / "spine" / "films", Observer.quiet(work / "scratch"))
            times.append(time.perf_counter() - start)
            digests.add(_digest(work / "data" / "spine" / "films"))
    for workers, times in seconds.items():
        middle = statistics.median(times)
        print(f"{workers:3} process(es) {middle:7.2f} s {count / middle:7.1f} films/s")
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[arguments.workers])
    same = "equal" if len(digests) == 1 else "DIFFERENT"
    print(f"ratio {ratio:.2f} (promised for two: {PROMISED}); bytes {same}")
    return int(len(digests) != 1 or (arguments.workers == 2 and ratio < PROMISED))


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

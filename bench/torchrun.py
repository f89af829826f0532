"""A Refiner trained by one process, and by two that share each batch under torchrun, on CPUs.

    python -m bench.torchrun [--seeds 20 21 22] [--epochs 6] [--processes 2]

Needs `dvc repro spine-pairs` to have run. Both sides see the same films in the same batches (the batch of a
plan is the global one). Their results are not equal: each process draws its own augmentations and hints,
batch norm sees a process's piece of a batch, and sums are taken in another order. So the table has a row a seed, and
the spread over seeds to hold the difference against. Exit status 1 where the mean differs by over 1 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from stages.core.params import parse_params, project_root

PROMISED = 0.01
"""difference of the mean metric, as a share of one process's"""
METRIC = "val_error_raw_px"
STAGE = [
    *("-m", "stages.spine.refiner", "--films", "data/spine/films", "--audit", "data/spine/audit"),
    *("--split", "data/spine/split.parquet", "--pairs", "data/spine/pairs.json"),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--epochs", type=int, help="of each phase; default: the profile's")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    print("seed  one process  seconds  torchrun  seconds  difference", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            one, alone = train(Path(folder) / f"{seed}-1", seed, 1, arguments.epochs)
            many, together = train(Path(folder) / f"{seed}-n", seed, arguments.processes, arguments.epochs)
            rows.append((one, many))
            print(
                f"{seed:4}  {one:11.3f}  {alone:7.0f}  {many:8.3f}  {together:7.0f}  {many / one - 1:+.2%}",
                flush=True,
            )
    one, many = np.mean(rows, axis=0)
    spread = np.std([row[0] for row in rows], ddof=1) / one if len(rows) > 1 else float("nan")
    print(
        f"mean {METRIC}: {one:.3f} and {many:.3f}, {many / one - 1:+.2%}; deviation over seeds {spread:.2%}"
    )
    sys.exit(int(abs(many / one - 1) > PROMISED))


def train(folder: Path, seed: int, processes: int, epochs: int | None) -> tuple[float, float]:
    """The metric of a Refiner, and the seconds that its training took."""
    root = project_root()
    params = parse_params(root / "params.yaml")
    params |= {"seed": seed, "threads": 1, "device": "cpu", "world_size": processes}
    if epochs is not None:
        for section in (params, params["profiles"][params["profile"]]):
            for phase in section["spine"]["refiner"].get("fit", {}).get("phases", []):
                phase["epochs"] = epochs
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    metrics = folder / "metrics.json"
    command = [sys.executable, *(launcher if processes > 1 else []), *STAGE]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--output", folder / "model", "--metrics", metrics],
        cwd=root,
        env=os.environ | {"DVC_ROOT": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return float(json.loads(metrics.read_text(encoding="utf-8"))[METRIC]), time.monotonic() - started


if __name__ == "__main__":
    main()

"""Latency of the service on loopback, before, during and after a swap of the champion.

    python -m bench.serving [--lane chest] [--clients 2] [--seconds 5]

A copy of the lane's built model is registered twice in a scratch checkout, under two keys; a service of its own process
follows the alias. Clients post generated films all the time. After some seconds the second version is promoted, which
the service loads, warms up and checks beside the first; `during` begins with the promotion and ends with the first
request that the second version answered. Exit status 1 where an answer failed or names a version that did not give it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, PngImagePlugin

from flows.lanes import lane
from flows.registry.log import append, event, locked
from flows.registry.shelf import shelve
from flows.serving.settings import ServingParams
from stages.core.data.decode import PHANTOM_MARK
from stages.core.errors import StageError
from stages.core.model.card import folder_digest
from stages.core.params import load_params, project_root
from stages.core.promotion.candidate import read_candidate

_PATIENCE_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lane", default="chest")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    root = project_root()
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        keys = make_checkout(Path(scratch), root, arguments.lane)
        promote(Path(scratch), keys, 1)
        process, url = start(Path(scratch), arguments.lane)
        try:
            answers, promoted = post_all_the_time(Path(scratch), url, keys, arguments)
        finally:
            process.terminate()
            process.wait(30)
    report(answers, promoted, keys)


def make_checkout(scratch: Path, root: Path, name: str) -> list[str]:
    """A checkout with two versions of one model on its shelf; returns their keys."""
    folder = root / lane(name).model
    candidate = read_candidate(root / lane(name).candidate)
    params = load_params(ServingParams, root / "params.yaml").model_dump(mode="json") | {"poll_s": 0.5}
    written = {"profile": "demo", "profiles": {"demo": {}}, "serving": params}
    (scratch / "params.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    (scratch / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    keys = ["a" * 64, "b" * 64]
    for version, key in enumerate(keys, start=1):
        model = scratch / f"{version}" / folder.name
        shutil.copytree(folder, model)
        card = json.loads((model / "card.json").read_text(encoding="utf-8")) | {"key": key}
        (model / "card.json").write_text(json.dumps(card), encoding="utf-8")
        digest = folder_digest(model)
        shelve(scratch, candidate.model_copy(update={"key": key, "model_sha256": digest}), model)
        with locked(scratch):
            told = {"name": candidate.registry_name, "key": key, "version": version, "model_sha256": digest}
            append(scratch, event("registered", **told))
    shutil.copy(root / lane(name).candidate, scratch / "candidate.json")
    return keys


def promote(scratch: Path, keys: list[str], version: int) -> None:
    name = read_candidate(scratch / "candidate.json").registry_name
    with locked(scratch):
        append(scratch, event("promoted", name=name, key=keys[version - 1], version=version, target=version))


def start(scratch: Path, name: str) -> tuple[subprocess.Popen[str], str]:
    """The service in a process of its own; its URL once it is ready."""
    code = "import sys, pathlib; from flows.serving.launch import serve; "
    code += "serve(pathlib.Path(sys.argv[1]), [sys.argv[2]], port=0)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(scratch), name],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    found = re.match(r"http://\S+", process.stdout.readline())
    if found is None:
        raise StageError("the service did not start")
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"{found[0]}/health"):
                return process, found[0]
        except OSError as error:
            if time.monotonic() > deadline:
                process.terminate()
                raise StageError(f"the service did not become ready: {error}") from None
            time.sleep(0.2)


def post_all_the_time(
    scratch: Path, url: str, keys: list[str], arguments: argparse.Namespace
) -> tuple[list[tuple[float, float, int, str]], float]:
    """(start, seconds, version, key) of every answer, version 0 for a failure; and when version 2 was promoted."""
    answers: list[tuple[float, float, int, str]] = []
    stop = threading.Event()

    def client(number: int) -> None:
        films = [film(scratch, 10 * number + n) for n in range(4)]
        turn = 0
        while not stop.is_set():
            request = urllib.request.Request(
                f"{url}/predict/{arguments.lane}", films[turn % len(films)], {"content-type": "image/png"}
            )
            turn += 1
            start = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    model = json.load(response)["model"]
                answers.append((start, time.monotonic() - start, model["version"], model["model_key"]))
            except OSError as error:
                print(error, flush=True)
                answers.append((start, time.monotonic() - start, 0, ""))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(arguments.clients)]
    for thread in threads:
        thread.start()
    time.sleep(arguments.seconds)
    promoted = time.monotonic()
    promote(scratch, keys, 2)
    while time.monotonic() < promoted + _PATIENCE_S and not any(version == 2 for *_, version, _ in answers):
        time.sleep(0.05)
    time.sleep(arguments.seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sorted(answers), promoted


def film(scratch: Path, seed: int) -> bytes:
    """A PNG of 299 x 299 noise, marked as generated."""
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", PHANTOM_MARK)
    path = scratch / f"film{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 255, (299, 299), np.uint8)
    Image.fromarray(pixels).save(path, pnginfo=note)
    return path.read_bytes()


def report(answers: list[tuple[float, float, int, str]], promoted: float, keys: list[str]) -> None:
    """Print a row for each stretch; exit with 1 where an answer failed or is mislabelled."""
    swapped = min((start for start, _, version, _ in answers if version == 2), default=float("inf"))
    stretches = {
        "before": [a for a in answers if a[0] < promoted],
        "during": [a for a in answers if promoted <= a[0] < swapped],
        "after": [a for a in answers if a[0] >= swapped],
    }
    print(f"{'':8}{'films':>7}{'p50, ms':>10}{'p95, ms':>10}{'most, ms':>10}{'versions':>10}")
    for name, rows in stretches.items():
        if rows:
            p50, p95, most = np.percentile([1000 * row[1] for row in rows], [50, 95, 100])
            versions = ", ".join(map(str, sorted({row[2] for row in rows})))
            print(f"{name:8}{len(rows):>7}{p50:>10.1f}{p95:>10.1f}{most:>10.1f}{versions:>10}")
    print(f"swap: {swapped - promoted:.1f} s from promotion to the first answer of version 2")
    failed = sum(row[2] == 0 for row in answers)
    mislabelled = sum(row[2] > 0 and row[3] != keys[row[2] - 1] for row in answers)
    print(f"failed {failed}, mislabelled {mislabelled} of {len(answers)}")
    if failed or mislabelled or swapped == float("inf"):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""`mlflow models serve` on each lane's champion: whether its answers are those of `plumbline predict`.

    python -m bench.bundles [LANE ...]

Needs a build and its registry (`make repro`). A server of its own process answers a request that came with the model
(its serving example), then phantoms by content and one by path with hints where the lane takes them, among them a file
that is no film. Exit status 1 where an answer differs from the lane's own prediction of the same file.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from flows.lanes import LANES, Lane
from flows.processes import end
from flows.registry import resolve_model
from flows.serving.source import reads_films
from stages.core.model.card import load_card
from stages.core.params import project_root
from stages.core.tracking import tracking_uri
from stages.core.tracking.example import input_example

HINT = "L4 TL=100,300"
_PATIENCE_S = 180.0
_N_FILMS = 2
_BESIDE = {"file", "overlay", "poses", "angles", "markers", "angles_page", "motion_page"}
"""what `predict` says of files that it writes"""


@contextmanager
def served(root: Path, model: str) -> Iterator[str]:
    """The URL of a server of a model (`models:/chest-phantom@champion`) in the checkout's MLflow."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        model,
        "--env-manager",
        "local",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Outside the checkout: the model answers with the code that it brought along.
    with tempfile.TemporaryDirectory(prefix="plumbline-") as elsewhere:
        log = Path(elsewhere) / "log"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"MLFLOW_TRACKING_URI": tracking_uri(root), "DO_NOT_TRACK": "true"}
        with log.open("w") as stream:
            process = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=stream, stderr=stream)
        try:
            _wait(process, f"http://127.0.0.1:{port}/ping", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                end([psutil.Process(process.pid)], grace=10)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)


def ask(url: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that a server answers; each with its `answer` read from JSON."""
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/invocations", body, headers)) as reply:
        rows = json.load(reply)["predictions"]
    return [{**row, "answer": json.loads(row["answer"])} for row in rows]


def by_content(*contents: bytes) -> dict[str, Any]:
    """A request with one row a file."""
    return {"dataframe_records": [{"content": base64.b64encode(content).decode()} for content in contents]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lanes", nargs="*", default=list(LANES), metavar="LANE")
    root, differing = project_root(), 0
    for name in parser.parse_args().lanes:
        differing += _compare(root, LANES[name])
    raise SystemExit(1 if differing else 0)


def _compare(root: Path, lane: Lane) -> int:
    registered = f"{lane.name}-phantom@champion"
    model = resolve_model(registered, root)
    size = load_card(model).input
    example = input_example(None if size is None else size.model_dump())["content"][0]
    contents = [example, *(file.read_bytes() for file in _phantoms(root, lane))]
    begun = time.perf_counter()
    with served(root, f"models:/{registered}") as url:
        up = time.perf_counter() - begun
        rows = ask(url, by_content(*contents, b"no film"))
        took = [_timed(url, by_content(contents[-1])) for _ in range(5)]
        told = _with_hint(root, lane, url) if lane.name == "spine" else []
    expected = [*_predicted(model, lane, contents), *(answer for _, answer in told)]
    answers = [row["answer"] for row in rows[:-1]] + [answer for answer, _ in told]
    same = sum(_plain(answer) == _plain(wanted) for answer, wanted in zip(answers, expected, strict=True))
    refused = rows[-1]["answer"]["error"]["reason"]
    print(
        f"{registered:24} up in {up:4.1f} s   {same} of {len(answers)} answers as predicted   no film: {refused}"
        f"   a film in {1000 * min(took):.0f} ms"
    )
    return len(answers) - same


def _phantoms(root: Path, lane: Lane) -> list[Path]:
    if not reads_films(lane.name):
        return []
    files = sorted(
        f for f in (root / lane.phantom).rglob("*") if f.suffix in (".jpg", ".png") and f.is_file()
    )
    return files[:_N_FILMS]


def _predicted(model: Path, lane: Lane, contents: list[bytes]) -> list[dict[str, Any]]:
    suffix = "" if reads_films(lane.name) else ".npz"
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        files = [Path(scratch) / f"{i}{suffix}" for i in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        answers: list[dict[str, Any]] = lane.module("predict").predict_files(
            model, files, Path(scratch) / "out"
        )
    return answers


def _with_hint(root: Path, lane: Lane, url: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the server and the lane say of a film with a hint."""
    film = _phantoms(root, lane)[0]
    (row,) = ask(url, {"dataframe_records": [{"path": str(film), "hints": HINT}]})
    model = resolve_model(f"{lane.name}-phantom@champion", root)
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        (wanted,) = lane.module("predict").predict_files(model, [film], Path(scratch), hints=[HINT])
    return [(row["answer"], wanted)]


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in _BESIDE}


def _timed(url: str, request: dict[str, Any]) -> float:
    begun = time.perf_counter()
    ask(url, request)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

"""A scratch checkout that is built, killed and looked at: what `bench.kills` needs to know of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows import dag
from stages.core import tracking
from stages.core.identity import locked_stages
from stages.core.tracking.store import KEY_TAG

SOURCES = Path(__file__).resolve().parents[1]
OUTPUTS = ("out", "models", "reports")
PATIENCE_S = 240.0


class ViolationError(Exception):
    """What a kill must not leave behind. The message says what was found."""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's value as soon as it holds.

    Raises:
        ViolationError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise ViolationError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)
    return value


def make_template(root: Path) -> None:
    """The slow pipeline in a Git repository of its own, with an empty MLflow database and nothing built."""
    shutil.copytree(SOURCES / "bench/slow_pipeline", root, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".dvcignore", "prefect.yaml"):
        shutil.copy(SOURCES / name, root / name)
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-C", str(root)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
    shutil.copy(SOURCES / ".dvc" / "config", root / ".dvc" / "config")
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "slow pipeline"], check=True)
    tracking.prepare(root)


@dataclass(frozen=True)
class Scratch:
    """One checkout, and the Prefect server that it uses."""

    root: Path
    api: str
    home: Path
    """Prefect's folder"""

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        own = {"PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.home), "PATH": path}
        own |= {"PYTHONPATH": str(SOURCES), "PLUMBLINE_GPU_LOCK": str(self.root.parent / "gpu.lock")}
        dropped = ("PLUMBLINE_TRACK", "MLFLOW_TRACKING_URI")
        return {name: value for name, value in os.environ.items() if name not in dropped} | own

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """`python -m COMMAND` in the checkout, its output at the end of a log."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Post to Prefect's API; a database that is busy for a moment is asked again."""
        request = urllib.request.Request(
            f"{self.api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, None):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.URLError as error:
                if pause is None or (isinstance(error, urllib.error.HTTPError) and error.code != 503):
                    raise
                time.sleep(pause)
        raise AssertionError

    def processes(self, *words: str) -> list[psutil.Process]:
        """Living processes that work in this checkout and have one of the words in their command line."""
        return list(self._processes(words))

    def _processes(self, words: tuple[str, ...]) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if process.cwd() != str(self.root) or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                line = " ".join(process.cmdline())
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if not words or any(word in line for word in words):
                yield process

    def outputs(self) -> dict[str, str]:
        """Path of every output file -> SHA-256."""
        files = [f for folder in OUTPUTS for f in (self.root / folder).rglob("*") if f.is_file()]
        return {
            f.relative_to(self.root).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in files
            if f.name != ".gitignore"
        }

    def assert_quiet(self, seconds: float = 30.0) -> None:
        """All processes of the checkout end within `seconds`."""
        try:
            until(lambda: not self.processes(), seconds, "the end of all processes")
        except ViolationError as error:
            left = [" ".join(p.cmdline()[-4:]) for p in self.processes()]
            raise ViolationError(f"orphans: {left}") from error

    def assert_whole(self, expected: dict[str, str]) -> None:
        """Equal bytes, no lock in the way of a plain `dvc`, one MLflow run a stage, one registry version.

        Raises:
            ViolationError: naming what differs.
        """
        if (found := self.outputs()) != expected:
            differing = {k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)}
            raise ViolationError(f"other bytes: {', '.join(sorted(differing))}")
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or "Running stage" in done.stdout or "cached" in done.stdout:
            raise ViolationError(
                f"dvc repro: status {done.returncode}: {(done.stderr or done.stdout)[-300:]}"
            )
        if healed := dag.heal(self.root):
            raise ViolationError(f"left to repair: {healed}")
        self._assert_told_once()

    def _assert_told_once(self) -> None:
        stages = set(locked_stages(self.root))
        with tracking.connected(self.root) as client:
            experiments = [e.experiment_id for e in client.search_experiments()]
            runs = client.search_runs(experiments, max_results=1000)
            versions = [int(v.version) for v in client.search_model_versions("name = 'spine-phantom'")]
            aliases = {
                alias: int(v) for alias, v in client.get_registered_model("spine-phantom").aliases.items()
            }
        told = Counter(run.info.run_name for run in runs)
        if set(told) != stages or max(told.values()) > 1:
            raise ViolationError(f"MLflow runs {dict(told)} for the stages {sorted(stages)}")
        if len({run.data.tags[KEY_TAG] for run in runs}) != len(stages):
            raise ViolationError("two MLflow runs have the same key")
        if unfinished := [run.info.run_name for run in runs if run.info.status != "FINISHED"]:
            raise ViolationError(f"MLflow runs that were not finished: {unfinished}")
        if (versions, aliases) != ([1], {"champion": 1}):
            raise ViolationError(f"registry versions {versions}, aliases {aliases}")

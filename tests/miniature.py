"""A checkout of the miniature pipeline (`tests/flows/miniature`): run it, break it, look at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

SOURCES = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Miniature:
    """A checkout of the miniature: source, then left and right (a second each), then merge."""

    root: Path
    api: str
    """URL of a Prefect server"""

    @property
    def environment(self) -> dict[str, str]:
        python_path = os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        # `journal` says that the caller tells MLflow: not the matter of these tests, and slow.
        own = {
            "PREFECT_API_URL": self.api,
            "PLUMBLINE_TRACK": "journal",
            "PREFECT_HOME": str(self.root / "home"),
        }
        return os.environ | own | {"PYTHONPATH": python_path, "PATH": path}

    def start(self, *command: str, **popen: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=self.environment | popen.pop("env", {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **popen,
        )

    def run(self, *command: str, **popen: Any) -> tuple[int, str]:
        """Exit status and all output of `python -m COMMAND`."""
        process = self.start(*command, **popen)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def build(self, track: bool = False, **parameters: Any) -> tuple[str, dict[str, str]]:
        """Run the flow in this process (importing Prefect takes seconds): its state's type and message, and
        the outcome of each stage as Prefect's API tells it. With `track`, it brings MLflow up to date too."""
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

        from flows.pipeline import build

        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            for name in ("PLUMBLINE_TRACK", "PYTHONPATH", "PATH"):
                patch.setenv(name, self.environment[name])
            if track:
                patch.delenv("PLUMBLINE_TRACK")
            with temporary_settings({PREFECT_API_URL: self.api, PREFECT_HOME: self.root / "home"}):
                state = build(return_state=True, **parameters)
        return f"{state.type.name}: {state.message}", self.outcomes()

    def outcomes(self) -> dict[str, str]:
        return {run["name"]: run["state_name"] for run in self.task_runs()}

    def task_runs(self) -> list[dict[str, Any]]:
        """Task runs of the latest flow run of this checkout."""
        return list(self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [self.flow_run()["id"]]}}}))

    def flow_run(self) -> dict[str, Any]:
        runs = self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})
        return dict(runs[0])

    def artifacts(self) -> list[dict[str, Any]]:
        return list(
            self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [self.flow_run()["id"]]}}})
        )

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Post to Prefect's API."""
        request = urllib.request.Request(
            f"{self.api}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        for patience in (0.5, 1.0, 2.0, None):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or patience is None:  # its database is busy for a moment
                    raise
                time.sleep(patience)
        raise AssertionError("unreachable")

    def set(self, section: str, **values: Any) -> None:
        """Edit params.yaml."""
        file = self.root / "params.yaml"
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        tree[section] |= values
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")

    def outputs(self) -> dict[str, bytes]:
        """Every output file of every stage, by path."""
        files = [f for f in (self.root / "out").rglob("*") if f.is_file() and f.name != ".gitignore"]
        return {f.relative_to(self.root).as_posix(): f.read_bytes() for f in files}

    def processes(self, *words: str) -> list[psutil.Process]:
        """Living processes that work in this checkout and have one of the words in their command line."""
        found = []
        for process in psutil.process_iter():
            try:
                here = process.cwd() == str(self.root) and process.status() != psutil.STATUS_ZOMBIE
                line = " ".join(process.cmdline()) if here else ""
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if here and (not words or any(word in line for word in words)):
                found.append(process)
        return found

    def wait_for(self, *words: str, seconds: float = 120.0) -> list[psutil.Process]:
        """Processes as in `processes`, as soon as there are any."""
        return until(lambda: self.processes(*words), seconds, f"a process with {words}")

    def assert_quiet(self, seconds: float = 15.0) -> None:
        """No process of this checkout is left, or all end within `seconds`."""
        until(lambda: not self.processes(), seconds, "the end of all processes", self.processes)


def until(condition: Callable[[], Any], seconds: float, what: str, shown: Callable[[], Any] = str) -> Any:
    """The condition's value as soon as it holds; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}: {shown()}"
        time.sleep(0.02)
    return value

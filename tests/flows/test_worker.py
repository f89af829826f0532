"""Pool, deployments and worker: what people start, follow and cancel in Prefect's UI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows import dag, worker
from stages.core.errors import StageError
from tests.miniature import Miniature, until

LONG = "mini.left"


def test_the_file_names_no_folder_and_lets_one_build_run(root: Path) -> None:
    text = (root / worker.FILE).read_text(encoding="utf-8")
    assert str(root) not in text
    entries = yaml.safe_load(text)["deployments"]
    assert [entry["name"] for entry in entries] == ["local", "nightly"]
    for entry in entries:
        assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert entry["work_pool"]["name"] == worker.POOL
    (schedule,) = entries[1]["schedules"]
    assert schedule["active"] is False


@contextmanager
def _working(miniature: Miniature) -> Iterator[subprocess.Popen[str]]:
    process = miniature.start("flows.cli", "work")
    try:
        miniature.wait_for("prefect worker start")
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _deployments(miniature: Miniature) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in miniature.ask("deployments/filter", {})}


def _ask_for_run(miniature: Miniature, **parameters: Any) -> str:
    asked = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
    path = f"deployments/{_deployments(miniature)['local']['id']}/create_flow_run"
    return str(miniature.ask(path, asked)["id"])


def _state(miniature: Miniature, run: str) -> str:
    (found,) = miniature.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return str(found["state_type"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_day_of_runs(miniature: Miniature, undisturbed: dict[str, bytes]) -> None:
    miniature.set("left", seconds=60.0)
    with _working(miniature) as process:
        described = _deployments(miniature)["local"]["parameter_openapi_schema"]["properties"]
        assert list(described) == ["stages", "profile", "workers", "keep_going"]
        assert all(entry["description"] and entry["title"] for entry in described.values())
        assert described["keep_going"]["default"] is True

        first = _ask_for_run(miniature)
        running = miniature.wait_for(LONG)
        second = _ask_for_run(miniature)
        another = miniature.start("flows.cli", "work")
        said, _ = another.communicate(timeout=120)
        assert (another.returncode, "another worker runs" in said) == (1, True), said
        assert (_state(miniature, first), _state(miniature, second)) == ("RUNNING", "SCHEDULED")

        miniature.set("left", seconds=1.0)  # seen by the second run alone
        miniature.ask(f"flow_runs/{first}/set_state", {"state": {"type": "CANCELLING"}})
        until(lambda: not any(p.is_running() for p in running), 30.0, "the end of the cancelled stage")
        until(lambda: _state(miniature, first) == "CANCELLED", 60.0, "the state")
        until(lambda: _state(miniature, second) == "COMPLETED", 240.0, "the second run")
        assert miniature.outputs() == undisturbed

        miniature.set("left", seconds=61.0)
        third = _ask_for_run(miniature)
        miniature.wait_for(LONG)
        process.kill()
        process.wait()
        miniature.assert_quiet()
    miniature.set("left", seconds=1.0)
    assert dag.heal(miniature.root) == []
    with _working(miniature):
        assert _state(miniature, third) == "CRASHED", "an open run would hold up all later ones"
        last = _ask_for_run(miniature)
        until(lambda: _state(miniature, last) == "COMPLETED", 240.0, "the run after the kill")
    assert miniature.outputs() == undisturbed


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def test_a_worker_ends_when_its_server_has_gone_and_its_build_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.05)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True) as process:
        followed = psutil.Process(process.pid)
        until(followed.children, 30.0, "the build")
        (build,) = followed.children()
        server = HTTPServer(("127.0.0.1", 0), _Healthy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        watching = threading.Thread(target=worker.watch, args=(followed, url, 0.2))
        watching.start()
        server.shutdown()
        server.server_close()
        watching.join(timeout=3.0)
        assert watching.is_alive(), "it did not wait for the build"
        assert build.is_running()
        build.kill()
        watching.join(timeout=60.0)
        assert not watching.is_alive()
    assert process.returncode in (0, -signal.SIGTERM, -signal.SIGKILL)


def test_no_worker_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(StageError, match="make up"):
        worker.work(tmp_path)
    assert "PREFECT_API_URL" not in os.environ

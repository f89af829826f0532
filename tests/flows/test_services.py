"""`make up` and `make down`: ports, idempotence, clear failures, whole trees ended."""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows import services
from stages.core.errors import StageError
from tests.miniature import until

WEB = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
"""A service in small: answers every path, and has a process below it."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout whose services are small ones, on free ports."""

    def command(root: Path, port: int) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", WEB, str(port)], {}

    monkeypatch.setattr(services, "_prefect", command)
    monkeypatch.setattr(services, "_mlflow", command)
    monkeypatch.setattr(services, "STOP_SECONDS", 2.0)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for kind in services.KINDS:
        monkeypatch.setenv(kind.port_variable, str(_free_port()))
    yield tmp_path
    list(services.down(tmp_path))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_up_twice_and_down_twice(root: Path) -> None:
    assert services.prefect_url(root) is None
    lines = list(services.up(root))
    prefect, mlflow = (services.running(root, kind) for kind in services.KINDS)
    assert prefect is not None
    assert mlflow is not None
    assert lines == [f"Prefect: {prefect.url}", f"MLflow: {mlflow.url}"]
    assert services.prefect_url(root) == f"{prefect.url}/api"
    trees = [p for s in (prefect, mlflow) for p in _tree(s.pid)]
    assert len(trees) == 4

    again = list(services.up(root))
    assert again == [f"Prefect: runs already at {prefect.url}", f"MLflow: runs already at {mlflow.url}"]
    assert services.running(root, services.PREFECT) == prefect

    assert list(services.down(root)) == ["Prefect: stopped", "MLflow: stopped"]
    until(lambda: not any(p.is_running() for p in trees), 5.0, "the end of both trees")
    assert list(services.down(root)) == ["Prefect: was not running", "MLflow: was not running"]


def test_one_that_died_is_started_again(root: Path) -> None:
    list(services.up(root))
    dead = services.running(root, services.MLFLOW)
    assert dead is not None
    for process in _tree(dead.pid):
        process.kill()
    until(lambda: services.running(root, services.MLFLOW) is None, 5.0, "the end of MLflow")
    first, second = services.up(root)
    assert first.startswith("Prefect: runs already")
    assert second.startswith("MLflow: http")


def test_every_taken_port_is_named_with_its_holder_and_nothing_is_started(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        monkeypatch.setenv("PLUMBLINE_MLFLOW_PORT", str(taken))
        with pytest.raises(StageError) as error:
            list(services.up(root))
        said = str(error.value)
        assert f"port {taken} for MLflow is taken by process {psutil.Process().pid}" in said
        assert f"PLUMBLINE_MLFLOW_PORT={taken + 1}" in said
        assert services.running(root, services.PREFECT) is None
        free = _free_port()
        assert f"MLflow: http://127.0.0.1:{free}" in list(services.up(root, {"mlflow": free}))


def test_a_service_that_ends_while_starting_shows_its_log(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        services, "_mlflow", lambda root, port: ([sys.executable, "-c", "exit('no tables')"], {})
    )
    with pytest.raises(StageError, match=r"(?s)MLflow ended while starting.*no tables"):
        list(services.up(root))


def test_a_number_used_again_is_no_service(root: Path) -> None:
    me = psutil.Process()
    file = root / services.FOLDER / "prefect.json"
    file.parent.mkdir(parents=True)
    noted = {"pid": me.pid, "created": me.create_time() - 1000.0, "port": 1}
    file.write_text(json.dumps(noted), encoding="utf-8")
    assert services.prefect_url(root) is None
    assert next(services.down(root)) == "Prefect: was not running"
    assert me.is_running()


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@pytest.mark.slow
def test_the_real_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    ports = {kind.name: _free_port() for kind in services.KINDS}
    try:
        lines = list(services.up(tmp_path, ports))
        assert lines == [f"{kind.title}: http://127.0.0.1:{ports[kind.name]}" for kind in services.KINDS]
        for kind, title in ((services.PREFECT, "Prefect"), (services.MLFLOW, "MLflow")):
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[kind.name]}/", timeout=30) as page:
                assert title in page.read().decode()
        assert (tmp_path / ".prefect" / "prefect.db").is_file()
        assert (tmp_path / "mlflow.db").is_file()
        members = [p for kind in services.KINDS for p in _tree(services.running(tmp_path, kind).pid)]
        assert len(members) <= 8, [p.cmdline() for p in members]
    finally:
        down = list(services.down(tmp_path))
    assert down == ["Prefect: stopped", "MLflow: stopped"]
    until(lambda: not any(p.is_running() for p in members), 5.0, "the end of both trees")

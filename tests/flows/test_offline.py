"""Nothing calls home: the miniature with the network cut off, and pages that load nothing from outside."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.offline import can_cut_off, cut_off, loaded_from_outside, watched
from tests.miniature import Miniature

needs_namespace = pytest.mark.skipif(not can_cut_off(), reason="unshare --net is not allowed here")
OUTSIDE = "192.0.2.1"  # an address that is given to nobody (RFC 5737)

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("through")
except OSError as error:
    print(error.strerror)
"""


def test_the_watch_sees_who_asks_for_an_outside_address() -> None:
    with watched() as (environment, notes), socket.create_server(("127.0.0.1", 0)) as listener:
        here = [sys.executable, "-c", CONNECT, "127.0.0.1", str(listener.getsockname()[1])]
        assert b"through" in subprocess.run(here, env=environment, capture_output=True, check=True).stdout
        assert notes.read_text() == ""
        for ask in (
            "socket.getaddrinfo('plumbline.invalid', 80)",
            f"socket.socket().connect(('{OUTSIDE}', 9))",
        ):
            code = f"import socket\nsocket.setdefaulttimeout(0.1)\ntry:\n {ask}\nexcept OSError: pass"
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        first, second = notes.read_text().splitlines()
    assert first.startswith("socket.getaddrinfo plumbline.invalid by")
    assert second.startswith(f"socket.connect {OUTSIDE} by")


@needs_namespace
def test_cut_off_there_is_loopback_and_nothing_else() -> None:
    script = f"""
import socket, subprocess, sys
with socket.create_server(("127.0.0.1", 0)) as listener:
    for host, port in (("127.0.0.1", listener.getsockname()[1]), ("{OUTSIDE}", 80)):
        subprocess.run([sys.executable, "-c", {CONNECT!r}, host, str(port)], check=True)
"""
    done = subprocess.run(cut_off([sys.executable, "-c", script]), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["through", "Network is unreachable"]


@needs_namespace
@pytest.mark.parametrize(
    "steps",
    [
        [["dvc", "repro"], ["flows.cli", "sync"]],
        [["flows.build"]],
    ],
    ids=["dvc", "flow"],
)
def test_a_build_cut_off_asks_for_nothing(template: Path, tmp_path: Path, steps: list[list[str]]) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    mini.set("left", seconds=0.0)
    mini.set("right", seconds=0.0)
    with watched() as (watching, notes):
        path = os.pathsep.join([watching["PYTHONPATH"], mini.environment["PYTHONPATH"]])
        environment = watching | mini.environment | {"PYTHONPATH": path}
        for name in ("PLUMBLINE_TRACK", "MLFLOW_TRACKING_URI"):
            environment.pop(name, None)
        for step in steps:
            command = cut_off([sys.executable, "-m", *step])
            done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        assert notes.read_text() == ""
    assert (root / "out/merge.txt").is_file()
    assert (root / "mlflow.db").is_file(), "MLflow had no part in it"


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ('<script async src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ("<link rel=stylesheet href='//fonts.example/a.css'>", ["//fonts.example/a.css"]),
        ("b { background: url(http://example/p.png) }", ["http://example/p.png"]),
        ("@import 'https://example/a.css';", ["https://example/a.css"]),
        ("await fetch(`https://example/api`)", ["https://example/api"]),
        (
            '<a href="https://example/">read</a> <img src="film.png"> <img src="data:image/png;base64,//8=">',
            [],
        ),
        ('<svg xmlns="http://www.w3.org/2000/svg"></svg> <img src="http://127.0.0.1:9/p.png">', []),
    ],
)
def test_what_a_browser_would_load(page: str, found: list[str]) -> None:
    assert loaded_from_outside(page) == found


def test_no_page_of_the_project_loads_from_outside(root: Path) -> None:
    pages = [
        f
        for folder in ("flows", "stages")
        for f in (root / folder).rglob("*")
        if f.suffix in {".html", ".css", ".js"}
    ]
    assert len(pages) > 3
    assert {f: a for f in pages if (a := loaded_from_outside(f.read_text(encoding="utf-8")))} == {}

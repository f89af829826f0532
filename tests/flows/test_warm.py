"""A stage forked from the warm server is the stage that DVC's shell would have started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from flows import warm
from tests.miniature import SOURCES, Miniature, until

JOB = """
import os, sys, threading, time
from pathlib import Path

def main():
    what, *more = sys.argv[1:]
    print("argument", *more, flush=True)
    print("variable", os.environ.get("COLOUR"), "folder", Path.cwd().name, "name", __name__, flush=True)
    if what == "words":
        sys.exit("ERROR: in words")
    if what == "status":
        sys.exit(3)
    if what == "raise":
        raise ValueError("a bug")
    if what == "thread":
        threading.Thread(target=lambda: (time.sleep(0.5), Path("late").touch())).start()
    if what == "sleep":
        Path("asleep").write_text(str(os.getpid()))
        time.sleep(60)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(JOB, encoding="utf-8")
    (tmp_path / "inner").mkdir()
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[warm.WarmServer]:
    server = warm.WarmServer(root)
    yield server
    server.close()


def run(server: warm.WarmServer, folder: Path, *arguments: str, colour: str = "red") -> int:
    with until(server.connect, 60.0, "the server") as connection:
        environment = os.environ | {"COLOUR": colour}
        return warm._run(connection, ("job", list(arguments)), environment, str(folder))


@pytest.mark.parametrize("how", ["fine", "words", "status", "raise"])
def test_output_and_status_are_those_of_python(
    server: warm.WarmServer, root: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "job", how, "b c", "d"]
    cold = subprocess.run(
        command, cwd=root, env=os.environ | {"COLOUR": "red"}, capture_output=True, text=True, check=False
    )
    status = run(server, root, how, "b c", "d")
    out, err = capfd.readouterr()
    assert (status, out) == (cold.returncode, cold.stdout)
    assert err.splitlines()[-1:] == cold.stderr.splitlines()[-1:]
    assert "argument b c d" in out
    assert {"fine": 0, "words": 1, "status": 3, "raise": 1}[how] == status


def test_each_stage_has_its_own_environment_and_folder(
    server: warm.WarmServer, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(server, root, "fine", colour="red")
    run(server, root / "inner", "fine", colour="blue")
    first, second = (line for line in capfd.readouterr().out.splitlines() if line.startswith("variable"))
    assert first == f"variable red folder {root.name} name __main__"
    assert second == "variable blue folder inner name __main__"


def test_code_is_read_when_the_stage_starts(
    server: warm.WarmServer, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(server, root, "fine")
    (root / "job.py").write_text("print('changed meanwhile')", encoding="utf-8")
    assert run(server, root) == 0
    assert "changed meanwhile" in capfd.readouterr().out


def test_work_of_threads_is_waited_for(server: warm.WarmServer, root: Path) -> None:
    assert run(server, root, "thread") == 0
    assert (root / "late").exists()


@pytest.mark.parametrize("said", ["nothing", "its output", "all"])
def test_a_dvc_that_goes_early_does_not_take_the_server_along(
    server: warm.WarmServer, root: Path, said: str
) -> None:
    request = {"module": "job", "arguments": ["sleep"], "environment": {**os.environ}, "folder": str(root)}
    for _ in range(5):
        with until(server.connect, 60.0, "the server") as connection:
            if said != "nothing":
                socket.send_fds(connection, [b"f"], [1, 2])
            if said == "all":
                with Connection(os.dup(connection.fileno())) as messages:
                    messages.send_bytes(json.dumps(request).encode())
    assert run(server, root, "status") == 3
    until(lambda: not _children_of(server, "sleep"), 10.0, "the end of the stages")


def _children_of(server: warm.WarmServer, word: str) -> list[psutil.Process]:
    assert server._process is not None
    return [p for p in psutil.Process(server._process.pid).children() if word in " ".join(p.cmdline())]


def test_two_stages_run_at_once(server: warm.WarmServer, root: Path) -> None:
    statuses: list[int] = []
    sleeping = threading.Thread(target=lambda: statuses.append(_status_of_sleeper(server, root)))
    sleeping.start()
    pid = _sleeper(root)
    assert run(server, root, "status") == 3
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGKILL)
    sleeping.join(20.0)
    assert statuses == [-signal.SIGKILL]


def _status_of_sleeper(server: warm.WarmServer, root: Path) -> int:
    with until(server.connect, 60.0, "the server") as connection:
        return warm._run(connection, ("job", ["sleep"]), os.environ, str(root))


def _sleeper(root: Path) -> int:
    until(lambda: (root / "asleep").is_file() and (root / "asleep").read_text(), 60.0, "the stage")
    return int((root / "asleep").read_text(encoding="utf-8"))


def _ends(pid: int) -> None:
    until(lambda: not psutil.pid_exists(pid), 10.0, f"the end of process {pid}")


@pytest.mark.parametrize("gone", ["server", "owner", "dvc"])
def test_no_stage_outlives_the_server_its_owner_or_its_dvc(root: Path, gone: str) -> None:
    script = (
        "import os, sys; from pathlib import Path; from flows import warm; from tests.miniature import until\n"
        "server = warm.WarmServer(Path.cwd())\n"
        "connection = until(server.connect, 60.0, 'the server')\n"
        "if sys.argv[1] == 'dvc' and os.fork():\n"
        "    connection.close(); os.wait(); print('went on', flush=True); import time; time.sleep(60)\n"
        "Path('dvc').write_text(str(os.getpid()))\n"
        "print(warm._run(connection, ('job', ['sleep']), os.environ, '.'), flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    owner = subprocess.Popen(
        [sys.executable, "-c", script, gone], cwd=root, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        stage = _sleeper(root)
        warm_server = psutil.Process(stage).ppid()
        victim = {"server": warm_server, "owner": owner.pid, "dvc": int((root / "dvc").read_text())}[gone]
        os.kill(victim, signal.SIGKILL)
        _ends(stage)
        if gone == "server":
            assert owner.communicate(timeout=20)[0].split()[-1] == str(-signal.SIGTERM)
        elif gone == "owner":
            _ends(warm_server)
        else:
            assert psutil.pid_exists(warm_server)
    finally:
        owner.kill()
        owner.communicate()
    _ends(warm_server)


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("python -m stages.chest.fine --films data/a", ("stages.chest.fine", ["--films", "data/a"])),
        ('python -m mini.left --raw "data/with space"', ("mini.left", ["--raw", "data/with space"])),
        ("python -m mini.left", ("mini.left", [])),
        ("python -m mini.left > log", None),
        ("python -m mini.left && python -m mini.right", None),
        ("python -m mini.left --raw $HOME", None),
        ("python -m mini.left --raw 'no end", None),
        ("python -u -m mini.left", None),
        ("python mini/left.py", None),
        ("FORCE=1 python -m mini.left", None),
    ],
)  # fmt: skip
def test_what_needs_a_shell_gets_one(command: str, call: object) -> None:
    assert warm.as_call(command) == call


@pytest.mark.parametrize("start", ["warm", "cold"])
def test_builds_are_equal_and_say_how_they_started(
    miniature: Miniature, undisturbed: dict[str, bytes], start: str
) -> None:
    env = {"PLUMBLINE_WARM": "0" if start == "cold" else "json,numpy"}
    build = miniature.start("flows.quick_dvc", "repro", env=env)
    parents: set[str] = set()
    while build.poll() is None:
        for stage in miniature.processes("-m mini.merge", "-m mini.left", "-m mini.right"):
            parents |= _name_of_parent(stage)
        time.sleep(0.02)
    output = build.communicate()[0]
    assert build.returncode == 0, output
    assert miniature.outputs() == undisturbed
    assert any("warm_server" in name for name in parents) is (start == "warm"), parents


def _name_of_parent(process: psutil.Process) -> set[str]:
    try:
        return {" ".join(process.parent().cmdline())} if process.parent() else set()
    except psutil.NoSuchProcess:
        return set()


def test_importing_the_libraries_leaves_cuda_to_the_stages() -> None:
    """A process that asked CUDA anything before it was forked could not use it."""
    script = (
        "import importlib, torch\n"
        "asked = []\n"
        "torch._C._cuda_getDeviceCount = lambda: asked.append(1) or 0\n"
        "torch._C._cuda_init = lambda: asked.append(2)\n"
        "from flows.warm_server import LIBRARIES, TRACKING\n"
        "for name in (*LIBRARIES, *TRACKING): importlib.import_module(name)\n"
        "before = len(asked)\n"
        "torch.cuda.is_available()\n"
        "print(before, len(asked))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    environment.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert (before, after) == (0, 1)

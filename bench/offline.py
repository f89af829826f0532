"""Nothing calls home: `python -m bench.offline [PART...]` works in this checkout with the network cut off.

A network namespace of its own leaves loopback alone (`unshare`, Linux), and every Python process below notes each
address that it looks up or connects to. A part passes if it ends well and asked for nothing outside.

    build      make repro: DVC, every stale stage, MLflow, the registry
    flow       the same graph through Prefect, with a temporary server
    services   the Prefect and MLflow UIs, each asked for its first page
    review     the review page        serve  the prediction service
    pages      reports and pages name no address that a browser would load anything from
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.processes import end, tree
from stages.core.params import project_root

INSIDE, NOTES = "PLUMBLINE_OFFLINE", "PLUMBLINE_OFFLINE_NOTES"
PATIENCE = 120.0
"""Seconds that a server may take until it answers."""

WATCH = '''\
"""Note every address outside of this machine that a process looks up or connects to."""
import os
import sys

_HERE = {None, "", b"", "localhost", "0.0.0.0", "::", "::1"}


def _outside(host):
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    return host not in _HERE and not str(host).startswith("127.")


def _watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[-1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if _outside(host):
        with open(os.environ["PLUMBLINE_OFFLINE_NOTES"], "a") as notes:
            notes.write(f"{event} {host} by {' '.join(sys.argv)[:80]}\\n")


sys.addaudithook(_watch)
'''
"""A sitecustomize module: Python imports it before anything else."""


@contextmanager
def watched() -> Iterator[tuple[dict[str, str], Path]]:
    """Environment of processes whose lookups and connections are noted, and the file of the notes."""
    with tempfile.TemporaryDirectory(prefix="plumbline-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
        notes = Path(folder) / "notes"
        notes.touch()
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
        yield os.environ | {"PYTHONPATH": path, NOTES: str(notes)}, notes


def can_cut_off() -> bool:
    """Whether this system lets us have a network of our own."""
    try:
        return (
            subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True).returncode
            == 0
        )
    except FileNotFoundError:
        return False


def cut_off(command: Sequence[str]) -> list[str]:
    """The command line that runs another one where there is loopback and nothing else."""
    loopback = (
        "import fcntl, os, socket, struct, sys; s = socket.socket(); "
        "fcntl.ioctl(s, 0x8914, struct.pack('16sH14s', b'lo', 1, b'')); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return ["unshare", "--map-root-user", "--net", sys.executable, "-S", "-c", loopback, *command]


def _run(*module: str) -> Callable[[dict[str, str]], str]:
    def part(environment: dict[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *module], env=environment, capture_output=True, text=True
        )
        return (
            "" if done.returncode == 0 else f"status {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
        )

    return part


def _served(*module: str) -> Callable[[dict[str, str]], str]:
    """A server that has to answer; `{port}` stands for a free port."""

    def part(environment: dict[str, str]) -> str:
        port = _free_port()
        command = [sys.executable, "-m", *(word.format(port=port) for word in module)]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                problem = _answers(f"http://127.0.0.1:{port}/", process)
            finally:
                end(tree(process.pid), grace=10.0)
                process.wait()
            log.seek(0)
            return f"{problem}: {log.read()[-800:]}" if problem else ""

    return part


def _answers(url: str, process: subprocess.Popen[bytes] | None = None) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            return f"ended with status {process.returncode}"
        try:
            urllib.request.urlopen(url, timeout=10).read()
            return ""
        except urllib.error.HTTPError:
            return ""
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return f"did not answer within {PATIENCE:.0f} s"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _services(environment: dict[str, str]) -> str:
    ports = {"prefect": _free_port(), "mlflow": _free_port()}
    chosen = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    problem = _run("flows.services", "up", *chosen)(environment)
    problem = problem or "".join(_answers(f"http://127.0.0.1:{port}/") for port in ports.values())
    return problem or _run("flows.services", "down")(environment)


_LOADED = re.compile(
    r"""(?:<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc\s*=\s*["']?|"""
    r"""<link\b[^>]*?\shref\s*=\s*["']?|url\(\s*["']?|@import\s+["']|\b(?:fetch|import)\(\s*["'`])"""
    r"""((?:https?:)?//[^"'`\s)>]+)"""
)


def loaded_from_outside(page: str) -> list[str]:
    """Addresses that a browser would load something from when it shows a page or runs a script."""
    return [a for a in _LOADED.findall(page) if not re.match(r"(?:https?:)?//(?:127\.|localhost)", a)]


def _pages(environment: dict[str, str]) -> str:
    root = project_root()
    folders = (root / "reports", root / "flows", root / "stages")
    files = [f for folder in folders for f in folder.rglob("*") if f.suffix in {".html", ".css", ".js"}]
    found = {f: loaded_from_outside(f.read_text(encoding="utf-8")) for f in files}
    return "; ".join(f"{f.relative_to(root)}: {', '.join(a)}" for f, a in found.items() if a)


PARTS: dict[str, Callable[[dict[str, str]], str]] = {
    "build": _run("flows.cli", "repro"),
    "flow": _run("flows.build"),
    "services": _services,
    "review": _served("flows.cli", "review", "--no-open", "--port", "{port}"),
    "serve": _served("flows.cli", "serve", "--port", "{port}"),
    "pages": _pages,
}
"""What each part is -> what went wrong, empty if nothing did."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.offline", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    parts = parser.parse_args(argv).parts or list(PARTS)
    if strange := sorted(set(parts) - PARTS.keys()):
        parser.error(f"no part {', '.join(strange)}; there are {', '.join(PARTS)}")
    if not os.environ.get(INSIDE):
        if not can_cut_off():
            print("this system gives us no network of our own (unshare --net)", file=sys.stderr)
            return 2
        command = cut_off([sys.executable, "-m", "bench.offline", *parts])
        return subprocess.run(command, env=os.environ | {INSIDE: "1"}).returncode
    good = True
    for name in parts:
        with watched() as (environment, notes):
            problem = PARTS[name](environment)
            asked = sorted(set(notes.read_text(encoding="utf-8").splitlines()))
        good = good and not problem and not asked
        print(f"{name:9} {problem or 'ends well'}; outside addresses asked for: {len(asked)}", flush=True)
        print("".join(f"          {line}\n" for line in asked), end="")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

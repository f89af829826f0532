"""A second clone restores everything from an S3 remote, without a training.

    pip install 'moto[server]'      # in an environment of its own will do: --server .../bin/moto_server
    python -m bench.s3_remote [--source CHECKOUT] [--server moto_server | --endpoint URL]

The source is a checkout whose cache is full, and stays as it is. A clone of it pushes to a bucket of
its own, another one with an empty cache pulls, and `dvc repro` there has nothing to do. Credentials come from the
environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY); the local server takes any. Exit status 1 where a stage
ran, or restoring took over a minute.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from stages.core.params import project_root

PROMISED_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=project_root(), help="checkout with a full cache")
    parser.add_argument("--server", default="moto_server", help="command of moto's server")
    parser.add_argument("--endpoint", help="of a server that runs already")
    arguments = parser.parse_args()
    server = nullcontext(arguments.endpoint) if arguments.endpoint else local_server(arguments.server)
    with server as endpoint, tempfile.TemporaryDirectory() as folder:
        sys.exit(_restore(arguments.source.resolve(), endpoint, Path(folder)))


@contextmanager
def local_server(command: str = "moto_server") -> Iterator[str]:
    """URL of an S3 server on loopback that keeps everything in memory, and ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "testing")
    process = subprocess.Popen(
        [command, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def clone(source: Path, folder: Path, cache: Path | None = None) -> None:
    """A clone with a cache of its own, or that of another checkout."""
    _run(folder.parent, "git", "clone", "--quiet", str(source), folder.name)
    if cache is not None:
        _run(folder, "dvc", "config", "--local", "cache.dir", str(cache))


def make_bucket(endpoint: str) -> str:
    """URL of a folder in a new bucket."""
    import s3fs

    name = f"plumbline-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(client_kwargs={"endpoint_url": endpoint}).mkdir(name)
    return f"s3://{name}/demo"


def add_remote(folder: Path, url: str, endpoint: str) -> None:
    """Make `url` the default remote of a checkout; the endpoint is a matter of this machine alone."""
    _run(folder, "dvc", "remote", "add", "--local", "--default", "team", url)
    _run(folder, "dvc", "remote", "modify", "--local", "team", "endpointurl", endpoint)


def stored(url: str, endpoint: str) -> tuple[int, int]:
    """Number and bytes of the objects below `url`."""
    import s3fs

    store = s3fs.S3FileSystem(client_kwargs={"endpoint_url": endpoint}, use_listings_cache=False)
    sizes = [entry["size"] for entry in store.find(url, detail=True).values()]
    return len(sizes), sum(sizes)


def _restore(source: Path, endpoint: str, folder: Path) -> bool:
    """Whether anything was not as promised."""
    cache = _run(source, "dvc", "cache", "dir").strip()
    first, second = folder / "first", folder / "second"
    clone(source, first, Path(source, cache))
    clone(source, second)
    url = make_bucket(endpoint)
    for checkout in (first, second):
        add_remote(checkout, url, endpoint)
    pushed, _ = _timed(first, "dvc", "push", "--quiet", "--run-cache")
    count, size = stored(url, endpoint)
    print(f"dvc push --run-cache    {pushed:6.1f} s, {count} objects, {size / 1e6:.0f} MB", flush=True)
    pulled, _ = _timed(second, "dvc", "pull", "--quiet", "--run-cache")
    print(f"dvc pull --run-cache    {pulled:6.1f} s", flush=True)
    rebuilt, said = _timed(second, "dvc", "repro")
    ran = [line for line in said.splitlines() if line.startswith("Running stage")]
    print(f"dvc repro               {rebuilt:6.1f} s, {len(ran)} stages ran")
    return bool(ran) or pulled + rebuilt > PROMISED_SECONDS


def _timed(folder: Path, *command: str) -> tuple[float, str]:
    started = time.monotonic()
    said = _run(folder, *command)
    return time.monotonic() - started, said


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} in {folder}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()

"""Fixtures: the miniature pipeline in a Git repository of its own, and a Prefect server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.miniature import SOURCES, Miniature

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a Prefect server with an empty database, for the whole session."""
    from flows.server import temporary_server, wait_until_up

    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        url = temporary_server(home / "server.log")
    wait_until_up(url)
    return url


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkout of the miniature, committed, with nothing built."""
    root = tmp_path_factory.mktemp("miniature") / "checkout"
    shutil.copytree(HERE / "miniature", root, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".dvcignore", "prefect.yaml"):
        shutil.copy(SOURCES / name, root / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", str(root)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
    shutil.copy(SOURCES / ".dvc" / "config", root / ".dvc" / "config")
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "miniature"], check=True)
    return root


@pytest.fixture
def miniature(template: Path, tmp_path: Path, prefect_server: str) -> Iterator[Miniature]:
    """A checkout of one's own; after the test no process may be left in it."""
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, prefect_server)
    yield mini
    left = mini.processes()
    for process in left:
        process.kill()
    assert not left, left


@pytest.fixture(scope="session")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outputs of a plain `dvc repro` that nobody disturbs."""
    root = tmp_path_factory.mktemp("undisturbed") / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, "")
    code, output = mini.run("dvc", "repro")
    assert code == 0, output
    return mini.outputs()

"""Which Prefect server a build talks to, and the temporary one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows import server, services
from flows.server import prefect_api, wait_until_up
from stages.core.errors import StageError
from tests.miniature import Miniature


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without a server; what the code sets is undone after the test."""
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_UI_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_the_environment_comes_first_then_the_running_server_then_a_temporary_one(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setattr(server, "temporary_server", lambda log: "http://temporary/api")
    assert prefect_api(tmp_path) == os.environ["PREFECT_API_URL"] == "http://temporary/api"
    assert os.environ["PREFECT_HOME"] == str(tmp_path / ".prefect")
    environment.delenv("PREFECT_API_URL")
    environment.setattr(services, "prefect_url", lambda root: "http://running/api")
    assert prefect_api(tmp_path) == "http://running/api"
    environment.setenv("PREFECT_API_URL", "http://mine/api")
    assert prefect_api(tmp_path) == "http://mine/api"


def test_serving_needs_a_server_that_stays(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="make up"):
        prefect_api(tmp_path, temporary=False)


def test_a_server_that_does_not_answer_is_an_error_in_words() -> None:
    with pytest.raises(
        StageError, match=r"no Prefect server answers at http://127\.0\.0\.1:9/api.*PREFECT_API_URL"
    ):
        wait_until_up("http://127.0.0.1:9/api", seconds=0.3)


def test_a_build_without_a_server_is_recorded_and_leaves_nothing_running(
    template: Path, tmp_path: Path
) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    code, output = mini.run("flows.build", "--stages", "s*")
    assert (code, output.splitlines()[-1]) == (0, "1 stage: 1 Ran"), output
    mini.assert_quiet()
    with closing(sqlite3.connect(root / "home" / "prefect.db")) as database:
        assert database.execute("SELECT name, state_name FROM task_run").fetchall() == [("source", "Ran")]
        assert database.execute("SELECT state_name FROM flow_run").fetchall() == [("Completed",)]


def test_a_temporary_server_does_not_outlive_a_killed_build(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api="")
    build = mini.start("flows.build")
    mini.wait_for("flows.server")
    build.kill()
    build.communicate()
    mini.assert_quiet()

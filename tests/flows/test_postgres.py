"""MLflow and Prefect on a PostgreSQL server, shared by two checkouts that build at once."""

from __future__ import annotations

import os
import pwd
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flows import services
from stages.core.errors import StageError
from stages.core.tracking import connected, database, tracking_uri
from tests.flows.test_services import _free_port
from tests.miniature import Miniature

pytestmark = pytest.mark.timeout(1200)  # servers start slowly on a busy machine
BUILDS = ("left", "right")


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian has them outside PATH."""
    found = [Path(p) for p in sorted(glob("/usr/lib/postgresql/*/bin"))]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return found[-1] if found else None


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """`PLUMBLINE_DATABASE` of a server with empty databases."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: apt install postgresql")
    if find_spec("psycopg") is None:
        pytest.skip("no driver here: pip install 'plumbline[postgres]'")
    port, folder = _free_port(), Path("/tmp") / f"plumbline-postgres-{os.getpid()}"
    # The server refuses to run as root.
    user = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid()
    folder.mkdir()
    os.chown(folder, user, -1)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, timeout=120)

    data = str(folder / "data")
    try:
        run("initdb", "--pgdata", data, "--username", "plumbline", "--auth", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "--pgdata", data, "--log", str(folder / "log"), "--wait", "--options", options, "start")
        for program in ("mlflow", "prefect"):
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "plumbline", f"team_{program}")
        yield f"postgresql://plumbline:secret@127.0.0.1:{port}/team"
    finally:
        if Path(data, "postmaster.pid").exists():
            run("pg_ctl", "--pgdata", data, "--mode", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def checkouts(template: Path, tmp_path: Path, postgres: str) -> Iterator[list[Miniature]]:
    """Two checkouts with different parameters; the first one's services run, on the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv(database.VARIABLE, postgres)
        patch.setenv("PLUMBLINE_ARTIFACTS", str(tmp_path / "artifacts"))
        found = []
        for count, name in enumerate(BUILDS, 30):
            shutil.copytree(template, tmp_path / name, symlinks=True)
            found.append(Miniature(tmp_path / name, ""))
            found[-1].set("source", count=count)
        root = found[0].root
        list(services.up(root, {kind.name: _free_port() for kind in services.KINDS}))
        try:
            yield found
        finally:
            list(services.down(root))


def test_two_checkouts_build_into_one_database(checkouts: list[Miniature]) -> None:
    api = services.prefect_url(checkouts[0].root)
    assert api is not None
    environment = {"PREFECT_API_URL": api, "PLUMBLINE_TRACK": "", "MLFLOW_STRICT": "1"}
    building = [mini.start("flows.build", env=environment) for mini in checkouts]
    for process in building:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        assert "4 stages: 4 Ran" in said
        assert "locked" not in said
    keys = [{f.stem for f in (mini.root / ".plumbline/journal").glob("*/*.json")} for mini in checkouts]
    assert len(keys[0] | keys[1]) == 8
    with connected(checkouts[1].root) as client:
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(experiments)
    assert sorted(run.data.tags["dvc.key"] for run in runs) == sorted(keys[0] | keys[1])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert _in_prefect(checkouts[0]) == {"source": 2, "left": 2, "right": 2, "merge": 2, "publish": 2}
    for mini in checkouts:
        assert not list(mini.root.glob("**/mlflow.db")), "nothing fell back to a file"
        assert not list(mini.root.glob("**/prefect.db"))


def _in_prefect(checkout: Miniature) -> dict[str, int]:
    """Task runs by name, from the database itself."""
    from sqlalchemy import create_engine, text

    uri = (database.prefect_database() or "").replace("asyncpg", "psycopg")
    with closing(create_engine(uri).connect()) as connection:
        rows = connection.execute(text("SELECT name, count(*) AS runs FROM task_run GROUP BY name"))
        return {row.name: row.runs for row in rows}


def test_versions_and_aliases_stay_when_the_checkout_goes(checkouts: list[Miniature], tmp_path: Path) -> None:
    with connected(checkouts[0].root) as client:
        client.create_registered_model("spine-phantom")
        client.create_model_version("spine-phantom", str(tmp_path / "model"))
        client.set_registered_model_alias("spine-phantom", "champion", "1")
    shutil.rmtree(checkouts[0].root / ".plumbline" / "journal", ignore_errors=True)
    with connected(checkouts[1].root) as client:
        assert int(client.get_model_version_by_alias("spine-phantom", "champion").version) == 1


WRITER = """
import sys, time
from pathlib import Path
from stages.core.tracking import connected
with connected(Path(sys.argv[1])):
    print("writes", flush=True)
    sys.stdin.read()
"""


def test_one_checkout_at_a_time_writes(checkouts: list[Miniature]) -> None:
    """Else one removes as half written what the other is just writing."""
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", WRITER, mini.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mini in checkouts
    )
    lines: dict[Any, str] = {}
    assert first.stdout is not None
    assert second.stdout is not None
    for _ in range(2):
        ready, _, _ = select.select([p.stdout for p in (first, second) if p not in lines], [], [], 60)
        assert len(ready) == 1
        holder = first if ready[0] is first.stdout else second
        lines[holder] = ready[0].readline()
        assert not select.select([p.stdout for p in (first, second) if p not in lines], [], [], 1)[0]
        holder.communicate(timeout=60)
    assert set(lines.values()) == {"writes\n"}


def test_settings_that_cannot_work_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(database.VARIABLE, "mysql://host/name")
    with pytest.raises(StageError, match="must read postgresql://USER:PASSWORD@HOST:PORT/NAME"):
        tracking_uri(tmp_path)
    monkeypatch.setenv(database.VARIABLE, "postgresql://plumbline:secret@127.0.0.1:9/team")
    assert tracking_uri(tmp_path) == "postgresql+psycopg://plumbline:secret@127.0.0.1:9/team_mlflow"
    assert services.prefect_environment() == {
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://plumbline:secret@127.0.0.1:9/team_prefect"
    }
    with pytest.raises(StageError) as refused, connected(tmp_path):
        pass
    assert "secret" not in str(refused.value)
    assert "plumbline[postgres]" in str(refused.value) or "cannot be reached" in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:9", "a server of one's own comes first"

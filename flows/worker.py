"""The worker that carries out builds which others ask for in Prefect's UI or API: `plumbline work`.

prefect.yaml says what there is to run; pool, deployments and what a killed worker left are brought in order
first. The worker then takes the place of this process and works in the checkout, one build at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psutil
import yaml

from flows.processes import follow_parent
from flows.repro import BUILD_LOCK
from flows.server import answers, prefect_api, wait_until_up
from stages.core.errors import StageError
from stages.core.stage import STATE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL = "plumbline"
FILE = "prefect.yaml"
SERVED_BY = "PLUMBLINE_SERVED_BY"
"""Environment variable: number of the process that waits for runs and starts them."""
POLL_SECONDS = 2
"""How long a run that is asked for waits at most until the worker sees it."""
SERVER_SECONDS, STOP_SECONDS = 15.0, 10.0
"""How long a worker does without its server, and how long it has for ending then."""
DEPLOYED = STATE / "services" / "deployed"


def work(root: Path) -> NoReturn:
    """Become the worker of a checkout; ends when it is interrupted, or when its server has gone.

    Raises:
        StageError: no server runs, or another worker does.
    """
    wait_until_up(prefect_api(root, temporary=False))
    _hold(root)
    for line in prepare(root):
        print(line, flush=True)
    own = {
        SERVED_BY: str(os.getpid()),
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",  # the environment of the worker is the right one
    }
    # the worker itself would wait for its server for ever
    subprocess.Popen([sys.executable, "-m", "flows.worker", str(os.getpid())], cwd=root, env=os.environ | own)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Prefect stops by it; in a shell's background it is ignored
    os.chdir(root)
    os.execve(sys.executable, [*command, "--limit", "1", "--name", f"{POOL}-{os.getpid()}"], os.environ | own)


def _hold(root: Path) -> None:
    """Keep a lock for as long as this process lives, as the worker too: two would build beside each other."""
    path = root / STATE / "worker.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StageError(f"another worker runs in {root}: one is enough, end that one first") from None
    os.set_inheritable(lock, True)


def prepare(root: Path) -> Iterator[str]:
    """Make the pool and the deployments of prefect.yaml where they are missing or another version.

    Schedules that were switched on or off in the UI stay so until prefect.yaml or the flow changes.

    Yields:
        A line for each thing done.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    said = yaml.safe_load((root / FILE).read_text(encoding="utf-8"))
    names = [f"build/{entry['name']}" for entry in said["deployments"]]
    with get_client(sync_client=True) as client:
        try:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
            yield f"work pool {POOL}: made"
        except ObjectAlreadyExists:
            pass
        try:
            for name in names:
                client.read_deployment_by_name(name)
            known = (root / DEPLOYED).read_text(encoding="utf-8")
        except (ObjectNotFound, FileNotFoundError):
            known = ""
        if known != _version(root):
            for entry in said["deployments"]:
                _deploy(client, entry, said["pull"])
            (root / DEPLOYED).parent.mkdir(parents=True, exist_ok=True)
            (root / DEPLOYED).write_text(_version(root), encoding="utf-8")
            yield f"deployments: {', '.join(names)}"
    yield from close_lost_runs(root)


def _version(root: Path) -> str:
    """What a deployment is made from: prefect.yaml and the flow's parameters, and for which server."""
    from prefect.utilities.callables import parameter_schema

    from flows.pipeline import build

    digest = hashlib.sha256((root / FILE).read_bytes())
    digest.update(parameter_schema(build).model_dump_json().encode())
    return f"{os.environ['PREFECT_API_URL']} {digest.hexdigest()}"


def _deploy(client: SyncPrefectClient, entry: Mapping[str, Any], pull: list[dict[str, Any]]) -> None:
    """What `prefect deploy` does with one entry; with the FastAPI that is pinned, that command itself fails."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.utilities.callables import parameter_schema

    from flows.pipeline import build

    schedules = [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=given["cron"], timezone=given.get("timezone")),
            active=given["active"],
            slug=given["slug"],
        )
        for given in entry["schedules"]
    ]
    limit = dict(entry["concurrency_limit"])
    client.create_deployment(
        flow_id=client.create_flow(build),
        name=entry["name"],
        description=entry["description"],
        entrypoint=entry["entrypoint"],
        pull_steps=pull,
        schedules=schedules,
        concurrency_limit=limit.pop("limit"),
        concurrency_options=ConcurrencyOptions.model_validate(limit),
        work_pool_name=entry["work_pool"]["name"],
        job_variables=entry["work_pool"]["job_variables"],
        parameters=entry.get("parameters"),
        parameter_openapi_schema=parameter_schema(build).model_dump_for_openapi(),
        enforce_parameter_schema=entry["enforce_parameter_schema"],
    )


def close_lost_runs(root: Path) -> Iterator[str]:
    """End runs of the pool that a killed worker or machine left open: they would hold up all later ones.

    A build that goes on holds the checkout's build lock; where nobody does, no open run is alive.

    Yields:
        A line for each run.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Crashed

    open_states = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    (root / BUILD_LOCK).parent.mkdir(parents=True, exist_ok=True)
    with (root / BUILD_LOCK).open("a") as lock, get_client(sync_client=True) as client:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for run in client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(open_states),
            work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [POOL]}}),
            sort=FlowRunSort.START_TIME_ASC,  # the server takes no null for these two
            limit=200,
        ):
            client.set_flow_run_state(run.id, Crashed(message="its worker was killed"), force=True)
            yield f"run '{run.name}' is closed: its worker was killed"


def watch(worker: psutil.Process, url: str, patience: float = SERVER_SECONDS) -> None:
    """End a worker once its server has been away for `patience` seconds and no build of it goes on."""
    last = time.monotonic()
    while worker.is_running():
        builds = [child for child in worker.children() if child.pid != os.getpid()]
        if builds or answers(url, 1.0):
            last = time.monotonic()
        if time.monotonic() - last > patience:
            print(f"Prefect's server at {url} is gone: the worker ends", flush=True)
            worker.terminate()
            with suppress(psutil.TimeoutExpired):
                worker.wait(STOP_SECONDS)
            worker.kill()
            return
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    follow_parent(int(sys.argv[1]))
    watch(psutil.Process(int(sys.argv[1])), os.environ["PREFECT_API_URL"])

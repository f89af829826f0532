"""The Prefect flow over DVC's graph: Prefect schedules and shows, DVC decides.

A task a stage. Its final state carries what DVC did: Ran, Restored (from DVC's run-cache) or Unchanged.
A stage that fails leaves the stages below it NotReady; all others finish, and running again goes on there.

Prefect ships flow and task functions to the process of a served run by value, with copies of the objects
that they name. What must be one object a process is therefore reached through its module: `repro.RUNNER`.
"""

from __future__ import annotations

import math
import os
import queue
import re
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from prefect import allow_failure, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts, dag, links, publisher, repro
from flows.gpu import alone
from flows.processes import follow_parent
from flows.profiles import assert_known, selection, switch
from flows.progress import Display, training_epochs
from flows.repro import StoppedError
from flows.server import answers
from flows.worker import SERVED_BY
from stages.core.errors import StageError
from stages.core.params import project_root

Future = PrefectFuture[Any]
UP_TO_DATE = ("Ran", "Restored", "Unchanged")
"""Names of the final states of stages whose outputs are those of the current inputs."""
NOT_READY, NOT_BEGUN = "NotReady", "Not begun"
"""A stage below one that failed, and one that `keep_going=False` kept from beginning."""
SERVER_PATIENCE = 20.0
"""Seconds that a Prefect server may be away at the end of a build, for example because it is started anew."""
TAIL = 12
"""Lines of a failed stage's output that go into the state's message."""


ADVICE = re.compile(
    r"To track the changes|\s*git add |To enable auto staging|\s*dvc config core.autostage|Use `dvc push`"
)
"""What DVC prints after every stage for a person at the keyboard."""


def outcome(stage: str, line: str) -> str | None:
    """What a line of DVC's output says of what it does with a stage, or None."""
    return {
        f"Running stage '{stage}':": "Ran",
        f"Stage '{stage}' is cached - skipping run, checking out outputs": "Restored",
        f"Stage '{stage}' didn't change, skipping": "Unchanged",
        f"'{stage}' didn't change, skipping": "Unchanged",
    }.get(line)


def _another_try() -> bool:
    """Whether Prefect will try the running task again if it raises."""
    context = TaskRunContext.get()
    return context is not None and context.task_run.run_count <= context.task.retries


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, settled: bool, gpu: bool, epochs: int, failed_above: Sequence[str]) -> State:
    """Have DVC bring one stage up to date.

    Args:
        stage: its name in dvc.yaml.
        settled: whether DVC already said that neither the stage nor anything above it changed.
        gpu: whether it needs the GPU for itself.
        epochs: that it trains, 0 where that is not known: for the display of its progress.
        failed_above: stages whose failure leaves this one without inputs.
    Raises:
        StageError: the stage failed and may be tried again.
    """
    if failed_above:
        # Prefect's own NotReady is not a final state: its bar would grow for ever in the UI.
        return Cancelled(name=NOT_READY, message=f"above it failed: {', '.join(failed_above)}")
    if settled:
        return Completed(name="Unchanged", message="nothing changed here or above")
    logger, started = get_run_logger(), time.monotonic()
    did, tail = "Ran", deque[str](maxlen=TAIL)
    try:
        with (
            _gpu(gpu) as held,
            repro.RUNNER.repro(project_root(), stage, held) as process,
            Display(stage, f"progress-{artifacts.slug(stage)}", epochs) as display,
        ):
            for line in map(str.rstrip, process.stdout or ()):
                if line and not ADVICE.match(line):
                    logger.info(line)
                    display.read(line)
                    tail.append(line)
                    did = outcome(stage, line) or did
    except StoppedError:
        return Cancelled(message="the build was stopped before this stage began")
    seconds = time.monotonic() - started
    if process.returncode and repro.RUNNER.stopping:
        return Cancelled(message=f"stopped after {seconds:.1f} s")
    if process.returncode:
        how = f"status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        message = f"{stage} failed after {seconds:.1f} s ({how}):\n" + "\n".join(tail)
        if _another_try():
            raise StageError(message)
        return Failed(message=message)
    return Completed(name=did, message=f"{seconds:.1f} s")


def _gpu(needed: bool) -> AbstractContextManager[tuple[int, ...]]:
    return alone(lambda: repro.RUNNER.stopping, get_run_logger().info) if needed else nullcontext(())


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(promote: bool) -> None:
    """Mirror what the stages recorded to MLflow; with `promote`, offer the lanes' candidates too."""
    logger = get_run_logger()
    publisher.publish(project_root(), promote, say=logger.info, warn=logger.warning)
    publisher.link(project_root(), warn=logger.warning)


def _run_name() -> str:
    """Name of a flow run in the UI: what is built, of which profile, on which commit."""
    root = project_root()
    profile = flow_run.get_parameters().get("profile") or selection(root).profile
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty=+changes"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    patterns = " ".join(flow_run.get_parameters().get("stages") or ["*"])
    return f"{'all stages' if patterns == '*' else patterns}, {profile}, {commit or 'no commit'}"


_THREADS: Any = ThreadPoolTaskRunner()
"""As many threads as tasks are submitted: `dag.ready` decides how many that is."""


@flow(name="build", flow_run_name=_run_name, task_runner=_THREADS, persist_result=False)
def build(
    stages: list[str] | None = None,
    profile: str | None = None,
    workers: int | None = None,
    keep_going: bool = True,
) -> State:
    """Bring stages and all that they need up to date, in parallel where the graph allows it.

    Where another build runs in the checkout, this one waits for it.

    Args:
        stages: names or patterns such as `spine-*`; all stages if none is given.
        profile: switch params.yaml to this one of its profiles first, as `plumbline use` does, and leave it so;
            the active one if not given.
        workers: how many stages run at once, of those with `gpu: true` in their meta only one at a time;
            the number of cores if not given.
        keep_going: after a failure, go on with the stages that do not depend on it.
    """
    if server := os.environ.get(SERVED_BY):
        follow_parent(int(server))
    root, logger = project_root(), get_run_logger()
    workers = workers or len(os.sched_getaffinity(0))
    if profile:
        assert_known(root, profile)
    with (
        repro.RUNNER.exclusive(root, patience=math.inf, say=logger.info),
        publisher.Publisher(root, logger.warning) as news,
    ):
        _heal(root)
        for line in switch(root, profile) if profile else ():
            logger.info(line)
        graph = dag.select(dag.read_graph(root), set(stages or ["*"]))
        try:
            epochs = training_epochs(root / "params.yaml", {n: s.params for n, s in graph.items() if s.stale})
            results = _run_all(graph, epochs, workers, keep_going, news)
        except BaseException:
            repro.RUNNER.stop()
            raise
        finally:
            _heal(root)
    return _conclude(graph, results)


def _heal(root: Path) -> None:
    for line in dag.heal(root):
        get_run_logger().warning(line)


@dataclass(frozen=True)
class Result:
    """How a stage ended. Stages that were not begun have none."""

    future: Future
    state: State
    seconds: float

    @property
    def outcome(self) -> str:
        return self.state.name or self.state.type.name

    @property
    def failed(self) -> bool:
        return self.state.is_failed() or self.state.is_crashed()


def _run_all(
    graph: dag.Graph,
    epochs: Mapping[str, int],
    workers: int,
    keep_going: bool,
    news: publisher.Publisher,
) -> dict[str, Result]:
    """Submit each stage as soon as it may run, and those below a failure too: they say what they miss."""
    settled = dag.unchanged(graph)
    finished: queue.SimpleQueue[str] = queue.SimpleQueue()
    futures: dict[str, Future] = {}
    begun: dict[str, float] = {}
    lost: dict[str, set[str]] = {}
    results: dict[str, Result] = {}

    def submit(name: str) -> None:
        begun[name] = time.monotonic()
        stage_task = run_stage.with_options(retries=graph[name].meta.retries)
        lost[name] = {n for need in graph[name].needs for n in lost[need]}
        futures[name] = stage_task.submit(
            stage=name,
            settled=name in settled,
            gpu=graph[name].meta.gpu,
            epochs=epochs.get(name, 0),
            failed_above=sorted(lost[name]),
            wait_for=[allow_failure(futures[need]) for need in graph[name].needs],
            return_state=False,
        )
        futures[name].add_done_callback(lambda _: finished.put(name))

    for name in graph:
        if name in settled:
            submit(name)
    halted = False
    while True:
        if not halted:
            done = results.keys() | settled
            for name in dag.ready(graph, done, futures.keys() - done, workers):
                submit(name)
        if results.keys() == futures.keys():
            return results
        name = finished.get()
        futures[name].wait()  # without it, Prefect asks the server, which may not have heard yet
        results[name] = Result(futures[name], futures[name].state, time.monotonic() - begun[name])
        if results[name].outcome == "Ran":
            news.notify()
        if results[name].failed:
            lost[name].add(name)
            halted = halted or not keep_going


def _conclude(graph: dag.Graph, results: Mapping[str, Result]) -> State:
    """MLflow and registry, what the UI shows of the build, and the state of the whole."""
    states = {name: results[name].outcome if name in results else NOT_BEGUN for name in graph}
    seconds = {name: round(result.seconds, 1) for name, result in results.items()}
    count = Counter(states.values())
    order = [*UP_TO_DATE, *sorted(count.keys() - set(UP_TO_DATE))]
    summary = f"{len(graph)} stage{'s'[: len(graph) > 1]}: " + ", ".join(
        f"{count[name]} {name}" for name in order if count[name]
    )
    failed = [name for name, result in results.items() if result.failed]
    good = count.keys() <= set(UP_TO_DATE)
    root, strict = project_root(), False
    if not answers(str(PREFECT_API_URL.value()), SERVER_PATIENCE):
        _leave_without_server(root, summary, good)
    if publisher.wanted() and publisher.due(root, changed=bool(count["Ran"] or count["Restored"])):
        needed = {need for stage in graph.values() for need in stage.needs}
        ends = [allow_failure(results[name].future) for name in results.keys() - needed]
        published = publish.submit(promote=good, wait_for=ends, return_state=False)
        published.wait()
        strict = published.state.is_failed()
        if not strict:
            publisher.note(root)
    artifacts.show(root, states, seconds, links.read(root), links.ui_url(root))
    if strict:
        return Failed(message=f"{summary}; MLflow was not brought up to date (MLFLOW_STRICT=1)")
    if not good:
        return Failed(message=f"{summary}; failed: {', '.join(failed) or 'none'}")
    return Completed(message=summary)


def _leave_without_server(root: Path, summary: str, good: bool) -> NoReturn:
    """End the process of a build whose Prefect server has gone: Prefect would go on asking it for minutes."""
    warn = get_run_logger().warning
    if publisher.wanted():
        publisher.publish(root, promote=good, say=print, warn=warn)
    print(f"{summary}; Prefect's server is gone and was not told", flush=True)
    sys.stderr.flush()
    os._exit(0 if good else 1)

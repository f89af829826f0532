"""Independent pieces of work on Dask workers: what `pool.map_unordered` does where `PLUMBLINE_DASK` is set.

Workers see the checkout at the same path (a shared file system), run its code, and have one thread each.
"""

from __future__ import annotations

import os
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import stages
from stages.core.data.pool import Outcome, single_thread, work_on
from stages.core.errors import StageError

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")

_CONNECT_SECONDS = 20
_PATIENCE_SECONDS = 60.0
"""How long to wait for a worker where there is none: a nanny needs some seconds to start one again."""
_LOOK_SECONDS = 0.25
"""How often to look whether workers and client are still there."""


def map_unordered(
    address: str, function: Callable[[Item], Result], items: Sequence[Item], group: int
) -> Iterator[tuple[int, Result]]:
    """Yield (index, function(item)) of all items as they finish; see `pool.map_unordered`.

    Args:
        address: of a scheduler (`tcp://host:8786`), or `local:N` for N worker processes that end with the call.
    Raises:
        StageError: no scheduler or no worker answers, workers are not fit, or one item ended several of them.
    """
    if not items:
        return
    with _connected(address) as client:
        import cloudpickle

        place = _Place(os.getcwd(), _code())
        waiting: dict[Future[Outcome[Result]], int] = {}
        finished: SimpleQueue[Future[Outcome[Result]]] = SimpleQueue()
        todo = iter(range(0, len(items), group))
        crew = _Crew(client, address)

        def under_way() -> str:
            return ", ".join(str(x) for s in sorted(waiting.values()) for x in items[s : s + group])

        try:
            while True:
                bound = 2 * crew.count(under_way)
                while len(waiting) < bound and (start := next(todo, None)) is not None:
                    # As bytes: a worker that cannot unpickle what the scheduler sends would end.
                    work = cloudpickle.dumps((function, items[start : start + group]))
                    future = client.submit(_work_there, place, work, pure=False)
                    waiting[future] = start
                    future.add_done_callback(finished.put)
                if not waiting:
                    return
                try:
                    future = finished.get(timeout=_LOOK_SECONDS)
                except Empty:
                    continue
                start = waiting[future]
                outcome = _result(future, under_way, address)
                del waiting[future]
                yield from enumerate(outcome.results, start)
                if outcome.error is not None:
                    raise outcome.error
        finally:
            client.cancel(list(waiting))


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise StageError(
            f"PLUMBLINE_DASK is {address}, but the package `distributed` is not installed: install it or unset it"
        ) from None
    if local := re.fullmatch(r"local:([1-9]\d*)", address):
        # A limit would count the pages of memory-mapped films, and end workers that use little of their own.
        size: dict[str, Any] = {"n_workers": int(local[1]), "threads_per_worker": 1, "memory_limit": 0}
        with (
            LocalCluster(**size, dashboard_address="127.0.0.1:0") as cluster,
            closing(Client(cluster, set_as_default=False)) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise StageError(
            f"no Dask scheduler answers at PLUMBLINE_DASK={address} ({error}): start one with `dask scheduler`, "
            "say `local:2` for two processes here, or unset it"
        ) from None
    with closing(client):
        yield client


class _Crew:
    """The workers as they come and go."""

    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address, self._last_seen = client, address, time.monotonic()

    def count(self, under_way: Callable[[], str]) -> int:
        """How many workers there are now.

        Args:
            under_way: items to name where all workers are gone: one of them may have ended the last.

        Raises:
            StageError: none for a while, the scheduler is gone, or some run several pieces of work at once:
                those would share seeds, thread limits and OpenCV's state.
        """
        while True:
            with _contact(self._address):
                threads = self._client.nthreads()
            if several := sorted(worker for worker, n in threads.items() if n > 1):
                raise StageError(
                    f"Dask workers with several threads: {', '.join(several)}. Start them with --nthreads 1"
                )
            if threads:
                self._last_seen = time.monotonic()
                return len(threads)
            if time.monotonic() - self._last_seen > _PATIENCE_SECONDS:
                raise StageError(
                    f"the Dask scheduler at {self._address} has had no worker for {_PATIENCE_SECONDS:.0f} s"
                    f"{'; under way were: ' + lost if (lost := under_way()) else ''}. What was finished "
                    f"is kept; start workers with `dask worker {self._address} --nthreads 1` in this checkout's "
                    "environment (others end at once) and run again."
                )
            time.sleep(_LOOK_SECONDS)


def _result(future: Future[Outcome[Result]], under_way: Callable[[], str], address: str) -> Outcome[Result]:
    from distributed import KilledWorker

    try:
        with _contact(address):
            outcome: Outcome[Result] = future.result()
            return outcome
    except KilledWorker:
        raise StageError(
            f"several Dask workers died, perhaps for lack of memory, while at one of: {under_way()}. "
            "What was finished is kept; run again with fewer workers a machine, or with that file taken away."
        ) from None


@contextmanager
def _contact(address: str) -> Iterator[None]:
    """Around every exchange with the scheduler."""
    try:
        yield
    except (CancelledError, OSError) as error:
        raise StageError(
            f"lost the Dask scheduler at {address} ({type(error).__name__}). What was finished is kept; run again."
        ) from None


@dataclass(frozen=True)
class _Place:
    """Where the work belongs: the folder that relative paths start from, and the package `stages`."""

    folder: str
    code: str


def _code() -> str:
    return str(Path(stages.__path__[0]).resolve())


def _work_there(place: _Place, work: bytes) -> Outcome[Any]:
    """On a worker: `work_on` as it would run in the stage's own process."""
    if _code() != place.code:
        raise StageError(
            f"a Dask worker runs the code in {_code()}, not {place.code}: start workers in this checkout's environment"
        )
    try:
        os.chdir(place.folder)
    except OSError as error:
        raise StageError(
            f"a Dask worker cannot enter {place.folder} ({error.strerror}): workers need the checkout at the same "
            "path, on a file system that all share"
        ) from None
    single_thread()
    function, items = pickle.loads(work)
    with _ending_when_unwanted():
        return work_on(function, items)


@contextmanager
def _ending_when_unwanted() -> Iterator[None]:
    """End this worker when nobody waits for its task any more, as where the stage was killed.

    A thread cannot be stopped, and one that went on would write beside the next run; a nanny starts the
    worker again.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            task = worker.state.tasks.get(key)
            unwanted = task is None or task.state == "cancelled"
            if unwanted and not done.is_set():
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()

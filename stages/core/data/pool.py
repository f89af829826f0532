"""Independent pieces of work on all cores, with bounded memory and without orphans."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Generic, TypeVar

from stages.core.errors import StageError

Item = TypeVar("Item")
Result = TypeVar("Result")

DASK = "PLUMBLINE_DASK"
"""Environment variable: where work is done instead, see `cluster`. No parameter, since it changes no result."""


def worker_count(workers: int, items: int) -> int:
    """How many processes to use: `workers`, or one a usable core where it is 0; never more than items."""
    wanted = workers if workers > 0 else len(os.sched_getaffinity(0))
    return max(1, min(wanted, items))


def map_unordered(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, group: int = 1
) -> Iterator[tuple[int, Result]]:
    """Yield (index, function(item)) of all items as they finish.

    At most two groups of items a worker are under way or waiting to be taken, so memory does not grow with
    the number of items. With one worker everything runs here. `function` and items must pickle, and a result
    must depend on its item alone: then the number of workers changes nothing but time.

    Args:
        group: items that are sent to a worker at once. Handing one over takes this process about 0.5 ms,
            which counts where the work on an item takes a few; results come a group at a time.
    Raises:
        StageError: where a worker died (mostly: the system ended it for lack of memory); names its items.
    """
    if address := os.environ.get(DASK):
        from stages.core.data import cluster

        yield from cluster.map_unordered(address, function, items, group)
        return
    count = worker_count(workers, len(items))
    # Before the workers fork: a child that ends OpenCV threads which it does not have waits for ever.
    single_thread()
    if count == 1:
        for index, item in enumerate(items):
            yield index, function(item)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("fork"), initializer=_start_worker) as pool:
        waiting: dict[Future[Outcome[Result]], int] = {}
        todo = iter(range(0, len(items), group))
        try:
            while True:
                while len(waiting) < 2 * count and (start := next(todo, None)) is not None:
                    waiting[pool.submit(work_on, function, items[start : start + group])] = start
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    yield from enumerate(outcome.results, waiting.pop(future))
                    if outcome.error is not None:
                        raise outcome.error
        except BrokenProcessPool:
            lost = ", ".join(str(x) for s in sorted(waiting.values()) for x in items[s : s + group])
            raise StageError(
                f"a worker process died, perhaps for lack of memory, while at one of: {lost}. What was "
                "finished is kept; run again with fewer workers, or with that file taken away."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Results of a group of items up to its end or to the first error."""

    results: list[Result]
    error: Exception | None


def work_on(function: Callable[[Item], Result], items: Sequence[Item]) -> Outcome[Result]:
    """What a worker does with a group of items."""
    results: list[Result] = []
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:
            error.add_note(traceback.format_exc())  # a traceback does not pickle
            return Outcome(results, error)
    return Outcome(results, None)


def single_thread() -> None:
    """OpenCV in one thread: the cores are taken by processes, and results do not depend on their number."""
    import cv2

    cv2.setNumThreads(1)


def _start_worker() -> None:
    from stages.core.lifeline import end_with_parent

    end_with_parent()

"""Several processes that train one network together, each on its own piece of every batch.

A stage puts what trains into a function of its own and lets `launch` call it:

    def run(params: Params, films: Path, output: Path, observe: Observer) -> dict[str, float]:
        trained = distributed.launch(params.world_size, params.device, train_files, params, films, observe)
        save_model(output, trained)

    def train_files(params: Params, films: Path, observe: Observer) -> ...:    # calls trainer.fit; writes nothing

`train_files` runs once in each process with the same arguments; `run` goes on in the first one only, the
leader, which alone observes and writes. With `world_size` 1 this is a plain call. With more, the stage's
process is the leader and starts the others, on this machine. A stage that was started by

    torchrun --nproc-per-node 2 -m stages.spine.refiner ...

uses the processes that are there, on one machine or several: the others end inside `launch`, so that a stage
can call it once only. Gradients travel by gloo between CPUs and by NCCL between CUDA devices, one a process.
`threads` is a number for each process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from stages.core.errors import StageError
from stages.core.lifeline import end_with_parent
from stages.core.stage import Observer
from stages.core.train.team import PATIENCE, RankLostError, meet, membership, under_torchrun

Value = TypeVar("Value")

_LOOPBACK = "127.0.0.1"
_GRACE_SECONDS = 5.0
"""from a process's death until the leader must have noticed"""
_LOST = 3
"""exit status of a process that only noticed that another one was gone"""


def launch(world_size: int, device: str, target: Callable[..., Value], *arguments: Any) -> Value:
    """Call `target(*arguments)` in `world_size` processes that form a team; see the module's docstring.

    Args:
        world_size: part of the result, like a seed: other pieces give other sums.
        device: as in params.yaml; where there are several processes, `cpu` or `cuda`.
        target: a function of a module, not a closure; it and the arguments must pickle. All but the leader
            get a silent copy of an Observer.
    Returns:
        What the leader's call returned. Under torchrun the other processes leave by SystemExit instead.
    Raises:
        StageError: of `target`; or a world size that does not fit device or torchrun; or a process that
            failed or died, saying which and why.
    """
    _check(world_size, device)
    if under_torchrun():
        return _under_outer_torchrun(target, arguments, device)
    if world_size == 1:
        return target(*arguments)
    return _with_followers(world_size, device, target, arguments)


def _check(world_size: int, device: str) -> None:
    if world_size < 1:
        raise StageError(f"world_size must be at least 1, not {world_size}")
    if under_torchrun() and int(os.environ["WORLD_SIZE"]) != world_size:
        raise StageError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, but world_size in params.yaml is "
            f"{world_size}, and it decides the result: make both the same"
        )
    if world_size == 1:
        return
    if device not in ("cpu", "cuda"):
        raise StageError(
            f"world_size is {world_size} and device '{device}'; several processes need cpu or cuda"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    if device == "cuda" and torch.cuda.device_count() < here:
        raise StageError(
            f"world_size is {world_size}, with {here} processes here, but there are {torch.cuda.device_count()} "
            "CUDA devices; each process needs its own"
        )


def _under_outer_torchrun(target: Callable[..., Value], arguments: Sequence[Any], device: str) -> Value:
    with membership(device, init_method="env://"):
        leads = dist.get_rank() == 0
        result = target(*arguments) if leads else target(*map(_silent, arguments))
        meet()
    if not leads:
        raise SystemExit(0)
    return result


def _with_followers(
    world_size: int, device: str, target: Callable[..., Value], arguments: Sequence[Any]
) -> Value:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # The store picks a free port itself: one that was looked up before could be taken meanwhile.
    store = dist.TCPStore(_LOOPBACK, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    followers = _Followers(world_size, device, store.port, target, arguments)
    try:
        with membership(device, store=store, rank=0, world_size=world_size):
            result = target(*arguments)
            meet()
        followers.let_go()
        return result
    except RankLostError:
        raise StageError(followers.what_happened()) from None
    finally:
        followers.end()


class _Followers:
    """The processes of ranks 1 and up, as the leader that started them sees them."""

    def __init__(
        self, world_size: int, device: str, port: int, target: Callable[..., Any], arguments: Sequence[Any]
    ) -> None:
        context = get_context("spawn")  # a fork would copy torch's threads and CUDA's state in any condition
        self._finished = threading.Event()
        self._asking = threading.Lock()  # a status can be asked once: who asks meanwhile would hear of none
        self._reports: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        for rank in range(1, world_size):
            report, sender = context.Pipe(duplex=False)
            place = _Place(rank, world_size, device, port, os.getpid())
            process = context.Process(
                target=_follow, args=(place, sender, target, [_silent(a) for a in arguments]), daemon=True
            )
            process.start()
            sender.close()
            self._reports.append(report)
            self._processes.append(process)
        threading.Thread(target=self._watch, daemon=True).start()

    def what_happened(self) -> str:
        """Which process failed, and why; waits a moment for one that is just ending."""
        wait([p.sentinel for p in self._processes], timeout=_GRACE_SECONDS)
        last = len(self._processes)
        with self._asking:
            for rank, (process, report) in enumerate(zip(self._processes, self._reports, strict=True), 1):
                process.join(0.5)
                if reason := _reason(process.exitcode, report):
                    return f"process {rank} of 0 to {last} that train together {reason}"
        return f"the {last + 1} processes that train together lost contact; run again"

    def let_go(self) -> None:
        """Wait for those that have done their work to end."""
        self._finished.set()
        for process in self._processes:
            with self._asking:
                process.join(_GRACE_SECONDS)

    def end(self) -> None:
        """End those that still run."""
        self._finished.set()
        with self._asking:
            for process in self._processes:
                process.kill()
                process.join()

    def _watch(self) -> None:
        """End the leader where a process died and nothing else makes it notice: NCCL waits for ever."""
        alive = list(self._processes)
        while alive and not self._failed():
            wait([p.sentinel for p in alive])
            with self._asking:
                alive = [p for p in alive if p.is_alive()]
        if not self._finished.wait(_GRACE_SECONDS) and self._failed():
            print(f"ERROR: {self.what_happened()}", file=sys.stderr, flush=True)
            os._exit(1)

    def _failed(self) -> bool:
        with self._asking:
            return any(p.exitcode not in (None, 0) for p in self._processes)


def _reason(status: int | None, report: Connection) -> str:
    """What a process did where it failed by itself, else ""."""
    with suppress(EOFError):
        if report.poll():
            return f"stopped: {report.recv()}"
    if status is not None and status < 0:
        return (
            f"was ended by {signal.Signals(-status).name}, perhaps for lack of memory. "
            "Finished epochs are kept in the checkpoint: run again"
        )
    return f"ended with status {status}: see its message above" if status not in (None, 0, _LOST) else ""


@dataclass(frozen=True)
class _Place:
    """Where a follower belongs; `leader` is a process number."""

    rank: int
    world_size: int
    device: str
    port: int
    leader: int


def _follow(place: _Place, report: Connection, target: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """The whole life of a process of rank 1 or up."""
    end_with_parent()
    if os.getppid() != place.leader:
        sys.exit(1)
    os.environ["LOCAL_RANK"] = str(place.rank)
    store = dist.TCPStore(_LOOPBACK, place.port, is_master=False, timeout=PATIENCE)
    try:
        with membership(place.device, store=store, rank=place.rank, world_size=place.world_size):
            target(*arguments)
            meet()
    except RankLostError:
        sys.exit(_LOST)
    except StageError as error:
        report.send(str(error))
        sys.exit(1)
    except Exception:
        report.send(traceback.format_exc())
        sys.exit(1)


def _silent(argument: Any) -> Any:
    return Observer.quiet(argument._scratch, argument.key) if isinstance(argument, Observer) else argument

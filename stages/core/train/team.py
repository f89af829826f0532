"""The processes that train one network together, as one of them sees the others.

`current()` is the team of this process: of one process, unless `distributed.launch` started several. In a
team of one every exchange is the identity.
"""

from __future__ import annotations

import datetime
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.core.errors import StageError

Value = TypeVar("Value")

PATIENCE = datetime.timedelta(days=1)
"""how long a process waits for the others; the leader validates alone. One that dies shows at once"""
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class RankLostError(StageError):
    """Another process of the team does not answer any more."""


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees it. Every method is called by all of them."""

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def stream(self) -> tuple[int, ...]:
        """Tells the random numbers of a process from those of the others; () where there is one only."""
        return () if self.size == 1 else (1 + self.rank,)

    def own_piece(self, samples: np.ndarray) -> np.ndarray:
        """This process's piece of a batch; sizes differ by at most one."""
        return np.array_split(samples, self.size)[self.rank]

    def from_leader(self, value: Value) -> Value:
        """The leader's value in all processes; its tensors arrive on the CPU."""
        if self.size == 1:
            return value
        buffer = io.BytesIO()
        torch.save(value if self.leads else None, buffer)
        box = [buffer.getvalue()]
        with _contact():
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if self.leads:
            return value
        return torch.load(io.BytesIO(box[0]), map_location="cpu", weights_only=False)

    def average_gradients(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Replace gradients by their sum over processes, each times its `weight`; weights sum to 1.

        A parameter without a gradient in some processes gets that of the others.
        """
        if self.size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad * weight for p in parameters]
        present = torch.tensor([float(p.grad is not None) for p in parameters]).to(gradients[0])
        flat = torch.cat([present, *[g.reshape(-1) for g in gradients]])
        self._sum_in_place(flat)
        pieces = flat[len(present) :].split([p.numel() for p in parameters])
        exists = (flat[: len(present)] > 0).tolist()
        for parameter, piece, anywhere in zip(parameters, pieces, exists, strict=True):
            parameter.grad = piece.view_as(parameter).clone() if anywhere else None

    def average_buffers(self, model: nn.Module, average: Mapping[str, Tensor] | None) -> None:
        """Replace running statistics, and their own running averages, by the mean over processes.

        Where all processes hold the same value, it stays to the bit.
        """
        kept = model.state_dict().keys()
        buffers = {n: b for n, b in model.named_buffers() if n in kept and b.is_floating_point()}
        if self.size == 1 or not buffers:
            return
        holders = [*buffers.values(), *([average[name] for name in buffers] if average is not None else [])]
        own = torch.cat([h.detach().reshape(-1) for h in holders])
        base = own.clone()
        with _contact():
            dist.broadcast(base, src=0)
        mean = base + self._sum_in_place(own - base) / self.size
        with torch.no_grad():
            for holder, piece in zip(holders, mean.split([h.numel() for h in holders]), strict=True):
                holder.copy_(piece.view_as(holder))

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Named scalars, summed over processes."""
        if self.size == 1 or not values:
            return dict(values)
        total = self._sum_in_place(torch.stack(list(values.values())))
        return dict(zip(values, total, strict=True))

    def _sum_in_place(self, tensor: Tensor) -> Tensor:
        with _contact():
            dist.all_reduce(tensor)
        return tensor


def current() -> Team:
    """The team that this process belongs to; one of its own outside `distributed.launch`.

    Raises:
        StageError: started by torchrun, but not by way of `launch`: every process would train all alone.
    """
    if dist.is_initialized():
        return Team(dist.get_rank(), dist.get_world_size())
    if under_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
        raise StageError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes of a stage that trains in one: "
            "start it without torchrun"
        )
    return Team(0, 1)


def own_device(device: str) -> str:
    """The device of this process: `cuda` is one a process where several train together."""
    if device == "cuda" and dist.is_initialized():
        return f"cuda:{_local_rank()}"
    return device


def under_torchrun() -> bool:
    return all(name in os.environ for name in _TORCHRUN)


@contextmanager
def membership(device: str, **how: Any) -> Iterator[None]:
    """Membership in the team, which ends however the block ends."""
    if device == "cuda":
        torch.cuda.set_device(_local_rank())
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    with _contact():
        dist.init_process_group(backend, timeout=PATIENCE, **how)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _contact() -> Iterator[None]:
    """Around every exchange: torch reports a lost process as one of many runtime errors."""
    try:
        yield
    except RuntimeError as error:
        raise RankLostError(
            f"lost contact to the other processes that train; look at their messages ({error})"
        ) from error


def meet() -> None:
    """Wait until all are here; none may take its end of a connection away before."""
    with _contact():
        dist.all_reduce(torch.zeros(1))


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))

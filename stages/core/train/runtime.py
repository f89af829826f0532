"""What makes a run of torch repeat itself: device, threads, deterministic kernels and seeds."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from stages.core.errors import StageError
from stages.core.train import team

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_GLOBAL_STREAM = 0
"""Spawn key of the libraries' global generators, so that they never share numbers with a named stream."""


def prepare(device: str, threads: int, seed: int) -> torch.device:
    """Set threads, deterministic kernels and all global seeds, and return the device to work on.

    Args:
        device: `cpu`, `cuda`, `cuda:1` or `mps`, as in params.yaml. Never chosen silently: other hardware
            gives other bytes. Of several processes that train together, each gets its own `cuda`.
        threads: size of torch's thread pool; sums in another order give other bytes.
        seed: see `seed_everything`.
    Raises:
        StageError: the device does not exist here; the message names those that do.
    """
    chosen = find_device(team.own_device(device))
    if threads < 1:
        raise StageError(f"threads must be at least 1, not {threads}")
    torch.set_num_threads(threads)
    if chosen.type == "cuda":
        # cuBLAS reads this when its first handle is made, which is after this call.
        os.environ.setdefault(_CUBLAS, ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    # It would also clear all fresh memory, a quarter of a training step on a CPU; nothing here reads it unset.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    seed_everything(seed)
    return chosen


def find_device(name: str) -> torch.device:
    """The torch device called `name`; StageError, naming what exists, where there is none."""
    existing = available_devices()
    accepted = {*existing, "cuda"} if "cuda:0" in existing else set(existing)
    if name not in accepted:
        raise StageError(
            f"device '{name}' does not exist here; there is {', '.join(existing)}. "
            "Set `device` in params.yaml (or the profile) to one of these"
        )
    return torch.device(name)


def available_devices() -> list[str]:
    """Names of this machine's devices: `cpu` first, then accelerators."""
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def seed_everything(seed: int, *stream: int) -> None:
    """Seed the global generators of Python, NumPy and torch from `seed` and a stream (say, an epoch)."""
    first, second, third = np.random.SeedSequence(
        [seed, *stream], spawn_key=(_GLOBAL_STREAM,)
    ).generate_state(3)
    random.seed(int(first))
    np.random.seed(int(second))
    torch.manual_seed(int(third))


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A generator of its own for `seed` and a stream of integers; equal arguments give equal numbers."""
    return np.random.default_rng(np.random.SeedSequence([seed, *stream], spawn_key=(_GLOBAL_STREAM + 1,)))

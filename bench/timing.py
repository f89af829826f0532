"""Fair timing of two ways to do the same work."""

from __future__ import annotations

import time
from collections.abc import Callable


def times_in_turn(
    plain: Callable[[], object], ours: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Least seconds of both, measured in turn, so that a busy machine slows both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, taken in zip((plain, ours), times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])

"""How many clicks films need; apart from the loop, so that a report needs no torch."""

from __future__ import annotations

import numpy as np


def clicks_needed(errors: np.ndarray, target: float) -> tuple[float, float]:
    """(NoC, FR): mean number of clicks until a film's error is at most `target`, and the share that never is.

    Args:
        errors: (C + 1, N) mean error of each film after 0 to C clicks; a film that fails counts C clicks.
    """
    reached = errors <= target
    first = np.where(reached.any(0), reached.argmax(0), len(errors) - 1)
    return float(first.mean()), float((~reached.any(0)).mean())

"""Evaluations of clicks, rounds and risk with known outcomes, for tests of what is told about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stages.spine.looping.session import Session
from stages.spine.report_loop import COURSES

ROUND_COLUMNS = (
    *("round", "films_flagged", "films_changed", "flagged", "fixed", "broken", "net"),
    *("error_before_raw_px", "error_after_raw_px"),
)
ROUNDS = ((1, 5, 4, 30, 20, 6, 14, 40.0, 36.0), (2, 3, 2, 12, 4, 4, 0, 36.0, 35.0))
RISK = {
    "prevalence": 0.25,
    "pr_auc_detector": 0.7,
    "pr_auc_peak": 0.3,
    "pr_auc_spread": 0.5,
    "precision_at_threshold": 0.8,
    "recall_at_threshold": 0.6,
}


def write_session(
    evaluation: Path,
    ids: list[str],
    clicks: int = 6,
    loop: float = -8.0,
    per_click: tuple[float, float, float] = (-5.0, -4.0, -0.5),
    rounds: tuple[tuple[float, ...], ...] = ROUNDS,
    risk: dict[str, float] = RISK,
) -> None:
    """Clicks, rounds and risk of the films `ids`, whose Refiner is off by 40 to 45 raw px at first.

    Args:
        loop: what the loop changes at 0 clicks, raw px.
        per_click: what each click changes with the loop, by the Refiner alone, and by hand.
    """
    rng = np.random.default_rng(3)
    first = rng.uniform(40, 45, len(ids))
    start = {"loop": loop, "refiner": 0.0, "manual": 0.0, "oracle_detector": loop - 2}
    start |= {"oracle_corrector": loop - 5, "oracle_both": loop - 15}
    each = dict(zip(COURSES, per_click, strict=True))
    parts = []
    for method, change in start.items():
        for count in range(clicks + 1 if method in each else 1):
            error = first + change + count * each.get(method, 0.0)
            error = error + (rng.uniform(-1, 1, len(ids)) if change else 0.0)
            columns = {"id": ids, "method": method, "clicks": count, "error_raw_px": error}
            parts.append(pd.DataFrame({**columns, "error_unpasted_raw_px": error + 1}))
    told = pd.DataFrame(rounds, columns=list(ROUND_COLUMNS))
    Session(pd.concat(parts), told, {}).write(evaluation)
    pd.DataFrame(risk.items(), columns=["name", "value"]).to_csv(evaluation / "risk.csv", index=False)

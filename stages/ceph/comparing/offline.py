"""An offline A/B test of any two model folders: both answer the same films, and the same judge compares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from stages.ceph.comparing.answers import JudgedTables, SideBySide, side_by_side
from stages.ceph.comparing.paired import Guardrails, Outcome, compare_models
from stages.ceph.evaluation.films import Answers, JudgedFilms
from stages.ceph.evaluation.judge import judge_films, judge_points, radial_table
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap

ON_TRIAL, IN_USE = "on trial", "in use"


def compare_folders(
    a: Path,
    b: Path,
    films: Sequence[JudgedFilms],
    role: str,
    guardrails: Guardrails,
    bootstrap: Bootstrap,
    seed: int,
) -> tuple[Outcome, SideBySide]:
    """Let the models in the folders `a` (on trial) and `b` (in use) answer films with known truth, and compare them.

    Args:
        films: film stores with their truth, for example `JudgedFilms.of_base(films, split)`.
        role: of the films that count.
    Raises:
        StageError: a folder holds no model of this lane, a store's films are of another size than it reads, or
            there are no films of the role.
    """
    from stages.ceph.locating.model import TrainedCeph

    if not any((part.data.roles[part.rows] == role).any() for part in films):
        raise StageError(f"an A/B test needs films with known truth, and there are none of the role {role}")
    opened = {ON_TRIAL: (TrainedCeph.open(a), a), IN_USE: (TrainedCeph.open(b), b)}
    answers = [
        (part, method, part.asked(model, folder))
        for method, (model, folder) in opened.items()
        for part in films
    ]

    def judged(judge: Callable[[JudgedFilms, str, Answers], pd.DataFrame]) -> pd.DataFrame:
        rows = [judge(part, method, found).assign(set=part.name) for part, method, found in answers]
        return pd.concat(rows, ignore_index=True)

    every = JudgedTables(judged(judge_films), judged(judge_points), judged(radial_table))
    pair = side_by_side(every, role, ON_TRIAL, IN_USE)
    return compare_models(pair, guardrails, bootstrap, seed), pair

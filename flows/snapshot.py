"""The results table of the README, made from the evaluations that lie under reports/."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flows.lanes import LANES

HEADER = "| data set | test set | method | error | model minus method (95 % interval) | verdict |"
RULE = "|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Headline:
    """Which numbers of a lane's evaluate.json the table shows. `{}` stands for a floor's name."""

    error: str
    low: str
    high: str
    floor: str
    unit: str
    test_set: str


HEADLINES = {
    "spine": Headline(
        "mre_raw_px@0", "mre_raw_px_low", "mre_raw_px_high", "{}_mre_raw_px", "raw px", "{n_films} films"
    ),
    "chest": Headline(
        "mean_px224", "mean_px224_low", "mean_px224_high", "{}_mean_px224", "px at 224", "{n_films} films"
    ),
    "pose": Headline(
        "sim_mean_abs_dz_cm",
        "sim_mean_abs_dz_cm_low",
        "sim_mean_abs_dz_cm_high",
        "{}_sim_mean_abs_dz_cm",
        "cm depth, simulated estimator",
        "{n_views} views, {n_groups} dancers or sequences",
    ),
}


def snapshot(root: Path) -> str:
    """A Markdown table of every lane that has been evaluated: the model, and each floor paired with it."""
    rows = [row for lane in LANES for row in _rows(root, lane)]
    return "\n".join([HEADER, RULE, *rows])


def _rows(root: Path, lane: str) -> Iterator[str]:
    reports = root / "reports" / lane
    if not (reports / "evaluate.json").is_file() or not (root / LANES[lane].model / "card.json").is_file():
        return
    said, metrics = HEADLINES[lane], json.loads((reports / "evaluate.json").read_text(encoding="utf-8"))
    card = json.loads((root / LANES[lane].model / "card.json").read_text(encoding="utf-8"))
    name, test_set = f"{lane}-{card['dataset']} `{card['key'][:8]}`", said.test_set.format(**metrics)
    interval = "no interval"
    if metrics.get(said.low) is not None:
        interval = f"{metrics[said.low]:.2f} to {metrics[said.high]:.2f}"
    yield f"| {name} | {test_set} | **model** | **{metrics[said.error]:.2f}** {said.unit} ({interval}) | | |"
    compared = pd.read_csv(reports / "evaluation" / "comparison.csv")
    compared = compared[(compared["role"] == "test") & (compared["error"] == compared["error"].iloc[0])]
    for row in compared.to_dict("records"):
        floor = metrics[said.floor.format(row["method_b"])]
        between = "" if math.isnan(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
        change = f"{row['mean_difference']:+.2f}{between}"
        yield f"| | | {row['method_b'].replace('_', ' ')} | {floor:.2f} | {change} | {row['verdict']} |"

"""The results table of the README, made from the evaluations that lie under reports/.

In README.md it stands between `<!-- snapshot:PROFILE -->` and `<!-- /snapshot -->`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flows.lanes import Lane, known_lanes
from flows.profiles import selection
from stages.core.errors import StageError

HEADER = (
    "| data set | test set | method | error | model minus method (95 % interval) | verdict | again with |"
)
RULE = "|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Headline:
    """Which numbers of a lane's evaluate.json the table shows. `{}` stands for a floor's name."""

    error: str
    low: str
    high: str
    floor: str
    unit: str
    test_set: str
    folder: str = "."
    """below the lane's evaluation"""


HEADLINES = {
    "spine": Headline(
        "mre_raw_px", "mre_raw_px_low", "mre_raw_px_high", "{}_mre_raw_px", "raw px", "{n_films} films"
    ),
    "chest": Headline(
        "mean_px224", "mean_px224_low", "mean_px224_high", "{}_mean_px224", "px at 224", "{n_films} films"
    ),
    "ceph": Headline(
        "test_tuned_mre_mm",
        "test_tuned_mre_mm_low",
        "test_tuned_mre_mm_high",
        "test_{}_mre_mm",
        "mm, after the round",
        "{test_tuned_n_films} films",
        "base",
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

DESCRIBED = Headline(
    "mean_percent_extent",
    "mean_percent_extent_low",
    "mean_percent_extent_high",
    "{}_mean_percent_extent",
    "% of extent",
    "{n_films} films",
)
"""of a lane by description"""


CLICKS = (0, 1, 2, 3, 5, 10)
COURSES = {
    "": "Refiner",
    "_loop": "with Detector and Corrector",
    "_manual": "clicked points corrected by hand",
}
"""ending of a metric mre_raw_px...@K -> what it is called"""


def has_results(root: Path) -> bool:
    """Whether any lane has been evaluated."""
    return any((root / "reports" / lane / "evaluate.json").is_file() for lane in known_lanes(root))


def snapshot(root: Path) -> str:
    """Markdown: every evaluated lane's model with each floor paired with it, and what clicks are worth.

    Says the profile, the keys of the models and the command that makes each row again.
    """
    rows = [row for lane in known_lanes(root).values() for row in _rows(root, lane)]
    said = f"Profile `{selection(root).profile}`: `make repro`, written here by `plumbline snapshot --write`."
    return "\n".join([said, "", HEADER, RULE, *rows, *_clicks(root)])


def write(root: Path) -> str:
    """Put the snapshot into README.md, between the marks of the active profile; returns what was done.

    Raises:
        StageError: README.md has no such marks.
    """
    profile, file = selection(root).profile, root / "README.md"
    text = file.read_text(encoding="utf-8")
    start, end = f"<!-- snapshot:{profile} -->\n", "<!-- /snapshot -->"
    before, opened, rest = text.partition(start)
    old, closed, after = rest.partition(end)
    if not (opened and closed):
        raise StageError(
            f"README.md has no place for the profile {profile}: put `{start.strip()}` and `{end}` around it"
        )
    new = f"{snapshot(root)}\n"
    if new == old:
        return f"README.md has the results of the profile {profile} already"
    partial = file.with_name("README.md.partial")
    partial.write_text(before + start + new + end + after, encoding="utf-8")
    partial.replace(file)
    return f"wrote the results of the profile {profile} to README.md"


def _clicks(root: Path) -> Iterator[str]:
    """Mean error of the spine lane's test films after clicks of an oracle user on the worst point."""
    file = root / "reports" / "spine" / "evaluate.json"
    metrics = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    shown = [count for count in CLICKS if f"mre_raw_px@{count}" in metrics]
    if not shown:
        return
    yield ""
    yield f"| spine, raw px after clicks | {' | '.join(map(str, shown))} |"
    yield f"|---|{'---|' * len(shown)}"
    for ending, title in COURSES.items():
        cells = [f"{metrics[f'mre_raw_px{ending}@{count}']:.1f}" for count in shown]
        yield f"| {title} | {' | '.join(cells)} |"
    for ending in ("", "_loop"):
        cells = [f"{100 * metrics[f'slipped_share{ending}@{count}']:.0f} %" for count in shown]
        yield f"| films displaced by over half a vertebra, {COURSES[ending]} | {' | '.join(cells)} |"


def _rows(root: Path, lane: Lane) -> Iterator[str]:
    reports = root / "reports" / lane.name
    if not (reports / "evaluate.json").is_file() or not (root / lane.model / "card.json").is_file():
        return
    said, metrics = (
        HEADLINES.get(lane.name, DESCRIBED),
        json.loads((reports / "evaluate.json").read_text(encoding="utf-8")),
    )
    card = json.loads((root / lane.model / "card.json").read_text(encoding="utf-8"))
    name, test_set = f"{lane.name}-{card['dataset']} `{card['key'][:8]}`", said.test_set.format(**metrics)
    interval = "no interval"
    if metrics.get(said.low) is not None:
        interval = f"{metrics[said.low]:.2f} to {metrics[said.high]:.2f}"
    shown = f"**{metrics[said.error]:.2f}** {said.unit} ({interval})"
    yield f"| {name} | {test_set} | **model** | {shown} | | | `dvc repro {lane.name}-evaluate` |"
    compared = pd.read_csv(reports / "evaluation" / said.folder / "comparison.csv")
    first = compared.iloc[0]  # the lane's model and its main error come first
    compared = compared[(compared["role"] == "test") & (compared["error"] == first["error"])]
    compared = compared[compared["method_a"] == first["method_a"]]
    for row in compared.to_dict("records"):
        floor = metrics[said.floor.format(row["method_b"])]
        between = "" if math.isnan(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
        change = f"{row['mean_difference']:+.2f}{between}"
        yield f"| | | {row['method_b'].replace('_', ' ')} | {floor:.2f} | {change} | {row['verdict']} | |"

"""What a build shows in Prefect's UI when it is over: a table of stages, the lanes' results, links to MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows.lanes import known_lanes
from flows.links import Links
from flows.snapshot import has_results, snapshot

KEY_LETTERS = 12
"""So much of a DVC key is shown: enough to tell runs apart, and the beginning of the folder in the run-cache."""


def slug(stage: str) -> str:
    """A stage's name as Prefect takes it for the key of an artifact.

    >>> slug("chest-phase@full_wing")
    'chest-phase-full-wing'
    """
    return re.sub("[^a-z0-9]+", "-", stage.lower()).strip("-")


def rows(
    root: Path, outcomes: Mapping[str, str], seconds: Mapping[str, float], links: Links, ui: str | None
) -> Iterator[dict[str, object]]:
    """The table of stages, a row each; the lane is "" for stages that span lanes."""
    lanes = known_lanes(root)
    for stage, outcome in outcomes.items():
        lane = stage.partition("-")[0]
        yield {
            "lane": lane if lane in lanes else "",
            "stage": stage,
            "outcome": outcome,
            "seconds": seconds.get(stage, ""),
            "key": links.keys.get(stage, "")[:KEY_LETTERS],
            "MLflow run": links.url(stage, ui) or "",
        }


def show(
    root: Path, outcomes: Mapping[str, str], seconds: Mapping[str, float], links: Links, ui: str | None
) -> None:
    """Leave the artifacts of a build; the run of each stage that ran is linked by itself too.

    Args:
        root: the checkout.
        outcomes: stage -> how it ended, in the order of the graph.
        seconds: stage -> how long that took.
        links: keys and runs.
        ui: where the MLflow UI is, None where none runs.
    """
    table = list(rows(root, outcomes, seconds, links, ui))
    create_table_artifact(key="stages", table=table, description="What DVC did with each stage")
    if set(outcomes.values()) == {"Unchanged"}:
        return
    for stage, outcome in outcomes.items():
        if outcome == "Ran" and (url := links.url(stage, ui)):
            create_link_artifact(
                link=url, link_text=stage, key=f"mlflow-{slug(stage)}", description=f"Run of {stage}"
            )
    if has_results(root):
        create_markdown_artifact(snapshot(root), key="results", description="The lanes' test sets")

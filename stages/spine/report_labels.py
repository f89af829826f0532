"""The report's section on wrong labels: what the audit found, what became of it, and how that looks."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.report import anatomy, film_sections
from stages.core.report.films import FilmEvidence, FilmReportParams
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.page import Cell, Page, note, picture, row, table
from stages.core.report.wording import count
from stages.spine.schema import CORNERS, LEVELS, SCHEMA

MEANINGS = {
    "rolled": "the list of vertebrae is cut and its parts are exchanged",
    "upside_down": "upper and lower endplate of a vertebra are exchanged",
    "sides_swapped": "left and right of a vertebra are exchanged",
    "corners_swapped": "corners of a vertebra are exchanged",
    "outside": "a point lies off the film",
    "order": "vertebrae do not go from top to bottom",
    "duplicated": "two vertebrae in the same place",
    "degenerate": "corners that span no convex area",
    "overlap": "a vertebra reaches into the next one",
    "height": "a vertebra's height is out of proportion",
    "width": "a vertebra's width is out of proportion",
    "spacing": "neighbours are out of proportion apart",
    "gap": "a disc space is out of proportion",
    "size": "width over length of the spine is unusual",
    "shape": "the shape is unlike all others",
}
CENTRES = tuple((k, k + 1) for k in range(SCHEMA.n_points, SCHEMA.n_points + len(LEVELS) - 1))
"""Edges between the centres of vertebrae, which `with_centres` appends, in the order of the label."""


def add_labels(page: Page, found: FilmEvidence, audit: Path, params: FilmReportParams, examples: int) -> None:
    """Findings by reason and action, and `examples` films, as many different reasons as possible."""
    labels = tables.read_table(audit / "labels.parquet").set_index("id")
    findings = tables.read_table(audit / "findings.parquet")
    statuses = labels["status"].value_counts()
    said = ", ".join(
        f"{statuses.get(status, 0):,} {status}" for status in ("ok", "repaired", "suspect", "dropped")
    )
    summary = note(
        f"{count(len(labels), 'label')}: {said}. Repaired: only the order of points was wrong. "
        "Suspect: trained on, counted apart. Dropped: never trained on, still evaluated, counted apart."
    )
    lead = "What the audit of the labels found before anything was trained."
    if findings.empty:
        page.add("labels", "Wrong labels", summary, note("It found nothing wrong."), lead=lead)
        return
    drawn = [_example(found, labels, part, params) for part in _chosen(findings, examples)]
    key = [("label", "truth"), ("doubted, or as it was stored", "prediction")]
    content: list[Child] = [summary, _reasons(findings)]
    if drawn:
        said = note(
            "Where an order was repaired, the line joins the vertebrae and the dots are upper left corners, "
            "both as they were stored. Elsewhere the doubted vertebrae are drawn again."
        )
        legend = anatomy.mark_legend(key, "film" if params.images else "plain")
        content += [tag("h3", "Examples"), said, legend, row(*drawn)]
    page.add("labels", "Wrong labels", *content, lead=lead)


def _reasons(findings: pd.DataFrame) -> Markup:
    rows: list[list[Child | Cell]] = []
    for reason, part in sorted(
        findings.groupby("reason"), key=lambda item: (-item[1]["id"].nunique(), item[0])
    ):
        actions = "; ".join(
            f"{n:,}\u00a0{action}" for action, n in part["action"].value_counts().sort_index().items()
        )
        first = part.iloc[0]
        rows.append(
            [
                str(reason).replace("_", " "),
                MEANINGS.get(str(reason), ""),
                f"{part['id'].nunique():,}",
                f"{len(part):,}",
                actions,
                textwrap.shorten(str(first["detail"]), 100, placeholder=" …"),
            ]
        )
    headings = ["Reason", "Meaning", "Films", "Findings", "Action", "For example"]
    return table(headings, rows, numeric=(2, 3))


def _chosen(findings: pd.DataFrame, examples: int) -> list[pd.DataFrame]:
    """All findings of some films: the first film of each reason in turn, rare reasons too."""
    films = {str(name): part for name, part in findings.groupby("id", sort=True)}
    queues = [list(dict.fromkeys(part["id"])) for _, part in findings.sort_values("id").groupby("reason")]
    chosen: list[str] = []
    for turn in range(max(map(len, queues))):
        for queue in queues:
            if turn < len(queue) and queue[turn] not in chosen:
                chosen.append(queue[turn])
    return [films[name] for name in chosen[:examples]]


def _example(
    found: FilmEvidence, labels: pd.DataFrame, part: pd.DataFrame, params: FilmReportParams
) -> Markup:
    name = str(part["id"].iloc[0])
    status = str(labels.loc[name, "status"])
    stored = found.store.landmarks_raw[int(found.store.rows([name])[0])].astype(float)
    kept = np.asarray(labels.loc[name, "landmarks"], float).reshape(-1, 2)
    changed = [v for v in range(len(LEVELS)) if not np.array_equal(stored[_corners(v)], kept[_corners(v)])]
    if changed:
        doubted = only(stored, [])
        doubted[SCHEMA.n_points :] = with_centres(stored)[SCHEMA.n_points :]
        doubted[[_corners(v).start for v in changed]] = stored[[_corners(v).start for v in changed]]
    else:
        doubted = only(stored, _vertebrae(part))
    dots = tuple(_corners(v).start for v in changed)
    marks = [
        anatomy.Marks("label", with_centres(kept), "truth"),
        anatomy.Marks("doubted", doubted, "prediction", dots),
    ]
    reasons = ", ".join(dict.fromkeys(part["reason"].str.replace("_", " ")))
    drawn = film_sections.film_with(
        found, name, marks, params, f"Film {name}: {reasons}", edges=(*SCHEMA.edges, *CENTRES)
    )
    return picture(drawn, join(tag("strong", reasons), f" {status}", tag("br"), tag("code", name)))


def _vertebrae(findings: pd.DataFrame) -> list[int]:
    return sorted({int(v) for cell in findings["vertebrae"] for v in str(cell).split(";") if v})


def _corners(vertebra: int) -> slice:
    return slice(vertebra * len(CORNERS), (vertebra + 1) * len(CORNERS))


def with_centres(points: np.ndarray) -> np.ndarray:
    """Corners (68, 2) and after them the centres of the vertebrae, (85, 2)."""
    return np.concatenate([points, points.reshape(-1, len(CORNERS), 2).mean(1)])


def only(points: np.ndarray, vertebrae: list[int]) -> np.ndarray:
    """The corners of some vertebrae, NaN for the others and for the centres, (85, 2)."""
    kept = np.full((SCHEMA.n_points + len(LEVELS), 2), np.nan)
    for v in vertebrae:
        kept[_corners(v)] = points[_corners(v)]
    return kept

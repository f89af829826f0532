"""Sections that the pages of film lanes share."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.report import anatomy, sections
from stages.core.report.claims import Claim, claims_table
from stages.core.report.evidence import Sampling, estimate, extremes, finite_mean, read_csv
from stages.core.report.films import FilmEvidence, FilmReportParams
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.page import Cell, Page, grid, note, picture, row, stack, table
from stages.core.report.wording import Estimate, figure, interval


def error_curves(found: FilmEvidence) -> Markup:
    """Cumulative error curves of every method over the test films."""
    part = found.cases[found.cases["role"] == "test"]
    by_name = {name: rows[found.lane.error].to_numpy(float) for name, rows in part.groupby("method")}
    names = [m.key for m in found.methods]
    titles = [m.name for m in found.methods]
    styled = zip(titles, sections.styles(found.methods), (by_name[name] for name in names), strict=True)
    drawn = sections.error_curve_figure(list(styled), found.lane.unit, "test films")
    return picture(drawn, "Share of the test films whose mean error is at most that large. Higher is better.")


def mean_shape(labels: np.ndarray) -> np.ndarray:
    """(K, 2) mean of shapes (n, K, 2), each moved to the same centre; labels that are NaN are left out."""
    centred = labels - finite_mean(labels, axis=1)[:, None]
    return finite_mean(centred)


def cases_section(
    page: Page,
    found: FilmEvidence,
    params: FilmReportParams,
    dots: bool,
    describe: Callable[[str], str] = lambda _: "",
) -> None:
    """Best, median and worst films with labels and predictions.

    Args:
        dots: draw the points and their way to the label, not only the lines between points.
        describe: film id -> words for its caption.
    """
    legend = [("label", "truth"), ("prediction", "prediction")]
    content: list[Child] = [anatomy.mark_legend(legend, "film" if params.images else "plain")]
    for kind, chosen in extremes(found.errors, params.cases).items():
        if chosen:
            content += [
                tag("h3", kind.capitalize()),
                row(*(_case(found, k, params, dots, describe) for k in chosen)),
            ]
    lead = "Test films by their mean error."
    if dots:
        lead += " Rest the pointer on a point for its name."
    if not params.images:
        lead += " Films are left out of this page (images: false)."
    page.add("cases", "Best, median and worst cases", *content, lead=lead)


def _case(
    found: FilmEvidence, k: int, params: FilmReportParams, dots: bool, describe: Callable[[str], str]
) -> Markup:
    name, points = str(found.points.ids[k]), found.points
    marks = [
        anatomy.Marks("label", points.labels[k], "truth"),
        anatomy.Marks("prediction", points.predicted[k], "prediction"),
    ]
    error = f"{figure(found.errors[k])} {found.lane.unit}"
    caption = join(tag("strong", error), f" {describe(name)}", tag("br"), tag("code", name))
    return picture(film_with(found, name, marks, params, f"Film {name}, mean error {error}", dots), caption)


def film_with(
    found: FilmEvidence,
    name: str,
    marks: Sequence[anatomy.Marks],
    params: FilmReportParams,
    label: str,
    dots: bool = False,
    edges: anatomy.Edges | None = None,
) -> Markup:
    """A film of the store with sets of points in raw px; on white where films are left out.

    Args:
        dots: draw the points and the way between those of the first two sets.
        edges: lines to draw; those of the schema by default.
    """
    at = int(found.store.rows([name])[0])
    picture_of = anatomy.film_jpeg(found.store.images[at], params.jpeg_quality) if params.images else None
    width, height = (int(v) for v in found.store.sizes_raw[at])
    schema = found.lane.schema
    lines = schema.edges if edges is None else edges
    names = schema.names if dots else ()
    return anatomy.film(picture_of, (width, height), marks, names, lines, label, params.film_height)


def suspect_table(found: FilmEvidence, sampling: Sampling) -> Markup:
    """The model's error by role, and apart for films whose labels the audit doubts."""
    cases = found.cases[found.cases["method"] == found.lane.models[0]]
    rows: list[list[Child | Cell]] = []
    for role in ("test", "gate"):
        part = cases[cases["role"] == role]
        kinds = {"": part}
        if part["suspect"].any():
            kinds |= {", sound labels": part[~part["suspect"]], ", suspect labels": part[part["suspect"]]}
        for kind, kept in kinds.items():
            if len(kept):
                mean = estimate(kept, found.lane.error, sampling)
                rows.append([role + kind, f"{len(kept):,}", figure(mean.value), interval(mean)])
    level = f"{100 * sampling.settings.level:g} % interval"
    return table(["Films", "Number", f"Mean error ({found.lane.unit})", level], rows, numeric=(1, 2, 3))


def data_section(page: Page, found: FilmEvidence, films: Path) -> None:
    """The split with its digest, and what conversion noted about films, by reason."""
    noted = read_csv(films / "quarantine.csv")
    quarantine = [tag("h3", "Quarantine"), note("Conversion found nothing to note about any film.")]
    if len(noted):
        actions = noted["action"].value_counts().sort_index()
        said = ", ".join(f"{n:,} {action}" for action, n in actions.items())
        quarantine[1:] = [
            note(f"Noted by conversion: {said}; quarantine.csv names each."),
            _quarantine(noted),
        ]
    content = grid(sections.split_table(found.split, found.lane.group), stack(*quarantine))
    page.add("data", "Data and split", content)


def _quarantine(noted: pd.DataFrame) -> Markup:
    rows: list[Sequence[Child | Cell]] = []
    groups = noted.groupby(["action", "reason"], sort=True)
    for (action, reason), part in sorted(groups, key=lambda item: (-len(item[1]), item[0])):
        example = textwrap.shorten(str(part["detail"].iloc[0]), 80, placeholder=" …")
        rows.append([str(reason).replace("_", " "), f"{len(part):,}", str(action), example])
    return table(["Reason", "Films", "Action", "For example"], rows, numeric=(1,))


def claims_section(
    page: Page, found: FilmEvidence, claims: Sequence[Claim], more: Mapping[str, tuple[Estimate, str]]
) -> None:
    """What is claimed beside what was measured: the methods' errors, the model's as `model`, and `more`."""
    measured = {m.key: (m.error, found.lane.unit) for m in found.methods}
    measured["model"] = (found.methods[0].error, found.lane.unit)
    lead = "Claims come from the system description and public code; the figures here from this run."
    if found.phantom:
        lead += " A phantom neither confirms nor refutes a claim about real films."
    shown = claims_table(claims, measured | dict(more), "phantom" if found.phantom else "")
    page.add("claims", "Claimed elsewhere, measured here", shown, lead=lead)

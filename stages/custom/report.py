"""Stage NAME-report: one page that says whether the model of a described lane is any good, and where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.data.split import ROLES
from stages.core.evaluate.statistics import bootstrap_mean
from stages.core.report import film_sections, sections
from stages.core.report import films as film_report
from stages.core.report.charts import columns
from stages.core.report.error_maps import Spot, error_map
from stages.core.report.evidence import Points, finite_mean, ranked
from stages.core.report.films import FilmEvidence, FilmLane, FilmReportParams
from stages.core.report.markup import Child
from stages.core.report.page import Cell, Page, Tile, grid, note, picture, stack, table
from stages.core.report.wording import figure, listing, share
from stages.core.stage import Observer
from stages.custom.command import lane_main
from stages.custom.description import LaneDescription, read_description
from stages.custom.measures import ERROR, METHOD, UNIT, UNIT_WORDS

NAMED = 24
"""landmarks at most whose names stand on the map of errors and below the columns; more would lie on each other"""


class Params(FilmReportParams):
    section: ClassVar[str] = "lane.report"


def run(
    params: Params,
    lane: Path,
    films: Path,
    split: Path,
    evaluation: Path,
    history: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the page to `output`."""
    described = read_description(lane)
    roles = tables.read_table(split)
    patients = bool((roles["id"] != roles["patient"]).any())
    page_of = FilmLane(
        title=described.title,
        subtitle=f"{len(described.landmarks)} landmarks on films of the data set {described.dataset}",
        schema=described.schema,
        models=(METHOD,),
        titles={METHOD: "Network", **film_report.FLOOR_TITLES},
        error=ERROR,
        unit=UNIT_WORDS,
        monitored="val_error_model_px",
        patients=patients,
    )
    found = FilmEvidence.read(page_of, films, split, evaluation, history, params.sampling)
    points = in_percent(found)
    page = film_report.film_page(found, where_it_fails(described, points), lane_tiles(found, evaluation))
    add_where(page, found, params, points)
    add_radii(page, evaluation, params)
    film_sections.cases_section(page, found, params, dots=True)
    sections.history_section(page, found.history, page_of.monitored, "px of the stored film")
    film_sections.data_section(page, found, films)
    add_description(page, described, patients, len(found.store))
    return film_report.write_page(page, found, output)


def in_percent(found: FilmEvidence) -> Points:
    """Points of the test films in percent of the extent of each film's label."""
    scale = (100 / found.tested["extent_raw_px"].to_numpy(float))[:, None, None]
    return Points(found.points.ids, found.points.predicted * scale, found.points.labels * scale)


def lane_tiles(found: FilmEvidence, evaluation: Path) -> tuple[Tile, ...]:
    """Headline figures in px, in mm where it is known, and of the discs."""
    tested, discs = found.tested, read_discs(evaluation)
    px = tested["error_raw_px"].to_numpy(float)
    extent = float(tested["extent_raw_px"].mean())
    tiles = [
        Tile(
            "In px of the films",
            value=figure(float(np.nanmean(px))),
            unit="px",
            note=f"mean extent {extent:,.0f} px",
        )
    ]
    if np.isfinite(tested["error_mm"]).any():
        tiles.append(Tile("In millimetres", value=figure(float(np.nanmean(tested["error_mm"]))), unit="mm"))
    held, claimed = discs.loc[discs["role"] == "test", "held"], float(discs["claimed"].iloc[0])
    tiles.append(
        Tile("Labels inside their disc", value=share(float(held.mean())), note=f"claimed: {share(claimed)}")
    )
    return tuple(tiles)


def where_it_fails(described: LaneDescription, points: Points) -> str:
    """A sentence on the landmarks with the largest and the smallest errors."""
    errors = finite_mean(points.errors)
    order = ranked(errors)
    named = [
        f"{described.landmarks[k]} ({figure(errors[k])} {UNIT_WORDS})" for k in (*order[::-1][:2], order[0])
    ]
    return f"Worst landmarks: {named[0]} and {named[1]}; best: {named[2]}."


def add_where(page: Page, found: FilmEvidence, params: Params, points: Points) -> None:
    """The map of errors, errors by landmark and group, and error curves."""
    schema = found.lane.schema
    residuals = points.predicted - points.labels
    few = schema.n_points <= NAMED
    spots = [Spot(name, (k,)) for k, name in enumerate(schema.names)] if few else []
    spots = [Spot(name, part) for name, part in schema.groups.items()] or spots
    drawn = error_map(
        film_sections.mean_shape(points.labels),
        residuals,
        schema.names,
        schema.edges,
        spots,
        UNIT_WORDS,
        "Error of each landmark on the mean shape of the test films",
        height=420,
    )
    shown: list[Child] = [
        picture(
            drawn,
            "Mean shape of the test films' labels. Dots: mean error; rest the pointer on one for its name. "
            "Ellipses: one standard deviation of the prediction about its mean place; short lines: bias.",
        )
    ]
    if few:
        offsets = np.abs(residuals)
        parts = [
            ("|dx|", "other4", finite_mean(offsets[..., 0])),
            ("|dy|", "prediction", finite_mean(offsets[..., 1])),
        ]
        label = f"mean error ({UNIT_WORDS})"
        chart = columns(schema.names, parts, "landmark", label, "Mean |dx| and |dy| of each landmark")
        shown.append(picture(chart, "By landmark and direction."))
    page.add(
        "where",
        "Where the error lies",
        grid(
            stack(*shown, film_sections.error_curves(found)),
            stack(landmark_table(found, points), film_sections.suspect_table(found, params.sampling)),
        ),
        lead="Which landmarks, which films?",
    )


def landmark_table(found: FilmEvidence, points: Points) -> Child:
    """Mean and median error of each landmark, worst first, with how many labels there are."""
    errors, px = points.errors, found.points.errors
    means = finite_mean(errors)
    rows: list[Sequence[Child | Cell]] = []
    for k in ranked(-means):
        own = errors[:, k][np.isfinite(errors[:, k])]
        cells = [
            figure(means[k]),
            figure(float(np.median(own))),
            figure(float(finite_mean(px)[k])),
            f"{len(own)}",
        ]
        rows.append([found.lane.schema.names[k], *cells])
    headings = ["Landmark", f"Mean ({UNIT_WORDS})", f"Median ({UNIT_WORDS})", "Mean (px)", "Labels"]
    return table(headings, rows, numeric=(1, 2, 3, 4), caption="Test films, worst landmark first.")


def read_discs(evaluation: Path) -> pd.DataFrame:
    """radius.parquet of an evaluation with the column held: 1 or 0, of points that have a label."""
    discs = tables.read_table(evaluation / "radius.parquet")
    discs = discs[np.isfinite(discs[ERROR])]
    return discs.assign(held=(discs[ERROR] <= discs[f"radius_{UNIT}"]).astype(float))


def add_radii(page: Page, evaluation: Path, params: Params) -> None:
    """How often labels lie inside their disc, by role."""
    discs = read_discs(evaluation)
    rows: list[Sequence[Child | Cell]] = []
    for role in (role for role in ROLES if role in set(discs["role"])):
        own = discs[discs["role"] == role]
        told = bootstrap_mean(own["held"], own["patient"], params.bootstrap, params.seed)
        between = "" if told.low is None or told.high is None else f"{share(told.low)} to {share(told.high)}"
        median = figure(float(own[f"radius_{UNIT}"].median()))
        rows.append([role, f"{len(own):,}", share(told.mean), between, median])
    headings = [
        "Films",
        "Labels",
        "Inside",
        f"{100 * params.bootstrap.level:g} % interval",
        f"Median radius ({UNIT_WORDS})",
    ]
    claimed = share(float(discs["claimed"].iloc[0]))
    lead = (
        f"Each predicted point comes with a disc that should hold the label with {claimed} probability. "
        "Discs are calibrated on val; gate and test say whether the promise is kept."
    )
    page.add(
        "radii", "What the model knows of its errors", table(headings, rows, numeric=(1, 2, 3, 4)), lead=lead
    )


def add_description(page: Page, described: LaneDescription, patients: bool, n_films: int) -> None:
    """What the lane assumes about landmarks and data, for the reader to object to."""
    pairs = listing([f"{a} and {b}" for a, b in described.mirror]) if described.mirror else ""
    said = [
        f"Change places on a mirror: {pairs}."
        if pairs
        else "No landmarks change places on a mirror, so no film was mirrored.",
        "Whose film each is was said by the data."
        if patients
        else "Nobody said whose film each is: films of one "
        "patient may lie in two roles, and intervals may be too narrow.",
        f"{n_films} films are a small set: other test films would give other figures, as the intervals say."
        if n_films < 150
        else "",
        f"1 px is {described.spacing_mm:g} mm where a file does not say otherwise."
        if described.spacing_mm
        else "",
        f"Names in the labels that are no landmarks here: {listing(list(described.ignored))}."
        if described.ignored
        else "",
    ]
    where = f"data/lanes/{described.name}.json says what the landmarks are; correct it and build again."
    page.add("lane", "What this lane assumes", *(note(s) for s in said if s), lead=where)


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()

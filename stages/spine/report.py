"""Stage spine-report: one page that says whether the network is any good, and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from stages.core.report import films as film_report
from stages.core.report import sections
from stages.core.report.anatomy import Spot, error_map
from stages.core.report.charts import columns
from stages.core.report.claims import Claim
from stages.core.report.evidence import Points, finite_mean, ranked
from stages.core.report.films import FilmEvidence, FilmLane, FilmReportParams
from stages.core.report.page import Page, beside, picture, stack
from stages.core.report.wording import count, figure
from stages.core.stage import Observer, stage_main
from stages.spine.schema import LEVELS, SCHEMA

LANE = FilmLane(
    title="Spine",
    subtitle="The four corners of each vertebra from T1 to L5 on frontal films (68 points)",
    schema=SCHEMA,
    models=("heatmap",),
    titles={"heatmap": "heatmap network", **film_report.FLOOR_TITLES},
    error="error_raw_px",
    unit="raw px",
    monitored="val_error_raw_px",
    patients=True,
)
CLAIMS = (
    Claim(
        "Mean radial error without clicks",
        "58.6 raw px",
        "MICCAI 2022 code: 128 official AASCE test films",
        58.58,
        "model",
        "those test films are not in the public set; here: held-out patients of it",
    ),
    Claim(
        "Mean radial error without clicks",
        "50.8 raw px",
        "public re-run of the code: 127 films",
        50.81,
        "model",
        "67 % of its test films share a patient with its other films; 6 of their labels are wrong",
    ),
    Claim(
        "Mean shape of the training films",
        "96.0 raw px",
        "measured on the re-run's films",
        96.0,
        "mean_shape",
        "what a constant reaches",
    ),
    Claim(
        "Mean radial error, Refiner alone, then with Detector and Corrector",
        "3.2 mm, then 1.4 mm",
        "system description",
        remark="the films carry no pixel spacing: its mm cannot be checked, nor meant",
    ),
)


class Params(FilmReportParams):
    section: ClassVar[str] = "spine.report"
    findings: int = Field(ge=0)  # films shown with what the audit found


def run(
    params: Params,
    films: Path,
    audit: Path,
    split: Path,
    evaluation: Path,
    history: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the page to `output`."""
    found = FilmEvidence.read(LANE, films, split, evaluation, history, params.sampling)
    page = film_report.film_page(found, where_it_fails(found.points))
    _add_where(page, found, params)
    film_report.cases_section(page, found, params, dots=False)
    sections.history_section(page, found.history, LANE.monitored, LANE.unit)
    film_report.data_section(page, found, films)
    film_report.claims_section(page, found, CLAIMS, {})
    return film_report.write_page(page, found, output)


def by_vertebra(points: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean |dx|, mean |dy| and mean radial error of each vertebra, all (17,) in raw px."""
    offsets = np.abs(points.predicted - points.labels)
    groups = [list(SCHEMA.groups[level]) for level in LEVELS]
    across, along = (np.array([_mean(offsets[:, g, axis]) for g in groups]) for axis in (0, 1))
    return across, along, np.array([_mean(points.errors[:, g]) for g in groups])


def _mean(values: np.ndarray) -> float:
    return float(finite_mean(values.ravel()))


def slips(points: Points) -> np.ndarray:
    """(n,) bool: films whose whole prediction lies more than half a vertebra too high or too low."""
    groups = [list(SCHEMA.groups[level]) for level in LEVELS]
    centres = np.stack([finite_mean(points.labels[:, g, 1], axis=1) for g in groups], axis=1)
    spacing = np.nanmedian(np.diff(centres, axis=1), axis=1)
    displaced = finite_mean(points.predicted[..., 1] - points.labels[..., 1], axis=1)
    return np.abs(displaced) > 0.5 * spacing


def where_it_fails(points: Points) -> str:
    """A sentence on the direction and the place of the error."""
    across, along, radial = by_vertebra(points)
    dx, dy = _mean(across), _mean(along)
    direction = "has no direction"
    if max(dx, dy) > 1.5 * min(dx, dy):
        direction = "lies along the spine" if dy > dx else "lies across the spine"
    order = ranked(radial)
    worst, best = order[-1], order[0]
    slipped = slips(points)
    return (
        f"The error {direction}: {figure(dy)} raw px down or up, {figure(dx)} sideways. "
        f"In {slipped.sum()} of {count(len(slipped), 'film')} the whole spine is displaced by more than half "
        f"a vertebra. {LEVELS[worst]} is worst ({figure(radial[worst])}), {LEVELS[best]} best "
        f"({figure(radial[best])})."
    )


def _add_where(page: Page, found: FilmEvidence, params: Params) -> None:
    points = found.points
    across, along, _ = by_vertebra(points)
    drawn = error_map(
        film_report.mean_shape(points.labels),
        points.predicted - points.labels,
        SCHEMA.names,
        SCHEMA.edges,
        [Spot(level, SCHEMA.groups[level]) for level in LEVELS],
        LANE.unit,
        "Error of each landmark and vertebra on the mean shape of the test films",
        height=840,
    )
    bars = columns(
        LEVELS,
        [("|dx|, across", "other4", across), ("|dy|, along", "prediction", along)],
        "vertebra",
        "mean error (raw px)",
        "Mean |dx| and |dy| of each vertebra",
    )
    shown = picture(
        drawn,
        "Mean shape of the test films' labels. Dots: mean error of each landmark. Ellipses: one standard "
        "deviation of a vertebra's predicted centre about its mean place; dark lines: the bias. Figures: "
        "mean error of the vertebra's four landmarks.",
    )
    right = stack(
        picture(bars, "A slip by one vertebra shows as |dy|; a swap of left and right as |dx|."),
        film_report.error_curves(found),
        film_report.suspect_table(found, params.sampling),
    )
    lead = "Is it the wrong place on the right vertebra, or the wrong vertebra?"
    page.add("where", "Where the error lies", beside(shown, right), lead=lead)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage chest-report: one page that says whether the network is any good, and where it fails."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.chest.schema import CHEST, CLASSES, REPORT_SIZE
from stages.core.report import film_sections, sections
from stages.core.report import films as film_report
from stages.core.report.charts import Bar, bars, columns, spanning
from stages.core.report.claims import Claim
from stages.core.report.error_maps import Spot, error_map
from stages.core.report.evidence import Points, estimate, finite_mean, ranked
from stages.core.report.films import FilmEvidence, FilmLane, FilmReportParams
from stages.core.report.page import Page, grid, picture, stack, table
from stages.core.report.wording import Estimate, figure, share
from stages.core.stage import Observer, stage_main

LANE = FilmLane(
    title="Chest",
    subtitle="Fifteen points on the axis and the lung contours of frontal films",
    schema=CHEST,
    models=("regressor",),
    titles={"regressor": "ResNet regressor", **film_report.FLOOR_TITLES},
    error="error_px224",
    unit=f"px at {REPORT_SIZE}",
    monitored="val_error_px224",
    patients=False,
)
BINS = (5.0, 8.5, 15.0)
"""Limits of the quality bins that the system description counts films by, px at 224."""
_TEST = "144 films of the reference split"
CLAIMS = (
    Claim(
        "Mean error after four phases",
        "8.13 px",
        f"system description: {_TEST}",
        8.13,
        "model",
        "a re-run of it gave 8.29",
    ),
    Claim("Median film", "7.20 px", f"system description: {_TEST}", 7.20, "median"),
    Claim("Films under 8.5 px", "66.7 %", f"system description: {_TEST}", measure="under"),
    Claim(
        "Mean shape of the training films",
        "16.0 px",
        f"measured: {_TEST}",
        16.03,
        "mean_shape",
        "what a constant reaches",
    ),
    Claim(
        "Kernel ridge on HOG",
        "7.95 px",
        f"measured: {_TEST}",
        7.95,
        "hog_kernel_ridge",
        "beats the four phases without a network",
    ),
    Claim(
        "Mean error of an ensemble",
        "3.6 to 4.0 px",
        "a later project on the same films",
        remark="not comparable: trained on films that it was tested on; its one clean member has 6.75",
    ),
)


class Params(FilmReportParams):
    section: ClassVar[str] = "chest.report"


def run(
    params: Params, films: Path, split: Path, evaluation: Path, history: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write the page to `output`."""
    found = FilmEvidence.read(LANE, films, split, evaluation, history, params.sampling)
    points = found.points.scaled(found.store.sizes_raw[found.rows], REPORT_SIZE, REPORT_SIZE)
    by_class = class_errors(found, params)
    page = film_report.film_page(found, where_it_fails(points, by_class))
    _add_where(page, found, params, points, by_class)
    classes = found.store.table.set_index("id")["group"]
    film_sections.cases_section(
        page, found, params, dots=True, describe=lambda name: CLASSES.get(classes[name], "")
    )
    sections.history_section(page, found.history, LANE.monitored, LANE.unit)
    film_sections.data_section(page, found, films)
    under = 100 * float(np.mean(found.errors < BINS[1]))
    more = {
        "median": (Estimate(float(np.nanmedian(found.errors))), LANE.unit),
        "under": (Estimate(under), "%"),
    }
    film_sections.claims_section(page, found, CLAIMS, more)
    return film_report.write_page(page, found, output)


def class_errors(found: FilmEvidence, params: Params) -> dict[str, tuple[int, Estimate]]:
    """Number of test films and mean error of each class, classes by their title."""
    classes = found.store.table["group"].to_numpy()[found.rows]
    return {
        CLASSES.get(name, name): (
            int((classes == name).sum()),
            estimate(found.tested[classes == name], LANE.error, params.sampling),
        )
        for name in sorted(set(classes))
    }


def where_it_fails(points: Points, by_class: dict[str, tuple[int, Estimate]]) -> str:
    """A sentence on the landmarks and the class with the largest errors."""
    errors = finite_mean(points.errors)
    order = ranked(errors)
    worst = [f"{CHEST.names[k]} ({figure(errors[k])})" for k in order[::-1][:2]]
    best = f"{CHEST.names[order[0]]} ({figure(errors[order[0]])})"
    said = f"Worst landmarks: {worst[0]} and {worst[1]}; best: {best}."
    if len(by_class) > 1:
        hardest = max(by_class, key=lambda name: by_class[name][1].value)
        easiest = min(by_class, key=lambda name: by_class[name][1].value)
        said += (
            f" {hardest} films are hardest ({figure(by_class[hardest][1].value)}), "
            f"{easiest} films easiest ({figure(by_class[easiest][1].value)})."
        )
    return said


def quality_bins(errors: np.ndarray) -> list[tuple[str, int]]:
    """Number of films between the limits of BINS, each with the words for its range."""
    edges = [0.0, *BINS, np.inf]
    names = [
        f"under {BINS[0]:g}",
        *(f"{a:g} to {b:g}" for a, b in pairwise(BINS)),
        f"{BINS[-1]:g} or more",
    ]
    return [
        (name, int(((errors >= low) & (errors < high)).sum()))
        for name, (low, high) in zip(names, pairwise(edges), strict=True)
    ]


def _add_where(
    page: Page, found: FilmEvidence, params: Params, points: Points, by_class: dict[str, tuple[int, Estimate]]
) -> None:
    offsets = np.abs(points.predicted - points.labels)
    drawn = error_map(
        film_sections.mean_shape(points.labels),
        points.predicted - points.labels,
        CHEST.names,
        CHEST.edges,
        [Spot(name, (k,)) for k, name in enumerate(CHEST.names)],
        LANE.unit,
        "Error of each landmark on the mean shape of the test films",
        height=330,
    )
    landmarks = columns(
        CHEST.names,
        [
            ("|dx|, sideways", "other4", finite_mean(offsets[..., 0])),
            ("|dy|, up or down", "prediction", finite_mean(offsets[..., 1])),
        ],
        "landmark",
        f"mean error ({LANE.unit})",
        "Mean |dx| and |dy| of each landmark",
    )
    shown = picture(
        drawn,
        "Mean shape of the test films' labels; left is the image's left, the patient's right. Dots: mean "
        "error. Ellipses: one standard deviation of the prediction about its mean place; short lines: bias.",
    )
    reach = [v for _, e in by_class.values() for v in (e.value, e.high)]
    classes = bars(
        [Bar(f"{name} ({n})", e, "model") for name, (n, e) in by_class.items()],
        spanning(reach, f"mean error ({LANE.unit})"),
        "Mean error of each class",
    )
    binned = table(
        [f"Mean error of a film ({LANE.unit})", "Films", "Share"],
        [[name, f"{n:,}", share(n / max(len(found.errors), 1))] for name, n in quality_bins(found.errors)],
        numeric=(1, 2),
    )
    page.add(
        "where",
        "Where the error lies",
        grid(
            stack(shown, film_sections.error_curves(found)),
            stack(
                picture(landmarks, "By landmark and direction."),
                picture(classes, "By class (test films); whiskers are the intervals."),
                binned,
                film_sections.suspect_table(found, params.sampling),
            ),
        ),
        lead="Which landmarks, which films?",
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage chest-report: one page that says whether the system is any good, where it fails, and what it knows of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.chest.measures import METHOD, in_bins, shares_under
from stages.chest.report_calibration import Calibration, add_calibration, add_consistency
from stages.chest.report_phases import Curriculum, add_phases, in_words
from stages.chest.schema import CHEST, CLASSES, REPORT_SIZE
from stages.core.report import film_sections, sections
from stages.core.report import films as film_report
from stages.core.report.charts import Bar, bars, columns, spanning
from stages.core.report.claims import Claim
from stages.core.report.error_maps import Spot, error_map
from stages.core.report.evidence import Points, estimate, finite_mean, ranked
from stages.core.report.films import FilmEvidence, FilmLane, FilmReportParams
from stages.core.report.markup import Markup
from stages.core.report.page import Method, Page, Tile, grid, picture, stack, table
from stages.core.report.wording import Estimate, figure, share
from stages.core.stage import Observer, stage_main

LANE = FilmLane(
    title="Chest",
    subtitle="Fifteen points on the axis and the lung contours of frontal films",
    schema=CHEST,
    models=(METHOD,),
    titles={
        METHOD: "Coarse and fine networks",
        **film_report.FLOOR_TITLES,
        "aligned_ridge": "kernel ridge on HOG, aligned",
    },
    error="error_px224",
    unit=f"px at {REPORT_SIZE}",
    monitored="val_error_px224",
    patients=False,
)
_DESCRIBED = "system description: its 144 test films"
_MEASURED = "measured: the same 144 films"
CLAIMS = (
    Claim(
        "Mean error after four phases",
        "8.13 px",
        _DESCRIBED,
        8.13,
        "complete",
        "a re-run of it gave 8.29",
    ),
    Claim("The same, against this lane's best answer", "8.13 px", _DESCRIBED, 8.13, "model"),
    Claim("Mean error, all weights trained with MSE", "11.34 px", _DESCRIBED, 11.34, "full_mse"),
    Claim(
        "Mean error, all weights trained with the wing loss",
        "10.91 px",
        _DESCRIBED,
        10.91,
        "full_wing",
        "its wing loss is fed with coordinates in [0, 1], where it is L1; here in px",
    ),
    Claim("Mean error with coordinate attention", "11.07 px", _DESCRIBED, 11.07, "attention"),
    Claim("Mean error with the symmetry loss", "8.91 px", _DESCRIBED, 8.91, "symmetry"),
    Claim(
        "Change by the symmetry loss",
        "−2.00 px",
        _DESCRIBED,
        -2.00,
        "symmetry_change",
        "there with 70 more epochs and another choice of the epoch kept",
    ),
    Claim("Change by the distance loss", "−0.78 px", _DESCRIBED, -0.78, "complete_change"),
    Claim("Median film", "7.20 px", _DESCRIBED, 7.20, "median"),
    Claim("Films under 8.5 px", "66.7 %", _DESCRIBED, measure="under"),
    Claim(
        "Geometric consistency",
        "at least 0.7 is valid",
        "system description",
        remark="a score of the shape alone: the mean shape has 0.97 of 1 on real films, the labels themselves 0.99",
    ),
    Claim(
        "Mean shape of the training films",
        "16.0 px",
        _MEASURED,
        16.03,
        "mean_shape",
        "what a constant reaches",
    ),
    Claim(
        "Kernel ridge on HOG",
        "7.95 px",
        _MEASURED,
        7.95,
        "hog_kernel_ridge",
        "beats the four phases without a network",
    ),
    Claim("The same with one aligned stage", "6.45 px", _MEASURED, 6.45, "aligned_ridge"),
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
    sampling = params.sampling
    found = FilmEvidence.read(LANE, films, split, evaluation, history, sampling)
    curriculum = Curriculum.read(evaluation, found.cases, dict(LANE.titles), sampling)
    found = replace(found, methods=on_the_page(found.methods, curriculum))
    calibration = Calibration.read(evaluation, sampling.settings.level)
    points = found.points.scaled(found.store.sizes_raw[found.rows], REPORT_SIZE, REPORT_SIZE)
    by_class = class_errors(found, params)
    page = film_report.film_page(found, where_it_fails(points, by_class), lane_tiles(found, calibration))
    unreal = "phantom" if found.phantom else ""
    add_phases(page, curriculum, found.methods, LANE.unit, unreal)
    _add_where(page, found, params, points, by_class)
    add_calibration(page, calibration, LANE.unit)
    add_consistency(page, found.cases, found.methods, LANE.unit, sampling)
    classes = found.store.table.set_index("id")["group"]
    film_sections.cases_section(
        page, found, params, dots=True, describe=lambda name: CLASSES.get(classes[name], "")
    )
    sections.history_section(page, found.history, LANE.monitored, LANE.unit)
    film_sections.data_section(page, found, films)
    more = {
        **curriculum.measured(),
        "median": (Estimate(float(np.nanmedian(found.errors))), LANE.unit),
        "under": (Estimate(100 * shares_under(found.errors)[8.5]), "%"),
    }
    film_sections.claims_section(page, found, CLAIMS, more)
    return film_report.write_page(page, found, output)


def on_the_page(methods: list[Method], curriculum: Curriculum) -> list[Method]:
    """The methods that sections compare: of the phases the last one only, which is named as such."""
    hidden = {p.name for p in curriculum.phases if p.name != curriculum.last}
    return [
        replace(m, name=f"ResNet regressor ({in_words(m.key)})") if m.key == curriculum.last else m
        for m in methods
        if m.key not in hidden
    ]


def lane_tiles(found: FilmEvidence, calibration: Calibration) -> tuple[Tile, ...]:
    """Headline figures of this lane alone."""
    return (
        Tile(
            "Films under 8.5 px",
            value=share(shares_under(found.errors)[8.5]),
            note=f"mean error, {LANE.unit}",
        ),
        Tile(
            "Labels inside their disc",
            value=share(calibration.own.value),
            note=f"claimed: {share(calibration.claimed)}",
        ),
    )


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


def quality_bins(errors: np.ndarray) -> Markup:
    """Films in each quality bin, by their mean errors (n,)."""
    total = max(len(errors), 1)
    return table(
        [f"Quality bin: mean error of a film ({LANE.unit})", "Films", "Share"],
        [[name.replace("_", " "), f"{n:,}", share(n / total)] for name, n in in_bins(errors).items()],
        numeric=(1, 2),
    )


def quality_steps(errors: np.ndarray) -> Markup:
    """Share of the films under each threshold of published figures, by their mean errors (n,)."""
    return table(
        [f"Mean error of a film ({LANE.unit})", "Share of films"],
        [[f"under {step:g}", share(part)] for step, part in shares_under(errors).items()],
        numeric=(1,),
    )


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
    page.add(
        "where",
        "Where the error lies",
        grid(
            stack(shown, film_sections.error_curves(found), quality_bins(found.errors)),
            stack(
                picture(landmarks, "By landmark and direction."),
                picture(classes, "By class (test films); whiskers are the intervals."),
                film_sections.suspect_table(found, params.sampling),
                quality_steps(found.errors),
            ),
        ),
        lead="Which landmarks, which films?",
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

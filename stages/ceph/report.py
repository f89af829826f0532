"""Stage ceph-report: one page that says whether the model is any good, where it fails, and what reviews changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.ceph.evaluation.films import BASE, BASE_SET, CLINIC_SET, TUNED
from stages.ceph.evaluation.judge import MM
from stages.ceph.evaluation.verdict import read_verdict
from stages.ceph.reporting.calibration import add_calibration
from stages.ceph.reporting.claims import CLAIMS, measured_claims
from stages.ceph.reporting.clinic import SetEvidence, add_clinic, change_words
from stages.ceph.reporting.errors import Radial, add_angles, add_rates, add_where, rate, where_it_fails
from stages.ceph.schema import CEPH
from stages.ceph.spacing import read_spacing
from stages.core.data import tables
from stages.core.report import anatomy, film_sections, sections
from stages.core.report import films as film_report
from stages.core.report.evidence import Points, extremes, read_points
from stages.core.report.films import FilmEvidence, FilmLane, FilmReportParams
from stages.core.report.markup import join, tag
from stages.core.report.page import Child, Page, Tile, answers, note, picture, row, stack
from stages.core.report.wording import figure
from stages.core.stage import Observer, stage_main

LANE = FilmLane(
    title="Ceph",
    subtitle="Nineteen landmarks of lateral skull films, by a model that learns from its reviewers",
    schema=CEPH,
    models=(BASE, TUNED),
    titles={BASE: "base model", TUNED: "after the round", **film_report.FLOOR_TITLES},
    error=MM,
    unit="mm",
    monitored="val_error_model_px",
    patients=False,
)


class Params(FilmReportParams):
    """Parameters.

    Attributes:
        reader: of the clinic, whose points stand for the truth; as the evaluation's.
        groups: of points by their expected error, at most.
    """

    section: ClassVar[str] = "ceph.report"
    reader: str
    groups: int


def run(
    params: Params,
    films: Path,
    split: Path,
    clinic: Path,
    clinic_split: Path,
    evaluation: Path,
    verdict: Path,
    history: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write the page to `output`."""
    sampling = params.sampling
    folders = {name: evaluation / name for name in (BASE_SET, CLINIC_SET)}
    radial = Radial.read(folders[BASE_SET])
    lane = replace(LANE, error=radial.error, unit=radial.unit)
    found = FilmEvidence.read(lane, films, split, folders[BASE_SET], history, sampling)
    clinic_found = SetEvidence.read(folders[CLINIC_SET], LANE.titles)
    clinic_films = FilmEvidence.read(
        replace(LANE, models=(TUNED, BASE), error=clinic_found.radial.error, unit=clinic_found.radial.unit),
        clinic,
        clinic_split,
        folders[CLINIC_SET],
        history,
        sampling,
    )
    page = film_report.film_page(
        found,
        where_it_fails(radial.by_landmark(BASE, sampling), radial.unit),
        lane_tiles(radial, clinic_found, params),
    )
    add_answers(page, found, change_words(clinic_found, sampling))
    add_rates(page, radial, found.methods, sampling)
    add_where(page, found, radial, read_spacing(films, found.points.ids), sampling)
    add_angles(page, found, sampling)
    readers = tables.read_table(folders[CLINIC_SET] / "readers.parquet")
    add_clinic(page, clinic_found, readers, sampling, params.reader)
    add_verdict(page, *read_verdict(verdict))
    parts = [
        ("the base's test films", folders[BASE_SET], radial),
        ("the clinic's test films", folders[CLINIC_SET], clinic_found.radial),
    ]
    add_calibration(page, parts, sampling, params.groups)
    film_sections.cases_section(page, found, params, dots=True)
    add_clinic_cases(
        page, clinic_films, read_points(folders[CLINIC_SET], BASE, "test", CEPH.n_points), params
    )
    sections.history_section(page, found.history, LANE.monitored, "model px")
    film_sections.data_section(page, found, films)
    measured = measured_claims(found, radial, clinic_found, sampling)
    film_sections.claims_section(page, found, CLAIMS, measured)
    return film_report.write_page(page, found, output)


def lane_tiles(radial: Radial, clinic: SetEvidence, params: Params) -> tuple[Tile, ...]:
    """Headline figures of this lane alone."""
    sampling = params.sampling
    limit = radial.limits[0]
    change, _ = clinic.change("test", sampling.settings.level)
    return (
        Tile(f"Points within {limit:g} {radial.unit}", rate(radial, BASE, limit, sampling), "%"),
        Tile(
            "Change at the clinic by the round",
            unit=clinic.radial.unit,
            value=figure(change.value, signed=True),
            note="mean error, test films there",
        ),
    )


def add_answers(page: Page, found: FilmEvidence, sentence: tuple[str, str]) -> None:
    """Put one more sentence at the head of the page and into its summary."""
    assert page.summary is not None
    said = (*page.summary.answers, sentence)
    page.summary = replace(page.summary, answers=said)
    page.head[1] = answers(said)


def add_verdict(page: Page, word: str, reasons: Sequence[str]) -> None:
    """What ceph-compare says of the tuned model, and where the loop has pages of its own."""
    style = "bad" if reasons else "good"
    content: list[Child] = [answers([(style, f"The comparison says: {word}.")])]
    if reasons:
        content.append(tag("ul", *(tag("li", reason) for reason in reasons)))
    content.append(
        note(
            join(
                "Both models side by side, landmark by landmark, and the commands: ",
                tag("a", "comparison", href="ceph-compare.html"),
                ". Acceptance, corrections, review time and what the next round would learn from: ",
                tag("a", "the loop", href="ceph-loop.html"),
                ".",
            )
        )
    )
    lead = "A tuned model is promoted if it is better where reviewers worked and harms no landmark elsewhere."
    page.add("verdict", "The round's verdict", stack(*content), lead=lead)


def add_clinic_cases(page: Page, found: FilmEvidence, base: Points, params: Params) -> None:
    """Films of the clinic with label, base and tuned prediction: the ones that the round changed least to most."""
    where = {name: k for k, name in enumerate(base.ids)}
    before = np.array([base.predicted[where[name]] for name in found.points.ids])
    legend = [("label", "truth"), ("after the round", "prediction"), ("base model", "before")]
    content: list[Child] = [anatomy.mark_legend(legend, "film" if params.images else "plain")]
    for kind, chosen in extremes(found.errors, params.cases).items():
        if not chosen:
            continue
        drawn = []
        for k in chosen:
            name = str(found.points.ids[k])
            marks = [
                anatomy.Marks("label", found.points.labels[k], "truth"),
                anatomy.Marks("after the round", found.points.predicted[k], "prediction"),
                anatomy.Marks("base model", before[k], "before"),
            ]
            error = f"{figure(found.errors[k])} {found.lane.unit}"
            shown = film_sections.film_with(found, name, marks, params, f"Film {name}, {error}", dots=True)
            drawn.append(picture(shown, join(tag("strong", error), tag("br"), tag("code", name))))
        content += [tag("h3", kind.capitalize()), row(*drawn)]
    lead = "Test films of the clinic by their mean error after the round."
    if not params.images:
        lead += " Films are left out of this page (images: false)."
    page.add("clinic-cases", "Films of the clinic", *content, lead=lead)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

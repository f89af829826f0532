"""What the pages of film lanes share: their evidence, their head, and sections of films."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import read_split
from stages.core.evaluate.statistics import Bootstrap
from stages.core.params import StageParams
from stages.core.report import anatomy, sections
from stages.core.report.claims import Claim, claims_table
from stages.core.report.evidence import (
    Points,
    Sampling,
    estimate,
    extremes,
    finite_mean,
    list_methods,
    read_csv,
    read_points,
)
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.page import (
    Cell,
    Method,
    Page,
    Summary,
    Tile,
    answers,
    banner,
    grid,
    note,
    picture,
    row,
    stack,
    table,
    tiles,
)
from stages.core.report.wording import Estimate, count, figure, interval

FLOOR_TITLES = {
    "mean_shape": "mean shape",
    "pca_shape": "PCA shape model on HOG",
    "hog_kernel_ridge": "kernel ridge on HOG",
}


class FilmReportParams(StageParams):
    """Parameters of every film lane's report.

    Attributes:
        images: False keeps every film off the page; points are then drawn on white.
        cases: so many best, median and worst films.
        film_height: of a film on the page, CSS pixels.
        jpeg_quality: of films on the page.
        bootstrap: how intervals are made.
    """

    seed: int
    images: bool
    cases: int = Field(ge=1)
    film_height: int = Field(ge=100)
    jpeg_quality: int = Field(ge=1, le=95)
    bootstrap: Bootstrap

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.bootstrap, self.seed)


@dataclass(frozen=True)
class FilmLane:
    """What a film lane's page is about.

    Attributes:
        title, subtitle: heading of the page.
        models: names of the trained models in the evaluation; the first is the one on trial.
        titles: name of a method -> how the page calls it.
        error, unit: column of per_film.parquet that counts, and its unit.
        monitored: column of the history that training chose its epoch by.
        patients: whether the data set says which films are of one patient.
    """

    title: str
    subtitle: str
    schema: LandmarkSchema
    models: tuple[str, ...]
    titles: Mapping[str, str]
    error: str
    unit: str
    monitored: str
    patients: bool

    @property
    def group(self) -> str:
        """What never lies in two roles, and what the bootstrap draws."""
        return "patient" if self.patients else "film"


@dataclass(frozen=True)
class FilmEvidence:
    """Everything that a film lane's page is drawn from.

    Attributes:
        cases: per_film.parquet.
        tested: its rows of the model on trial and the test films, in the order of `points`.
    """

    lane: FilmLane
    store: FilmSet
    split: pd.DataFrame
    cases: pd.DataFrame
    tested: pd.DataFrame
    points: Points
    methods: list[Method]
    history: pd.DataFrame

    @classmethod
    def read(
        cls, lane: FilmLane, films: Path, split: Path, evaluation: Path, history: Path, sampling: Sampling
    ) -> FilmEvidence:
        cases = tables.read_table(evaluation / "per_film.parquet")
        comparison = read_csv(evaluation / "comparison.csv")
        points = read_points(evaluation, lane.models[0], "test", lane.schema.n_points)
        tested = cases[(cases["method"] == lane.models[0]) & (cases["role"] == "test")]
        return cls(
            lane=lane,
            store=FilmSet.open(films),
            split=read_split(split),
            cases=cases,
            tested=tested.set_index("id").loc[points.ids],
            points=points,
            methods=list_methods(cases, comparison, lane.models, lane.titles, lane.error, sampling),
            history=read_csv(history),
        )

    @property
    def rows(self) -> np.ndarray:
        """(n,) rows of the test films in the store."""
        return self.store.rows(self.points.ids)

    @property
    def errors(self) -> np.ndarray:
        """(n,) errors of the test films in the lane's unit."""
        return self.tested[self.lane.error].to_numpy(float)

    @property
    def phantom(self) -> bool:
        return self.store.info.is_phantom


def film_page(found: FilmEvidence, where_it_fails: str, tiles_too: Sequence[Tile] = ()) -> Page:
    """A page with its head, the comparison with floors, and the summary for the page of all lanes.

    Args:
        where_it_fails: a sentence for the head.
        tiles_too: headline figures beyond those of every film lane.
    """
    lane, errors = found.lane, found.errors
    where = count(len(errors), "test film")
    if lane.patients:
        where += f" of {count(found.tested['patient'].nunique(), 'patient')}"
    sentences = (sections.verdict_sentence(found.methods, lane.unit, where), ("open", where_it_fails))
    headline = (
        Tile("Mean radial error", found.methods[0].error, lane.unit, note=where),
        Tile("Median film", unit=lane.unit, value=figure(float(np.nanmedian(errors)))),
        Tile(
            "One film in ten is worse than", unit=lane.unit, value=figure(float(np.nanquantile(errors, 0.9)))
        ),
        *tiles_too,
    )
    page = Page(lane.title, lane.subtitle)
    page.summary = Summary(
        lane=lane.schema.lane,
        title=lane.title,
        subject=lane.subtitle,
        dataset=found.store.info.name,
        phantom=found.phantom,
        unit=lane.unit,
        tiles=headline,
        methods=tuple(found.methods),
        answers=sentences,
    )
    source = count(len(found.store), "film")
    page.head = [banner(found.store.info.name, found.phantom, source), answers(sentences), tiles(headline)]
    sections.comparison_section(page, found.methods, lane.unit, f"{lane.group}s")
    return page


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
    lead = "Test films by their mean error. Rest the pointer on a point for its name."
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


def write_page(page: Page, found: FilmEvidence, output: Path) -> dict[str, float]:
    """Write the page and return the stage's metrics."""
    content = page.html().encode("utf-8")
    output.write_bytes(content)
    return {"kilobytes": round(len(content) / 1024), "n_films_test": len(found.tested)}

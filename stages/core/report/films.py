"""What the pages of film lanes share: their evidence, their head, and sections of films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from stages.core.report import sections
from stages.core.report.evidence import (
    Points,
    Sampling,
    list_methods,
    read_csv,
    read_points,
)
from stages.core.report.page import (
    Method,
    Page,
    Summary,
    Tile,
    answers,
    banner,
    tiles,
)
from stages.core.report.wording import count, figure

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


def write_page(page: Page, found: FilmEvidence, output: Path) -> dict[str, float]:
    """Write the page and return the stage's metrics."""
    content = page.html().encode("utf-8")
    output.write_bytes(content)
    return {"kilobytes": round(len(content) / 1024), "n_films_test": len(found.tested)}

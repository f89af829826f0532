"""Reading pages of report stages, and film lanes' evaluations small enough to draw a page from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.data.films import film_schema
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import write_split
from stages.core.evaluate import errors, statistics
from stages.core.report.markup import VOID

BOOTSTRAP = statistics.Bootstrap(resamples=200, level=0.9, method="percentile", minimum_groups=3)
FLOORS = ("mean_shape", "pca_shape", "hog_kernel_ridge")


@dataclass
class PageReader(HTMLParser):
    """Elements and text of a page; `feed` fails where an end tag closes something else."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.unclosed and self.unclosed[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(path: Path) -> PageReader:
    """Parse a page and check what holds for all: well-formed, self-contained, for research use."""
    reader = PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.unclosed == []
    assert_self_contained(reader)
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert "Research use only" in reader.text
    assert "nan" not in reader.text.lower().replace("finance", "").split()
    return reader


def assert_self_contained(page: PageReader) -> None:
    """Nothing is loaded: no script or style sheet from elsewhere, pictures as data, links to neighbours."""
    for name, attributes in page.elements:
        assert name not in ("link", "iframe", "object", "embed", "base")
        assert not any(a.startswith("on") for a in attributes)
        if name == "script":
            assert attributes["type"] == "application/json"
        assert "src" not in attributes
        target = attributes.get("href", "")
        assert target.startswith("data:image/") if name == "image" else "//" not in target


@dataclass(frozen=True)
class EvaluatedFilms:
    """Where the stages of a film lane left what its report reads."""

    folder: Path
    ids: list[str]

    @property
    def films(self) -> Path:
        return self.folder / "films"

    @property
    def audit(self) -> Path:
        return self.folder / "audit"

    @property
    def split(self) -> Path:
        return self.folder / "split.parquet"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"


Judge = Callable[[LabelledFilms, np.ndarray, str, np.ndarray], pd.DataFrame]


@dataclass(frozen=True)
class Evaluating:
    """How a lane evaluates.

    Attributes:
        shape: (K, 2) raw px, the label of every film but for a shift.
        monitored: column of the history.
        judge, columns: what gives the rows of per_film.parquet, and the columns that are the lane's own.
        parts: methods that are as far off as the model and compared with it, for example a part of it.
    """

    schema: LandmarkSchema
    shape: np.ndarray
    model: str
    monitored: str
    error: str
    judge: Judge
    columns: list[pa.Field]
    parts: tuple[str, ...] = ()


def write_evaluated_films(
    folder: Path,
    lane: Evaluating,
    n_test: int = 12,
    dataset: str = "phantom",
    prefix: str = "film",
    model_error: float = 2.0,
    lost_points: int = 0,
    groups: tuple[str, ...] = ("",),
) -> EvaluatedFilms:
    """Write films, split, evaluation and history of a lane, by the functions that its stages use.

    Args:
        n_test: films of the role test; train, val and gate have three each.
        prefix: what ids begin with.
        model_error: sd of the model's error, raw px; floors have 20.
        lost_points: so many labels of the first test film are missing.
    """
    rng = np.random.default_rng(5)
    roles = ["train"] * 3 + ["val"] * 3 + ["gate"] * 3 + ["test"] * n_test
    n = len(roles)
    ids = [f"{prefix}-{i:02}" for i in range(n)]
    labels = lane.shape + rng.normal(0, 3, (n, 1, 2))
    labels[9, :lost_points] = np.nan
    found = EvaluatedFilms(folder, ids)
    found.films.mkdir(parents=True)
    np.save(found.films / "images.npy", rng.integers(0, 255, (n, 32, 24)).astype(np.uint8))
    described = {"name": dataset, "lane": lane.schema.lane, "frame": "raw"}
    (found.films / "dataset.json").write_text(json.dumps(described))
    (found.films / "quarantine.csv").write_text("file,reason,action,detail\n")
    width, height = (int(v) for v in np.ceil(lane.shape.max(0)) + 30)
    films = {
        "id": ids,
        "patient": [f"patient-{i:02}" for i in range(n)],
        "group": [groups[i % len(groups)] for i in range(n)],
        "width": width,
        "height": height,
        "landmarks": list(labels),
        "phantom": dataset == "phantom",
    }
    tables.write_table(found.films / "films.parquet", pd.DataFrame(films), film_schema(lane.schema.n_points))
    write_split(found.split, pd.DataFrame({"id": ids, "patient": films["patient"], "role": roles}))
    _write_evaluation(found, lane, model_error, rng)
    epochs = "".join(f"{e},{3 / e:.4f},{2 / e:.4f},{9 / e + e:.4f}\n" for e in range(1, 7))
    found.history.write_text(f"step,train_loss,train_part,{lane.monitored}\n{epochs}")
    return found


def _write_evaluation(
    found: EvaluatedFilms, lane: Evaluating, model_error: float, rng: np.random.Generator
) -> None:
    data = LabelledFilms.open(found.films, found.split)
    rows = data.rows("gate", "test")
    per_film, per_point = [], []
    for method in (lane.model, *lane.parts, *FLOORS):
        truth = np.nan_to_num(data.landmarks_raw[rows].astype(float), nan=5.0)
        predicted = truth + rng.normal(0, 20.0 if method in FLOORS else model_error, truth.shape)
        per_film.append(lane.judge(data, rows, method, predicted))
        per_point.append(errors.point_table(data, rows, method, predicted))
    cases = pd.concat(per_film)
    errors.write_tables(found.evaluation, cases, pd.concat(per_point), lane.columns)
    pairs = [(lane.model, other) for other in (*lane.parts, *FLOORS)]
    compared = statistics.compare_methods(cases, pairs, lane.error, ["test", "gate"], BOOTSTRAP, 1)
    statistics.write_comparison(found.evaluation / "comparison.csv", compared)

"""A lane's films, splits, models and reviews small enough to evaluate and to draw pages from in a second."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from stages.ceph import evaluate
from stages.ceph.readers import write_readers
from stages.ceph.schema import CEPH
from stages.ceph.spacing import write_spacing
from stages.core.data import geometry, tables
from stages.core.data.films import FilmSet, film_schema
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest, write_split
from stages.core.evaluate.statistics import Bootstrap
from stages.core.floors.fitting import FloorParams
from stages.core.floors.stage import run_floors
from stages.core.model.card import CARD, InputSize, ModelCard, load_card
from stages.core.review.events import LABELS_SCHEMA, FoldSettings, QueueKind, ReviewEvent, fold, write_events
from stages.core.review.queue import write_queue
from stages.core.stage import Observer

SIZE = (60, 48)
"""height, width of the stored pictures, a quarter of the films"""
RAW = (192, 240)
"""width, height of the films, px"""
SHAPE = np.array(
    [
        (78, 78), (146, 70), (134, 96), (62, 92), (148, 124), (142, 158), (144, 174), (130, 186), (138, 183),
        (78, 158), (146, 142), (150, 140), (164, 136), (162, 150), (158, 122), (156, 176), (102, 118), (152, 116),
        (70, 112),
    ],
    float,
)  # fmt: skip
"""(19, 2) raw px, a face that looks to the right"""
BOOTSTRAP = Bootstrap(resamples=200, level=0.9, method="percentile", minimum_groups=3)
SPACING_MM = 0.9
EXPECTED = 0.45
"""error that the stand-ins expect of every point, model px"""
SHIFTED = 9
"""gonion: the landmark that the clinic's readers place elsewhere"""


@dataclass(frozen=True)
class Answer:
    points: np.ndarray
    expected_error: np.ndarray


@dataclass(frozen=True)
class StandIn:
    """Opens and answers like the lane's model: each film carries its truth, the model misses it by a fixed amount.

    The truth lies in `truth.parquet` beside the card, by the film's first pixel, which names the film.
    """

    card: ModelCard
    points: np.ndarray
    expected: float

    @classmethod
    def open(cls, folder: Path) -> StandIn:
        card = load_card(folder)
        return cls(card, np.load(folder / "points.npy"), card.params["expected"])

    @property
    def stored_size(self) -> geometry.Size:
        return SIZE

    def predict(self, images: np.ndarray) -> Answer:
        found = self.points[images[:, 0, 0].astype(int)]
        return Answer(found, np.full(found.shape[:2], self.expected))


@contextmanager
def standing_in() -> Iterator[None]:
    """Stages find the stand-in where they look for the lane's model."""
    module = ModuleType("stages.ceph.locating.model")
    module.TrainedCeph = StandIn  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        yield


@dataclass(frozen=True)
class Judged:
    """Where the lane's stages left their outputs."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        places = {
            "films": "films",
            "split": "split.parquet",
            "clinic": "clinic",
            "clinic_split": "clinic-split.parquet",
            "floors": "floors",
            "base": "base",
            "tuned": "tuned",
            "evaluation": "evaluation",
            "verdict": "verdict.json",
            "events": "events",
            "labels": "labels.parquet",
            "queue": "queue.parquet",
            "history": "history.csv",
        }
        if name not in places:
            raise AttributeError(name)
        return self.root / places[name]

    @property
    def observe(self) -> Observer:
        return Observer.quiet(self.root / "scratch")


def evaluate_params(**changes: object) -> evaluate.Params:
    settings = {"seed": 3, "threads": 1, "reader": "a", "groups": 4, "bootstrap": BOOTSTRAP}
    return evaluate.Params.model_validate({**settings, **changes})


def write_lane(
    root: Path,
    n_test: int = 10,
    n_clinic: int = 7,
    dataset: str = "phantom",
    prefix: str = "film",
    spacing_mm: float | None = SPACING_MM,
    base_error: float = 1.5,
    gain: float = 0.7,
    lost: Sequence[tuple[int, int]] = (),
) -> Judged:
    """Write films of both sets with splits, floors, two models, readers, a queue, events, labels and a verdict.

    Args:
        n_test: films of the base's role test; train has twelve, val and gate six each.
        n_clinic: films of the clinic's roles gate and test; its role train has as many and four more.
        spacing_mm: of the base's films; the clinic's is unknown.
        base_error: sd of the base's error along x and y on its own films, raw px.
        gain: how much of what the base is off by at the clinic the tuned model learned, 0 to 1.
        lost: (test film of the clinic, point) pairs that reader A did not set.
    """
    rng = np.random.default_rng(7)
    lane = Judged(root)
    root.mkdir(parents=True, exist_ok=True)
    roles = ["train"] * 12 + ["val"] * 6 + ["gate"] * 6 + ["test"] * n_test
    labels = _shapes(rng, len(roles))
    _write_films(lane.films, dataset, prefix, labels, 0, spacing_mm)
    ids = FilmSet.open(lane.films).ids
    write_split(lane.split, pd.DataFrame({"id": ids, "patient": ids, "role": roles}))

    clinic_roles = ["train"] * (n_clinic + 4) + ["gate"] * n_clinic + ["test"] * n_clinic
    truth = _shapes(rng, len(clinic_roles)) + np.where(np.arange(19)[:, None] == SHIFTED, [4.0, -6.0], 0.0)
    _write_films(lane.clinic, dataset, f"{prefix}-clinic", np.full_like(truth, np.nan), len(roles), None)
    clinic_ids = FilmSet.open(lane.clinic).ids
    table = pd.DataFrame({"id": clinic_ids, "patient": clinic_ids, "role": clinic_roles})
    tables.write_table(lane.clinic_split, table, tables.pq.read_schema(lane.split))
    first = truth.copy()
    for film, point in lost:
        first[len(clinic_roles) - n_clinic + film, point] = np.nan
    second = truth + rng.normal(0, 1.0, truth.shape)
    readers = [
        pd.DataFrame({"id": clinic_ids, "reader": reader, "landmarks": list(points)})
        for reader, points in (("a", first), ("b", second))
    ]
    write_readers(lane.clinic, pd.concat(readers))
    _write_floors(lane)

    both = np.concatenate([labels, truth])
    off = rng.normal(0, base_error, both.shape)
    shift = np.zeros_like(both)
    shift[len(labels) :, SHIFTED] = [-4.0, 6.0]
    _write_model(lane, "base", both + off + shift, EXPECTED)
    _write_model(lane, "tuned", both + off + (1 - gain) * shift, EXPECTED)
    _write_reviews(lane, truth, both + off + shift, len(labels), n_clinic + 4)
    lane.verdict.write_text(json.dumps({"verdict": "promote", "reasons": []}))
    epochs = "".join(f"{e},{3 / e:.4f},{9 / e + e:.4f}\n" for e in range(1, 7))
    lane.history.write_text(f"step,train_loss,val_error_model_px\n{epochs}")
    return lane


def evaluated(lane: Judged, output: Path | None = None, **changes: object) -> dict[str, float]:
    """Run ceph-evaluate on the lane with the stand-in."""
    with standing_in():
        return evaluate.run(
            evaluate_params(**changes),
            films=lane.films,
            split=lane.split,
            clinic=lane.clinic,
            clinic_split=lane.clinic_split,
            floors=lane.floors,
            base=lane.base,
            tuned=lane.tuned,
            output=output or lane.evaluation,
            observe=lane.observe,
        )


def review_events(
    ids: Sequence[str],
    truth: np.ndarray,
    predicted: np.ndarray,
    kinds: Sequence[QueueKind],
    blinded: Sequence[bool],
) -> list[ReviewEvent]:
    """One event a landmark of every film: accepted within 3 raw px, else moved to the truth; a second each."""
    events = []
    clock = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for row, (film, kind, hidden) in enumerate(zip(ids, kinds, blinded, strict=True)):
        for k, name in enumerate(CEPH.names):
            clock += datetime.timedelta(seconds=1)
            moved = float(np.hypot(*(truth[row, k] - predicted[row, k])))
            accept = moved <= 3 and not hidden
            x, y = predicted[row, k] if accept else truth[row, k]
            events.append(
                ReviewEvent(
                    event_id=f"{row * 100 + k:032x}",
                    ts_utc=clock.isoformat(),
                    lane="ceph",
                    round=1,
                    film=film,
                    landmark=name,
                    model_key="untracked",
                    queue_kind=kind,
                    blinded=hidden,
                    rank=row + 1,
                    uncertainty=1.0,
                    pred_x=float(predicted[row, k, 0]),
                    pred_y=float(predicted[row, k, 1]),
                    verdict="accept" if accept else "correct",
                    x=float(x),
                    y=float(y),
                    dwell_ms=1000,
                    annotator="ann",
                    ui_version="page 1",
                )
            )
    return events


def _shapes(rng: np.random.Generator, n: int) -> np.ndarray:
    return SHAPE + rng.normal(0, 4, (n, 1, 2)) + rng.normal(0, 1, (n, 19, 2))


def _write_films(
    folder: Path, dataset: str, prefix: str, labels: np.ndarray, first: int, spacing_mm: float | None
) -> None:
    n = len(labels)
    rng = np.random.default_rng(first)
    images = rng.integers(0, 255, (n, *SIZE)).astype(np.uint8)
    images[:, 0, 0] = first + np.arange(n)
    ids = [f"{prefix}-{i:03}" for i in range(n)]
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    (folder / "dataset.json").write_text(json.dumps({"name": dataset, "lane": "ceph", "frame": "raw"}))
    (folder / "quarantine.csv").write_text("file,reason,action,detail\n")
    films = {
        "id": ids,
        "patient": ids,
        "group": "",
        "width": RAW[0],
        "height": RAW[1],
        "landmarks": list(labels),
        "phantom": dataset == "phantom",
    }
    tables.write_table(folder / "films.parquet", pd.DataFrame(films), film_schema(19))
    spacing = np.nan if spacing_mm is None else spacing_mm
    write_spacing(folder, np.array(ids), dict.fromkeys(ids, (spacing, spacing)))


class FloorsOfTest(FloorParams):
    section = "ceph.floors"


def _write_floors(lane: Judged) -> None:
    params = FloorsOfTest(
        threads=1,
        thumbnail=InputSize(height=32, width=32),
        cells=(8,),
        orientations=4,
        variance=0.9,
        widths=(1.0,),
        penalties=(0.1,),
    )
    run_floors(LabelledFilms.open(lane.films, lane.split), CEPH, params, lane.floors, lane.observe)


def _write_model(lane: Judged, name: str, points_raw: np.ndarray, expected: float) -> None:
    """`points_raw` (N, 19, 2) of all films of both sets; `expected` error in model px."""
    store = FilmSet.open(lane.films)
    card = ModelCard(
        lane="ceph",
        dataset=store.info.name,
        architecture="stand-in",
        key=f"{name}-key",
        params={"expected": expected},
        input=None,
        schema=CEPH.names,
        n_train=12,
        split_sha256=split_digest(read_split(lane.split)),
    )
    folder = lane.root / name
    folder.mkdir()
    (folder / CARD).write_text(card.model_dump_json(by_alias=True))
    to_model = geometry.resize_matrix((RAW[1], RAW[0]), SIZE)
    np.save(folder / "points.npy", geometry.apply(to_model, points_raw))


def _write_reviews(lane: Judged, truth: np.ndarray, predicted: np.ndarray, start: int, n_pool: int) -> None:
    """A queue over the clinic's pool whose last rows nobody opened, and events on the others."""
    ids = list(FilmSet.open(lane.clinic).ids[:n_pool])
    of_pool = predicted[start : start + n_pool]
    kinds: list[QueueKind] = ["random_audit" if i % 3 == 0 else "uncertain" for i in range(n_pool)]
    blinded = [i == 3 for i in range(n_pool)]
    queue = pd.DataFrame(
        {
            "rank": np.arange(1, n_pool + 2),
            "id": [*ids, ids[1]],
            "kind": [*kinds, "repeat"],
            "blinded": [*blinded, False],
            "score": 1.0,
            "reason": "low_peak: gonion",
            "landmarks": [*of_pool, of_pool[1]],
            "expected_error": [np.full(19, 2.0)] * (n_pool + 1),
            "spacing_x_mm": np.nan,
            "spacing_y_mm": np.nan,
        }
    )
    write_queue(lane.queue, queue)
    seen = n_pool - 3
    events = review_events(ids[:seen], truth[:seen], of_pool[:seen], kinds[:seen], blinded[:seen])
    again = review_events(ids[1:2], truth[1:2] + 0.6, of_pool[1:2], ["repeat"], [False])
    events += [
        e.model_copy(update={"event_id": f"{9000 + i:032x}", "rank": n_pool + 1}) for i, e in enumerate(again)
    ]
    write_events(lane.events / "events.parquet", events)
    settings = FoldSettings(tolerance_mm=2, tolerance_px=4, accepted=0.5, corrected=1, hidden=1)
    tables.write_table(lane.labels, fold(events, settings), LABELS_SCHEMA)

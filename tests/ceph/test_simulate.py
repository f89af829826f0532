"""The simulated reviewer answers as his tolerance says, where the reader really saw the landmarks."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.ceph import simulate
from stages.ceph.readers import read_readers, reader_points, write_readers
from stages.ceph.schema import CEPH, INDEX
from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.review.events import ReviewEvent, read_events
from stages.core.review.queue import read_queue, write_queue
from stages.core.stage import Observer
from tests.ceph.judged import SHIFTED, Judged, write_lane

DWELL = {"look": 1000, "move": 500, "reach": 400}


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return write_lane(tmp_path_factory.mktemp("simulate") / "lane")


def params(**changes: Any) -> simulate.Params:
    values: dict[str, Any] = {
        "seed": 5,
        "reader": "a",
        "round": 2,
        "films": 100,
        "tolerance_mm": 3.0,
        "tolerance_percent_sn": 6.0,
        "repeat_sd_percent_sn": 1.0,
        "dwell": DWELL,
    }
    return simulate.Params.model_validate(values | changes)


def simulated(lane: Judged, tmp_path: Path, queue: Path | None = None, **changes: Any) -> list[ReviewEvent]:
    output = tmp_path / "events.parquet"
    simulate.run(params(**changes), queue or lane.queue, lane.clinic, output, Observer.quiet(tmp_path))
    return read_events(output)


def requeued(lane: Judged, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """The lane's queue after `change`."""
    write_queue(tmp_path / "queue.parquet", change(read_queue(lane.queue)))
    return tmp_path / "queue.parquet"


def test_a_point_within_the_tolerance_is_accepted_where_it_is_and_others_go_where_the_reader_saw_them(
    lane: Judged, tmp_path: Path
) -> None:
    events = [e for e in simulated(lane, tmp_path) if not e.blinded and e.queue_kind != "repeat"]
    truth = reader_points(lane.clinic, "a", [e.film for e in events])
    seen = np.array([truth[i, INDEX[e.landmark]] for i, e in enumerate(events)])
    sn = np.linalg.norm(truth[:, INDEX["nasion"]] - truth[:, INDEX["sella"]], axis=-1)
    off = np.hypot(*(seen - [(e.pred_x, e.pred_y) for e in events]).T) / sn * 100
    accepted = np.array([e.verdict == "accept" for e in events])
    np.testing.assert_array_equal(accepted, off <= 6.0)
    assert 0 < accepted.sum() < len(events)
    for event, place in zip(events, seen, strict=True):
        expected = (event.pred_x, event.pred_y) if event.verdict == "accept" else place
        assert (event.x, event.y) == pytest.approx(expected)


def test_a_wider_tolerance_accepts_more_and_a_shifted_landmark_is_corrected_most(
    lane: Judged, tmp_path: Path
) -> None:
    narrow, wide = (simulated(lane, tmp_path, tolerance_percent_sn=t) for t in (2.0, 8.0))
    accepted = [{e.event_id for e in events if e.verdict == "accept"} for events in (narrow, wide)]
    assert accepted[0] < accepted[1]
    corrected = pd.Series([e.landmark for e in wide if e.verdict == "correct" and not e.blinded])
    assert corrected.value_counts().index[0] == CEPH.names[SHIFTED]


def test_millimetres_decide_where_the_spacing_is_known(lane: Judged, tmp_path: Path) -> None:
    queue = requeued(lane, tmp_path, lambda q: q.assign(spacing_x_mm=0.5, spacing_y_mm=1.0))
    for event in simulated(lane, tmp_path, queue):
        assert event.spacing_mm == 0.75
        assert event.moved_mm is not None
        assert event.x is not None
        assert event.y is not None
        moved = np.hypot(0.5 * (event.x - event.pred_x), 1.0 * (event.y - event.pred_y))
        assert event.moved_mm == pytest.approx(moved)
        if event.verdict == "correct" and not event.blinded:
            assert moved > 3.0
    for event in simulated(lane, tmp_path):
        assert event.spacing_mm is None
        assert event.moved_mm is None


def test_on_a_blinded_film_every_point_is_the_readers_own(lane: Judged, tmp_path: Path) -> None:
    blinded = [e for e in simulated(lane, tmp_path, tolerance_percent_sn=1e6) if e.blinded]
    assert len(blinded) == CEPH.n_points
    truth = reader_points(lane.clinic, "a", [blinded[0].film])[0]
    assert {e.verdict for e in blinded} == {"correct"}
    places = np.array([(e.x, e.y) for e in blinded], float)
    np.testing.assert_allclose(places, truth, rtol=1e-6)


def test_a_repeat_is_answered_again_a_little_differently(lane: Judged, tmp_path: Path) -> None:
    events = simulated(lane, tmp_path, tolerance_percent_sn=1e-6)
    again = [e for e in events if e.queue_kind == "repeat"]
    assert len(again) == CEPH.n_points
    first = {e.landmark: e for e in events if e.film == again[0].film and e.queue_kind != "repeat"}
    apart = np.array([(e.x - first[e.landmark].x, e.y - first[e.landmark].y) for e in again])  # type: ignore[operator]
    truth = reader_points(lane.clinic, "a", [again[0].film])[0]
    sn = np.linalg.norm(truth[INDEX["nasion"]] - truth[INDEX["sella"]])
    assert 0.5 < apart.std() / sn * 100 < 1.6
    same = simulated(lane, tmp_path, tolerance_percent_sn=1e-6, repeat_sd_percent_sn=0.0)
    for event in same:
        if event.queue_kind == "repeat":
            assert event.x == pytest.approx(first[event.landmark].x)


def test_a_landmark_without_the_readers_point_is_not_visible(lane: Judged, tmp_path: Path) -> None:
    film = str(read_queue(lane.queue)["id"][0])
    clinic = tmp_path / "clinic"
    clinic.mkdir()
    readers = read_readers(lane.clinic)
    points = tables.stack_points(readers["landmarks"])
    own = (readers["id"] == film) & (readers["reader"] == "a")
    points[own.to_numpy(), INDEX["sella"]] = np.nan
    readers["landmarks"] = pd.Series(list(points), dtype=object)
    write_readers(clinic, readers)
    output = tmp_path / "events.parquet"
    figures = simulate.run(params(), lane.queue, clinic, output, Observer.quiet(tmp_path))
    gone = [e for e in read_events(output) if e.verdict == "not_visible"]
    assert [(e.film, e.landmark) for e in gone] == [(film, "sella")]
    assert figures["n_not_visible"] == 1


def test_a_film_that_the_reader_never_labelled_is_passed_over(lane: Judged, tmp_path: Path) -> None:
    film = str(read_queue(lane.queue)["id"][0])
    readers = read_readers(lane.clinic)
    (tmp_path / "clinic").mkdir()
    write_readers(tmp_path / "clinic", readers[(readers["id"] != film) | (readers["reader"] != "a")])
    output = tmp_path / "events.parquet"
    figures = simulate.run(params(), lane.queue, tmp_path / "clinic", output, Observer.quiet(tmp_path))
    films = {e.film for e in simulated(lane, tmp_path / "all")}
    assert {e.film for e in read_events(output)} == films - {film}
    assert figures["n_films"] == len(films) - 1


def test_the_first_rows_of_the_queue_are_answered_in_order(lane: Judged, tmp_path: Path) -> None:
    events = simulated(lane, tmp_path, films=3)
    assert [e.rank for e in events] == sorted(e.rank for e in events)
    assert {e.rank for e in events} == {1, 2, 3}
    assert {e.round for e in events} == {2}
    assert {e.annotator for e in events} == {"simulated-a"}


def test_further_corrections_take_longer_and_times_follow_each_other(lane: Judged, tmp_path: Path) -> None:
    queue = requeued(lane, tmp_path, lambda q: q.assign(spacing_x_mm=0.5, spacing_y_mm=0.5))
    events = simulated(lane, tmp_path, queue)
    moved = sorted((e for e in events if e.verdict == "correct"), key=lambda e: e.moved_mm or 0.0)
    assert [e.dwell_ms for e in moved] == sorted(e.dwell_ms for e in moved)
    assert moved[0].dwell_ms < moved[-1].dwell_ms
    assert max(e.dwell_ms for e in events if e.verdict == "accept") < moved[0].dwell_ms
    said = [e.moment[0] for e in events]
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(said)]
    assert gaps == pytest.approx([e.dwell_ms / 1000 for e in events[1:]])


def test_the_same_inputs_give_the_same_bytes(lane: Judged, tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate.run(
            params(), lane.queue, lane.clinic, tmp_path / name / "events.parquet", Observer.quiet(tmp_path)
        )
    one, two = ((tmp_path / name / "events.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    other = simulated(lane, tmp_path, seed=6)
    assert {e.event_id for e in other}.isdisjoint(
        {e.event_id for e in read_events(tmp_path / "one" / "events.parquet")}
    )


def test_an_unknown_reader_is_named(lane: Judged, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="'z'"):
        simulated(lane, tmp_path, reader="z")
    assert not (tmp_path / "events.parquet").exists()

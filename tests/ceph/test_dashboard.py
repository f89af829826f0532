"""The loop's page counts what reviewers did, once each, and takes acceptance from the random audit alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.ceph import dashboard
from stages.ceph.loop.model import _reached
from stages.ceph.loop.reviews import Reviews, round_rows
from stages.ceph.schema import CEPH, INDEX
from stages.ceph.simulate import UI_VERSION
from stages.core.params import load_params
from stages.core.report.wording import Estimate
from stages.core.review.events import QueueKind, ReviewEvent, read_events, write_events
from tests.report_pages import PageReader, read_page

from .judged import BOOTSTRAP, SHAPE, Judged, evaluated, review_events, write_lane


def params(**changes: Any) -> dashboard.Params:
    settings = {
        "seed": 1,
        "tolerance_mm": 2.0,
        "tolerance_percent_sn": 2.8,
        "groups": 4,
        "criteria": {
            "error_change_percent": -20,
            "acceptance_percent": 85,
            "time_change_percent": -25,
            "training_hours": 4,
        },
        "bootstrap": BOOTSTRAP,
    }
    return dashboard.Params.model_validate({**settings, **changes})


SAMPLING = params().sampling


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    lane = write_lane(tmp_path_factory.mktemp("lane") / "ceph")
    evaluated(lane)
    return lane


def write(lane: Judged, output: Path, events: Path | None = None) -> tuple[dict[str, float], PageReader]:
    metrics = dashboard.run(
        params(),
        evaluation=lane.evaluation,
        events=events or lane.events,
        labels=lane.labels,
        queue=lane.queue,
        verdict=lane.verdict,
        base=lane.base,
        tuned=lane.tuned,
        output=output,
        observe=lane.observe,
    )
    return metrics, read_page(output)


def reviewed(
    moved: np.ndarray, kinds: list[QueueKind], blinded: list[bool] | None = None
) -> list[ReviewEvent]:
    """Films whose points a reviewer sees `moved` (n, 19) raw px to the right of the prediction."""
    n = len(moved)
    predicted = np.tile(SHAPE, (n, 1, 1))
    truth = predicted + np.stack([moved, np.zeros_like(moved)], axis=-1)
    return review_events([f"f{i}" for i in range(n)], truth, predicted, kinds, blinded or [False] * n)


SN = float(np.linalg.norm(SHAPE[INDEX["nasion"]] - SHAPE[INDEX["sella"]]))


def test_page_has_acceptance_corrections_time_labels_and_what_comes_next(
    lane: Judged, tmp_path: Path
) -> None:
    metrics, page = write(lane, tmp_path / "loop.html")
    assert "Reviewers accepted" in page.text
    assert "of the random audit" in page.text
    assert "films an hour" in page.text
    assert "What the next round would learn from" in page.text
    assert "3 films wait" in page.text
    assert "simulated" not in page.text.split("Is the loop a success")[0]
    events = read_events(lane.events)
    audit = [e for e in events if e.queue_kind == "random_audit" and not e.blinded]
    share = 100 * np.mean([e.verdict == "accept" for e in audit])
    assert metrics["acceptance_percent"] == pytest.approx(share)
    assert metrics["n_audited_points"] == len(audit)
    assert metrics["n_films_reviewed"] == 8
    assert f"{share:.1f} %" in page.text


def test_same_inputs_give_the_same_bytes_and_no_time_of_today(lane: Judged, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write(lane, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.html").read_text()


def test_acceptance_is_that_of_the_random_audit_alone() -> None:
    """Uncertain films are all moved, audited ones half; hidden points cannot be accepted and do not count."""
    moved = np.zeros((4, 19))
    moved[0], moved[1, :10], moved[3] = 9.0, 9.0, 9.0
    kinds: list[QueueKind] = ["uncertain", "random_audit", "random_audit", "random_audit"]
    found = Reviews.of(reviewed(moved, kinds, [False, False, False, True]))
    assert found.acceptance(SAMPLING).value == pytest.approx(100 * 28 / 38)
    assert found.within(100.0, SAMPLING).value == 100.0
    near = found.within(5.0, SAMPLING).value
    assert near == pytest.approx(100 * 28 / 57), "hidden points say how near the prediction is"


def test_lengths_without_a_spacing_are_percent_of_the_predicted_distance() -> None:
    moved = np.zeros((1, 19))
    moved[0, 3] = 6.0
    found = Reviews.of(reviewed(moved, ["random_audit"]))
    assert found.unit == "% of S–N"
    assert found.corrections()["moved"].to_list() == [pytest.approx(100 * 6 / SN)]


def test_lengths_are_millimetres_where_every_film_has_a_spacing() -> None:
    moved = np.zeros((2, 19))
    moved[:, 3] = 6.0
    events = reviewed(moved, ["random_audit", "uncertain"])
    in_mm = [
        e.model_copy(update={"spacing_mm": 0.5, "moved_mm": 3.0 if e.verdict == "correct" else 0.0})
        for e in events
    ]
    found = Reviews.of(in_mm)
    assert found.unit == "mm"
    assert found.corrections()["moved"].to_list() == [3.0, 3.0]
    assert Reviews.of([*in_mm[:19], *events[19:]]).unit == "% of S–N"


def test_what_was_undone_or_said_again_counts_once() -> None:
    moved = np.zeros((1, 19))
    events = reviewed(moved, ["random_audit"])
    first = events[0]
    later = "2026-01-02T00:00:00+00:00"
    undone = first.model_copy(
        update={
            "event_id": "e" * 32,
            "verdict": "undo",
            "x": None,
            "y": None,
            "ts_utc": later,
            "supersedes": first.event_id,
        }
    )
    found = Reviews.of([*events, undone])
    assert len(found.verdicts) == 18
    assert found.sittings["seconds"].sum() == 20.0, "the time was spent all the same"
    moved_on = first.model_copy(
        update={
            "event_id": "d" * 32,
            "verdict": "correct",
            "x": first.pred_x + 9,
            "ts_utc": later,
            "supersedes": first.event_id,
        }
    )
    found = Reviews.of([*events, moved_on])
    assert len(found.verdicts) == 19
    assert (found.verdicts["verdict"] == "correct").sum() == 1


def test_a_film_that_comes_again_does_not_take_the_audits_place() -> None:
    moved = np.zeros((1, 19))
    events = reviewed(moved, ["random_audit"])
    again = [
        e.model_copy(
            update={
                "event_id": f"{500 + i:032x}",
                "queue_kind": "repeat",
                "rank": 9,
                "verdict": "correct",
                "x": e.pred_x + 4,
                "ts_utc": "2026-01-02T00:00:00+00:00",
            }
        )
        for i, e in enumerate(events)
    ]
    found = Reviews.of([*events, *again])
    assert found.acceptance(SAMPLING).value == 100.0
    same, apart = found.repeated()
    assert same == 0.0
    np.testing.assert_allclose(apart, 100 * 4 / SN)
    assert len(found.sittings) == 2


def test_time_counts_sittings_and_rounds_are_counted_apart() -> None:
    moved = np.zeros((3, 19))
    moved[2] = 9.0
    events = reviewed(moved, ["random_audit"] * 3)
    events = [e.model_copy(update={"round": 2}) if e.film == "f2" else e for e in events]
    found = Reviews.of(events)
    assert found.films_per_hour == pytest.approx(3600 / 19)
    rows = round_rows(found, SAMPLING)
    assert [(r.round, r.films, r.points, r.accepted.value) for r in rows] == [
        (1, 2, 38, 100.0),
        (2, 1, 19, 0.0),
    ]
    assert np.isnan(rows[0].moved)
    assert rows[1].moved == pytest.approx(100 * 9 / SN)


def test_reviewers_who_follow_what_they_see_are_seen_to() -> None:
    moved = np.full((6, 19), 2.0)
    moved[3:] = 8.0
    found = Reviews.of(reviewed(moved, ["uncertain"] * 6, [False] * 3 + [True] * 3))
    shown, hidden = found.anchoring(SAMPLING)
    assert shown.value == 0.0, "2 px are accepted as they are"
    assert hidden.value == pytest.approx(100 * 8 / SN)


def test_imported_verdicts_have_no_time() -> None:
    timed = reviewed(np.zeros((2, 19)), ["uncertain"] * 2)
    imported = [
        e.model_copy(update={"dwell_ms": 0, "film": f"i{e.film}", "event_id": f"{8000 + i:032x}"})
        for i, e in enumerate(timed)
    ]
    alone, both = Reviews.of(timed), Reviews.of([*timed, *imported])
    assert both.films_per_hour == alone.films_per_hour
    assert both.seconds(False, SAMPLING) == alone.seconds(False, SAMPLING)
    assert round_rows(both, SAMPLING)[0].films == 4
    (row,) = round_rows(Reviews.of(imported), SAMPLING)
    assert np.isnan(row.seconds.value)


def test_simulated_times_are_said_to_be_no_times(lane: Judged, tmp_path: Path) -> None:
    events = [e.model_copy(update={"ui_version": UI_VERSION}) for e in read_events(lane.events)]
    write_events(tmp_path / "events" / "events.parquet", events)
    _, page = write(lane, tmp_path / "loop.html", tmp_path / "events")
    assert "no figure here says how long a person takes" in page.text
    assert "no verdict: simulated times" in page.text
    assert "A simulated reviewer accepted" in page.text


def test_a_queue_that_is_used_up_says_so(lane: Judged, tmp_path: Path) -> None:
    from stages.core.review.queue import read_queue

    queue = read_queue(lane.queue)
    events = read_events(lane.events)
    missing = sorted(set(queue["id"]) - {e.film for e in events})
    zeros = np.zeros((len(missing), 19))
    more = reviewed(zeros, ["uncertain"] * len(missing))
    names = dict(zip(["f0", "f1", "f2"], missing, strict=True))
    more = [
        e.model_copy(update={"film": names[e.film], "event_id": f"{7000 + i:032x}"})
        for i, e in enumerate(more)
    ]
    write_events(tmp_path / "events" / "events.parquet", [*events, *more])
    _, page = write(lane, tmp_path / "loop.html", tmp_path / "events")
    assert "Every film of the queue was opened" in page.text


def test_what_the_checkout_knows_is_on_the_commands_page_only(lane: Judged, tmp_path: Path) -> None:
    found = dashboard.LoopEvidence.read(
        lane.evaluation,
        read_events(lane.events),
        lane.labels,
        lane.queue,
        lane.verdict,
        lane.base,
        lane.tuned,
    )
    checkout = dashboard.Checkout(
        active="ceph-phantom 2",
        versions=(("1", "2026-01-01", "2.50", "percent_sn", "0", ""),),
        deployments=(("2026-01-02 10:00", "promoted", "2", "1", "2", "ann@host", "better"),),
        training_s={"ceph-base": 1800.0, "ceph-tuned": 900.0},
    )
    (tmp_path / "loop.html").write_text(dashboard.loop_page(found, params(), checkout).html())
    text = read_page(tmp_path / "loop.html").text
    assert "ceph-phantom 2" in text
    assert "ann@host" in text
    assert "Objections" in text
    assert "45.0 min" in text
    plain = write(lane, tmp_path / "plain.html")[1].text
    assert "ann@host" not in plain
    assert "said by plumbline dashboard ceph" in plain


@pytest.mark.parametrize(
    ("estimate", "target", "below", "said", "style"),
    [
        (Estimate(-30, -35, -25), -20, True, "yes", "good"),
        (Estimate(-30, -45, -15), -20, True, "yes, not beyond doubt", "open"),
        (Estimate(-10, -15, -5), -20, True, "no", "bad"),
        (Estimate(90, 86, 94), 85, False, "yes", "good"),
        (Estimate(80, 70, 90), 85, False, "no, not beyond doubt", "open"),
        (Estimate(80, 76, 84), 85, False, "no", "bad"),
        (Estimate(90), 85, False, "yes, no interval", "open"),
        (Estimate(np.nan), 85, False, "not measured", "open"),
    ],
)
def test_a_criterion_is_reached_beyond_doubt_or_not(
    estimate: Estimate, target: float, below: bool, said: str, style: str
) -> None:
    assert _reached(estimate, target, below) == (said, style)


def test_by_landmark_names_every_landmark(lane: Judged) -> None:
    table = Reviews.of(read_events(lane.events)).by_landmark()
    assert tuple(table.index) == CEPH.names
    assert (table["n"] > 0).all()
    assert table["accepted"].idxmin() == "gonion"


def test_params_are_complete() -> None:
    assert load_params(dashboard.Params).tolerance("mm") > 0

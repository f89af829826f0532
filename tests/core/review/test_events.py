"""Events fold into the same labels in any order; undo, replacement and disagreement mean what they say."""

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.review.events import (
    EVENTS_SCHEMA,
    LABELS_SCHEMA,
    FoldSettings,
    ReviewEvent,
    fold,
    ordered,
    read_events,
    standing,
    write_events,
)

SETTINGS = FoldSettings(tolerance_mm=2.0, tolerance_px=8.0, accepted=0.5, corrected=1.0, hidden=0.9)


def event(number: int, verdict: str = "accept", second: int | None = None, **changes: Any) -> ReviewEvent:
    """Event `number` of one annotator on one landmark, said in that second; the prediction is (10, 20)."""
    placed = {"accept": (10.0, 20.0), "correct": (10.0 + number, 20.0)}.get(verdict, (None, None))
    values: dict[str, Any] = {
        "event_id": f"{number:032x}",
        "ts_utc": f"2026-01-01T00:{(number if second is None else second) // 60:02}"
        f":{(number if second is None else second) % 60:02}+00:00",
        "lane": "ceph",
        "round": 1,
        "film": "film",
        "landmark": "sella",
        "model_key": "k",
        "queue_kind": "uncertain",
        "blinded": False,
        "rank": 0,
        "uncertainty": 1.0,
        "pred_x": 10.0,
        "pred_y": 20.0,
        "verdict": verdict,
        "x": placed[0],
        "y": placed[1],
        "dwell_ms": 900,
        "annotator": "ann",
        "ui_version": "test",
    }
    return ReviewEvent(**(values | changes))


def replacing(number: int, target: int, verdict: str = "correct", **changes: Any) -> ReviewEvent:
    return event(number, verdict, supersedes=f"{target:032x}", **changes)


def only(*events: ReviewEvent) -> dict[str, Any]:
    """The single row that these events fold into."""
    table = fold(events, SETTINGS)
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


@st.composite
def histories(draw: st.DrawFn) -> list[ReviewEvent]:
    """What up to three annotators may have said of two films, with undos, redos and replacements."""
    events: list[ReviewEvent] = []
    for number in range(1, draw(st.integers(1, 14)) + 1):
        annotator, film = draw(st.sampled_from("abc")), draw(st.sampled_from(["one", "two"]))
        own = [e for e in events if (e.annotator, e.film) == (annotator, film)]
        verdict = draw(st.sampled_from(["accept", "correct", "not_visible", "unsure", "undo"]))
        target = draw(st.sampled_from([None, *(e.event_id for e in own)]))
        second = draw(st.integers(0, 5))  # several events of one second
        events.append(event(number, verdict, second, annotator=annotator, film=film, supersedes=target))
    return events


@given(histories(), st.randoms(use_true_random=False))
def test_the_same_events_in_any_order_and_number_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, history: list[ReviewEvent], chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("fold")
    shuffled = history + history[:3]
    chance.shuffle(shuffled)
    for name, events in (("plain", history), ("shuffled", shuffled)):
        write_events(folder / name / "events.parquet", events)
        tables.write_table(folder / name / "labels.parquet", fold(events, SETTINGS), LABELS_SCHEMA)
    for file in ("events.parquet", "labels.parquet"):
        assert (folder / "plain" / file).read_bytes() == (folder / "shuffled" / file).read_bytes()
    assert read_events(folder / "shuffled") == ordered(history)


@given(histories())
def test_undoing_the_last_verdict_brings_back_what_stood_before(history: list[ReviewEvent]) -> None:
    """Whatever happened: one verdict more and its undo leave the labels as they were."""
    before = fold(history, SETTINGS)
    verdict = event(90, "correct", annotator="a", film="one")
    undo = replacing(91, 90, "undo", annotator="a", film="one")
    assert fold([*history, verdict, undo], SETTINGS).equals(before)


def test_an_undo_of_an_undo_is_a_redo() -> None:
    said = [event(1), replacing(2, 1)]
    assert only(*said)["x"] == 12.0
    assert only(*said, replacing(3, 2, "undo"))["provenance"] == "accepted"
    assert only(*said, replacing(3, 2, "undo"), replacing(4, 3, "undo"))["x"] == 12.0


def test_an_undo_without_a_target_takes_the_last_standing_verdict_back_step_by_step() -> None:
    said = [event(1), event(2, "correct")]
    assert only(*said, event(3, "undo"))["provenance"] == "accepted"
    assert fold([*said, event(3, "undo"), event(4, "undo")], SETTINGS).empty
    assert fold([*said, event(3, "undo"), event(4, "undo"), event(5, "undo")], SETTINGS).empty


def test_the_last_verdict_counts_also_where_it_does_not_say_what_it_replaces() -> None:
    assert only(event(1, "correct"), event(2, "not_visible"))["provenance"] == "not_visible"
    assert only(event(2, "not_visible"), event(1, "correct", second=3))["provenance"] == "corrected"


def test_what_supersedes_an_event_of_another_round_file_counts() -> None:
    assert only(replacing(2, 1))["provenance"] == "corrected"


def test_events_may_not_supersede_what_someone_else_said_or_each_other() -> None:
    with pytest.raises(StageError, match="1 events supersede one of another") as error:
        standing([event(1), replacing(2, 1, annotator="other")])
    assert f"{2:032x}" in str(error.value)
    with pytest.raises(StageError, match="circle"):
        standing([replacing(1, 2), replacing(2, 1)])


def test_two_annotators_who_agree_give_their_mean_and_others_are_conflicting() -> None:
    near = [event(1, "correct"), event(5, "correct", annotator="b")]  # 4 px apart
    row = only(*near)
    assert (row["x"], row["provenance"], list(row["annotators"])) == (13.0, "corrected", ["ann", "b"])
    assert row["weight"] == SETTINGS.corrected
    far = [near[0], event(12, "correct", annotator="b")]  # 11 px apart
    row = only(*far)
    assert row["provenance"] == "conflicting"
    assert row["weight"] == 0.0
    assert math.isnan(row["x"])
    known = [e.model_copy(update={"spacing_mm": 0.1}) for e in far]  # 1.1 mm apart
    assert only(*known)["provenance"] == "corrected"
    apart = [e.model_copy(update={"spacing_mm": 1.0}) for e in near]  # 4 mm apart
    assert only(*apart)["provenance"] == "conflicting"


@pytest.mark.parametrize(
    ("verdicts", "provenance", "weight"),
    [
        (("accept", "unsure"), "accepted", SETTINGS.accepted),
        (("unsure", "unsure"), "unsure", 0.0),
        (("not_visible", "unsure"), "not_visible", 0.0),
        (("accept", "not_visible"), "conflicting", 0.0),
        (("accept", "accept", "correct"), "corrected", SETTINGS.corrected),
    ],
)
def test_what_several_annotators_say_together(
    verdicts: tuple[str, ...], provenance: str, weight: float
) -> None:
    said = [event(i + 1, verdict, annotator=str(i)) for i, verdict in enumerate(verdicts)]
    for order in itertools.permutations(said):
        row = only(*order)
        assert (row["provenance"], row["weight"]) == (provenance, weight)


def test_a_point_placed_without_the_prediction_has_a_weight_of_its_own() -> None:
    assert only(event(1, blinded=True))["weight"] == SETTINGS.hidden


def test_an_id_stands_for_one_event() -> None:
    with pytest.raises(StageError, match=f"{1:032x}"):
        ordered([event(1), event(1, "correct")])
    assert ordered([event(1), event(1)]) == [event(1)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": None}, "needs x and y"),
        ({"verdict": "unsure", "x": 1.0, "y": 1.0}, "has no x and y"),
        ({"ts_utc": "2026-01-01T00:00:00"}, "UTC"),
        ({"ts_utc": "2026-01-01T00:00:00+02:00"}, "UTC"),
        ({"ts_utc": "yesterday"}, "isoformat"),
        ({"event_id": "1"}, "pattern"),
        ({"x": math.inf}, "finite"),
        ({"supersedes": f"{1:032x}"}, "itself"),
        ({"confidence": 1}, "Extra"),
    ],
)
def test_what_is_no_event_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        event(1, **changes)


def test_unknown_values_come_back_as_none(tmp_path: Path) -> None:
    said = [event(1, "unsure"), event(2, spacing_mm=0.1, moved_mm=0.0)]
    write_events(tmp_path / "events.parquet", said)
    assert read_events(tmp_path / "events.parquet") == said


def test_damaged_events_are_all_named(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    write_events(file, [event(1), event(2), event(3)])
    frame = tables.read_table(file).astype({"supersedes": object})
    frame.loc[[0, 2], "verdict"] = "perhaps"
    frame["supersedes"] = None
    for column in ("spacing_mm", "moved_mm"):
        frame[column] = None
    tables.write_table(file, frame, EVENTS_SCHEMA)
    with pytest.raises(StageError) as error:
        read_events(file)
    assert "row 0: verdict" in str(error.value)
    assert "row 2: verdict" in str(error.value)
    assert "row 1" not in str(error.value)


def test_a_missing_or_other_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="does not exist"):
        read_events(tmp_path)
    tables.write_table(tmp_path / "events.parquet", fold([event(1)], SETTINGS), LABELS_SCHEMA)
    with pytest.raises(StageError, match="annotators"):
        read_events(tmp_path)


def test_lanes_are_not_mixed() -> None:
    with pytest.raises(StageError, match="chest"):
        fold([event(1), event(2, film="other", lane="chest")], SETTINGS)

"""Only films of the pool become labels; a breach of the split is refused as a whole, with every offender."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.ceph import labels
from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.review.events import ReviewEvent, read_events, write_events
from stages.core.stage import Observer
from tests.ceph.judged import Judged, review_events, write_lane

FOLD = {"tolerance_mm": 2.0, "tolerance_px": 4.0, "accepted": 0.5, "corrected": 1.0, "hidden": 1.0}


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return write_lane(tmp_path_factory.mktemp("labels") / "lane")


def of_role(lane: Judged, role: str) -> list[str]:
    split = read_split(lane.clinic_split)
    return sorted(split.loc[split["role"] == role, "id"])


def made(
    lane: Judged, tmp_path: Path, events: Sequence[ReviewEvent], ready_after: int = 1
) -> tuple[pd.DataFrame, dict[str, float]]:
    write_events(tmp_path / "in" / "events.parquet", events)
    params = labels.Params.model_validate({"ready_after": ready_after, "fold": FOLD})
    output = tmp_path / "labels.parquet"
    figures = labels.run(params, tmp_path / "in", lane.clinic_split, output, Observer.quiet(tmp_path))
    return tables.read_table(output), figures


def said(films: Sequence[str], blinded: bool = False, first: int = 0, **changes: Any) -> list[ReviewEvent]:
    """Events on films whose points were all moved by 5 px along x."""
    predicted = np.zeros((len(films), CEPH.n_points, 2))
    events = review_events(
        films, predicted + np.array([5.0, 0.0]), predicted, ["uncertain"] * len(films), [blinded] * len(films)
    )
    return [e.model_copy(update={"event_id": f"{first + i:032x}", **changes}) for i, e in enumerate(events)]


def test_labels_are_those_that_reviewers_left_standing(lane: Judged, tmp_path: Path) -> None:
    events = read_events(lane.events)
    table, figures = made(lane, tmp_path, events)
    assert set(table["id"]) == {e.film for e in events}
    assert figures["n_films"] == table["id"].nunique()
    assert figures["n_accepted"] == (table["provenance"] == "accepted").sum() > 0
    assert figures["n_corrected"] == (table["provenance"] == "corrected").sum() > 0
    assert set(table["weight"]) == {0.5, 1.0}
    again, _ = made(lane, tmp_path, events[::-1])
    pd.testing.assert_frame_equal(again, table)


def test_blinded_gate_films_never_become_labels(lane: Judged, tmp_path: Path) -> None:
    pool, gate = of_role(lane, "train")[:2], of_role(lane, "gate")[:2]
    table, figures = made(lane, tmp_path, [*said(pool), *said(gate, blinded=True, first=1000)])
    assert set(table["id"]) == set(pool)
    assert figures["n_events_set_aside"] == 2 * CEPH.n_points


@pytest.mark.parametrize(("role", "blinded"), [("gate", False), ("test", False), ("test", True)])
def test_every_film_of_a_locked_role_is_named_and_nothing_is_written(
    lane: Judged, tmp_path: Path, role: str, blinded: bool
) -> None:
    films = of_role(lane, role)[:3]
    with pytest.raises(StageError) as error:
        made(lane, tmp_path, [*said(of_role(lane, "train")[:4]), *said(films, blinded, first=1000)])
    assert all(film in str(error.value) for film in films)
    assert f"role {role}" in str(error.value)
    assert not (tmp_path / "labels.parquet").exists()


def test_strange_lanes_landmarks_and_films_are_named_together(lane: Judged, tmp_path: Path) -> None:
    pool = of_role(lane, "train")
    events = [
        *said(pool[:1]),
        *said(pool[1:2], first=100, lane="chest"),
        *said(pool[2:3], first=200, landmark="bolton"),
        *said(["film-nobody-knows"], first=300),
    ]
    with pytest.raises(StageError) as error:
        made(lane, tmp_path, events)
    for word in ("chest", "bolton", "film-nobody-knows"):
        assert word in str(error.value)


def test_a_round_waits_for_enough_films(lane: Judged, tmp_path: Path) -> None:
    pool = of_role(lane, "train")
    with pytest.raises(StageError, match="3 films are reviewed, a round needs 5.*review 2 more"):
        made(lane, tmp_path, said(pool[:3]), ready_after=5)
    unsure = said(pool[3:7], first=1000, verdict="unsure", x=None, y=None)
    with pytest.raises(StageError, match="3 films are reviewed"):
        made(lane, tmp_path, [*said(pool[:3]), *unsure], ready_after=5)
    _, figures = made(lane, tmp_path, said(pool[:5]), ready_after=5)
    assert figures["n_films"] == 5


def test_where_nothing_was_said_there_is_nothing_to_learn(lane: Judged, tmp_path: Path) -> None:
    table, figures = made(lane, tmp_path, [], ready_after=5)
    assert len(table) == figures["n_films"] == figures["n_events"] == 0


def test_the_same_events_give_the_same_bytes(lane: Judged, tmp_path: Path) -> None:
    events = read_events(lane.events)
    for name, order in (("one", events), ("two", events[::-1])):
        made(lane, tmp_path / name, order)
    one, two = ((tmp_path / name / "labels.parquet").read_bytes() for name in ("one", "two"))
    assert one == two

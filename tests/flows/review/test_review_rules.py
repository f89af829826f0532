"""Who may open which film, what a blinded film hides, and what becomes of verdicts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flows.review.config import ReviewConfig
from flows.review.desk import Desk
from stages.core.review.events import standing
from tests.flows.review.desks import BLINDED, FILMS, REPEAT, SCHEMA, Clock, Page, client_of, verdict_on


def test_the_first_film_offered_is_the_first_of_the_queue(page: Page) -> None:
    assert page.next() == 1
    assert page.as_("Ben").next() == 2, "film 1 is held"


def test_two_reviewers_never_hold_the_same_film(page: Page) -> None:
    page.open(1)
    refused = page.as_("Ben").post("/api/items/1/open")
    assert (refused.status_code, refused.json()["held_by"]) == (409, "Ada")
    repeat_of_the_same_film = page.as_("Ben").post(f"/api/items/{REPEAT}/open")
    assert repeat_of_the_same_film.status_code == 409
    queue = page.as_("Ben").get("/api/queue").json()["items"]
    assert [row["rank"] for row in queue if row["held_by"]] == [1, REPEAT]


def test_a_film_is_free_when_its_reviewer_gives_it_back_or_opens_another(page: Page) -> None:
    ben = page.as_("Ben")
    page.open(1)
    assert page.post("/api/items/1/release").status_code == 200
    ben.open(1)
    page.open(2)
    ben.open(3)
    page.open(1)
    assert ben.post("/api/items/2/open").status_code == 200


def test_activity_renews_a_lease_and_idleness_ends_it(page: Page, clock: Clock) -> None:
    ben = page.as_("Ben")
    page.open(1)
    clock.now += 500
    page.say(1, verdict_on("sella"))
    clock.now += 500
    assert ben.post("/api/items/1/open").status_code == 409
    assert page.post("/api/items/1/renew").status_code == 200
    clock.now += 601
    ben.open(1)
    assert page.post("/api/items/1/renew").status_code == 409


def test_verdicts_after_a_lease_went_to_another_are_kept_aside_and_do_not_count(
    page: Page, clock: Clock, config: ReviewConfig
) -> None:
    page.open(1)
    clock.now += 601
    page.as_("Ben").open(1)
    late = verdict_on("sella")
    answer = page.say(1, late)
    assert answer.status_code == 409
    assert "Ben is reviewing it" in answer.json()["error"]
    assert answer.json()["kept_aside"] == [late["event_id"]]
    assert page.say(1, late).status_code == 409, "sent again it is still late"
    desk = Desk(config)
    assert desk.events() == []
    assert [event.event_id for event, why in desk.store.aside(1)] == [late["event_id"]]


def test_a_lease_that_ran_out_unnoticed_is_taken_up_again(page: Page, clock: Clock) -> None:
    page.open(1)
    clock.now += 10_000
    assert page.say(1, verdict_on("sella")).status_code == 200
    assert page.as_("Ben").post("/api/items/1/open").status_code == 409


def test_sending_again_adds_nothing(page: Page, config: ReviewConfig) -> None:
    said = verdict_on("sella", "correct", x=12.5, y=33.25)
    assert page.say(1, said).json()["results"] == {said["event_id"]: "stored"}
    again = page.say(1, said, verdict_on("nasion"), headers={"if-match": '"1"'}).json()["results"]
    assert sorted(again.values()) == ["known", "stored"]
    assert len(Desk(config).events()) == 2


def test_an_id_cannot_be_used_for_another_verdict(page: Page, config: ReviewConfig) -> None:
    said = verdict_on("sella", "correct", x=12.5, y=33.25)
    page.say(1, said)
    for change in ({"x": 13.5}, {"landmark": "nasion"}, {"verdict": "unsure", "x": None, "y": None}):
        assert page.say(1, {**said, **change}).status_code == 409, change
    assert page.as_("Ben").say(2, said).status_code == 409
    assert len(Desk(config).events()) == 1


def test_the_server_fills_in_what_the_page_must_not_decide(page: Page, config: ReviewConfig) -> None:
    item = config.by_rank[2]
    x, y = item.points[1] + (3, 4)
    page.say(2, verdict_on("sella"), verdict_on("nasion", "correct", x=x, y=y))
    accepted, corrected = Desk(config).events()
    assert (accepted.x, accepted.y) == tuple(item.points[0]) == (accepted.pred_x, accepted.pred_y)
    assert accepted.moved_mm == 0
    assert corrected.moved_mm == pytest.approx(((3 * 0.1) ** 2 + (4 * 0.2) ** 2) ** 0.5)
    assert corrected.spacing_mm == pytest.approx(0.15)
    told = (corrected.film, corrected.rank, corrected.queue_kind, corrected.model_key, corrected.round)
    assert told == (FILMS[1], 2, "uncertain", "ab" * 32, 1)
    assert accepted.ts_utc < corrected.ts_utc, "the order is kept by the times alone"


def test_undo_brings_the_verdict_before_back_and_undoing_it_is_redo(page: Page, config: ReviewConfig) -> None:
    accepted = verdict_on("sella")
    corrected = verdict_on("sella", "correct", supersedes=accepted["event_id"])
    undone = verdict_on("sella", "undo", supersedes=corrected["event_id"])
    redone = verdict_on("sella", "undo", supersedes=undone["event_id"])
    counting = []
    for said in (accepted, corrected, undone, redone):
        assert page.say(1, said).status_code == 200
        counting += [event.verdict for event in standing(Desk(config).events())]
    assert counting == ["accept", "correct", "accept", "correct"]


def test_only_ones_own_verdict_on_the_same_point_can_be_superseded(page: Page, config: ReviewConfig) -> None:
    mine = verdict_on("sella")
    page.say(1, mine)
    page.post("/api/items/1/release")
    ben = page.as_("Ben")
    undo = {"verdict": "undo", "supersedes": mine["event_id"]}
    assert ben.say(1, verdict_on("sella", **undo)).status_code == 422
    assert page.say(1, verdict_on("nasion", **undo)).status_code == 422
    assert page.say(REPEAT, verdict_on("sella", **undo)).status_code == 422
    assert page.say(1, verdict_on("sella", "undo")).status_code == 422
    first, second = verdict_on("sella"), verdict_on("sella")
    circle = [{**first, "supersedes": second["event_id"]}, {**second, "supersedes": first["event_id"]}]
    assert page.say(1, *circle).status_code == 422
    assert len(Desk(config).events()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"landmark": "glabella"},
        {"verdict": "correct", "x": -1.0, "y": 5.0},
        {"verdict": "correct", "x": 5.0, "y": 360.0},
        {"verdict": "correct"},
        {"verdict": "accept", "x": 5.0, "y": 5.0, "event_id": "xyz"},
        {"verdict": "unsure", "x": 5.0, "y": 5.0},
        {"verdict": "reject"},
        {"dwell_ms": -1},
        {"pred_x": 5.0},
    ],
)
def test_a_request_with_one_impossible_verdict_is_refused_whole(
    page: Page, config: ReviewConfig, wrong: dict[str, object]
) -> None:
    answer = page.say(1, verdict_on("nasion"), {**verdict_on("sella"), **wrong})
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert Desk(config).events() == []


def test_writing_on_an_older_version_is_told(page: Page) -> None:
    page.say(1, verdict_on("sella"))
    stale = page.say(1, verdict_on("nasion"), headers={"if-match": '"0"'})
    assert (stale.status_code, stale.json()["version"]) == (412, 1)
    assert page.say(1, verdict_on("nasion"), headers={"if-match": '"1"'}).json()["item"]["version"] == 2


def _mentions_prediction(page: Page, config: ReviewConfig) -> list[str]:
    """Answers of the API that tell where the model puts a point of the blinded film, or how sure it is."""
    item = config.by_rank[BLINDED]
    words = {f"{value:.3f}" for value in [*item.points.ravel(), *item.expected_error]} | {item.reason}
    item_of_queue = page.get("/api/queue").json()["items"][BLINDED - 1]
    told = {
        "view": page.get(f"/api/items/{BLINDED}").json(),
        "open": page.post(f"/api/items/{BLINDED}/open").json(),
        "queue": item_of_queue,
    }
    return [name for name, answer in told.items() if any(word in json.dumps(answer) for word in words)]


def test_a_blinded_film_hides_the_model_until_every_point_is_placed(page: Page, config: ReviewConfig) -> None:
    assert _mentions_prediction(page, config) == []
    assert page.say(BLINDED, verdict_on("sella")).status_code == 422, "nothing to accept"
    for name in SCHEMA.names[:-1]:
        page.say(BLINDED, verdict_on(name, "correct"))
        assert _mentions_prediction(page, config) == []
    assert page.get("/api/progress").json()["median_moved_mm"] is None
    page.say(BLINDED, verdict_on(SCHEMA.names[-1], "not_visible"))
    assert _mentions_prediction(page, config) == ["view", "open", "queue"]
    assert _mentions_prediction(page.as_("Ben"), config) == [], "each reviewer reads it unaided"
    assert all(event.blinded for event in Desk(config).events())
    assert page.get("/api/progress").json()["median_moved_mm"] > 0


def test_a_repeat_does_not_tell_of_a_blinded_film(page: Page, config: ReviewConfig) -> None:
    items = [replace(item, blinded=item.rank == 1) for item in config.items]
    page.client.__exit__()
    with client_of(replace(config, items=items)) as client:
        page = Page(client)
        assert page.open(REPEAT)["predicted"] is None
        assert page.get("/api/queue").json()["items"][REPEAT - 1]["reason"] is None
        page.finish(1, "correct")
        assert page.open(REPEAT)["predicted"] is not None
        ben = page.as_("Ben")
        page.post(f"/api/items/{REPEAT}/release")
        ben.finish(REPEAT, "correct")
        assert ben.open(1)["predicted"] is not None, "by now Ben has seen it there"


def test_what_is_changed_after_the_model_was_seen_is_not_blinded_any_more(
    page: Page, config: ReviewConfig
) -> None:
    page.finish(BLINDED, "correct")
    head = page.get(f"/api/items/{BLINDED}").json()["events"][0]["event_id"]
    page.say(BLINDED, verdict_on("sella", "accept", supersedes=head))
    counting = {event.landmark: event.blinded for event in standing(Desk(config).events())}
    assert counting == {name: name != "sella" for name in SCHEMA.names}


def test_next_passes_on_through_the_queue_then_to_doubtful_films(page: Page) -> None:
    ben = page.as_("Ben")
    ranks = []
    while (rank := page.next()) is not None:
        ranks.append(rank)
        page.finish(rank, "correct" if rank == BLINDED else "unsure" if rank == 5 else "accept")
    assert ranks == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ben.next() == 5, "a second reader for what the first was unsure of"
    ben.finish(5)
    assert ben.next() is None


def test_a_repeat_waits_for_its_first_reader(page: Page) -> None:
    ben = page.as_("Ben")
    for rank in range(1, 7):
        page.open(rank)
        page.finish(rank, "correct")
    page.post("/api/items/6/release")
    assert page.next() == 7
    ben_takes = ben.next()
    assert ben_takes == REPEAT, "nothing else is left, so a repeat of another's film serves for agreement"


def test_a_repeat_starts_from_nothing(page: Page) -> None:
    page.finish(1)
    assert page.open(REPEAT)["events"] == []


def test_a_queue_built_again_in_the_middle_of_a_round_keeps_what_was_said(
    page: Page, config: ReviewConfig
) -> None:
    page.finish(1)
    page.finish(2)
    moved = [replace(item, rank=8 - i) for i, item in enumerate(config.items[:6])]
    page.client.__exit__()
    with client_of(replace(config, items=sorted(moved, key=lambda item: item.rank))) as client:
        rows = Page(client).get("/api/queue").json()["items"]
    assert [row["film"] for row in rows if row["done_by"] == ["Ada"]] == [FILMS[1], FILMS[0]]


def test_nothing_is_added_to_a_closed_round_and_nothing_lost(page: Page, config: ReviewConfig) -> None:
    page.say(1, verdict_on("sella"))
    store = Desk(config).store
    closed = store.close_round(1)
    late = page.say(1, verdict_on("nasion"))
    assert late.status_code == 409
    assert "round 1 is closed" in late.json()["error"]
    assert store.close_round(1) == closed
    assert len(closed) == len(store.aside(1)) == 1
    assert store.open_round() == 2


def test_progress_counts_films_points_and_time(page: Page, clock: Clock) -> None:
    page.finish(1)
    page.say(
        2,
        *[verdict_on(n, "correct", x=222.0, y=92.0) for n in SCHEMA.names[:2]],
        verdict_on("gonion", "unsure"),
    )
    told = page.get("/api/progress").json()
    assert (told["films"], told["films_done"], told["films_mine"], told["points_mine"]) == (8, 1, 1, 8)
    assert (told["accepted"], told["corrected"], told["unsure"], told["not_visible"]) == (5, 2, 1, 0)
    assert told["median_seconds_per_film"] == pytest.approx(5 * 1.5)
    assert told["films_per_hour"] == pytest.approx(3600 / 7.5)
    assert page.as_("Ben").get("/api/progress").json()["points_mine"] == 0

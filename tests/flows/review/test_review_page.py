"""The page in a real browser: what people do with mouse and keys ends up as events, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.review.desk import Desk
from stages.core.review.events import ReviewEvent, standing
from tests.flows.review.browser import CHROMIUM, CTRL, SHIFT, Browser, Tab, browser, until
from tests.flows.review.desks import BLINDED, PLACES, SCHEMA, review_config
from tests.flows.review.serving import Here, Served, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium here: the page is tested only where there is one"
    ),
]
SHOTS = os.environ.get("PLUMBLINE_SHOTS")
"""folder for a picture of the page at the end of every test, for people to look at"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Here]:
    running = Here(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def tab(chromium: Browser, server: Here, request: pytest.FixtureRequest) -> Iterator[Tab]:
    tab = _person(chromium, server, "Ada")
    yield tab
    if SHOTS:
        tab.shoot(Path(SHOTS) / f"{request.node.name}.png")
    assert tab.problems() == []


def _person(chromium: Browser, server: Here | Served, name: str) -> Tab:
    """A person who has opened the page, at another computer."""
    tab = chromium.tab(f"{server.url}/?name={name}")
    tab.wait(f"document.querySelectorAll('#points li').length == {SCHEMA.n_points}")
    return tab


def _events(server: Here | Served) -> list[ReviewEvent]:
    desk = Desk(review_config(server.folder))
    try:
        return desk.events()
    finally:
        desk.store.close()


def _counting(server: Here | Served, annotator: str = "Ada") -> dict[str, str]:
    return {e.landmark: e.verdict for e in standing(_events(server)) if e.annotator == annotator}


def _saved(tab: Tab) -> None:
    tab.wait("document.querySelector('#saved').className == 'saved'")


def _film(tab: Tab, rank: int) -> None:
    tab.wait(f"document.querySelector('#reason h2').innerText == 'Film {rank}'")


def _active(tab: Tab) -> str:
    return tab.text("#points .current .name")


def _glyph(tab: Tab, landmark: str) -> str:
    return tab.text(f"#points li:nth-child({SCHEMA.names.index(landmark) + 1}) .glyph")


def _predicted(landmark: str, rank: int = 1) -> tuple[float, float]:
    x, y = PLACES[SCHEMA.names.index(landmark)] + rank + 0.137
    return float(x), float(y)


def _zoom(tab: Tab) -> float:
    """css px a raw px of the whole film, as the page fits it: measured on the film's picture."""
    return tab.js(
        "(() => { const c = document.querySelector('#stage'), b = document.querySelector('#bar');"
        "return 0.98 * Math.min(c.clientWidth / 300, (c.clientHeight - b.offsetHeight - 20) / 360); })()"
    )


def _on_screen(tab: Tab, at: tuple[float, float]) -> tuple[float, float]:
    """Where a point of the film, raw px, is in the window while the whole film is shown."""
    left, top, width, height = tab.js(
        "(() => { const b = document.querySelector('#marks').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height - document.querySelector('#bar').offsetHeight - 20]; })()"
    )
    zoom = _zoom(tab)
    x = left + (width - 300 * zoom) / 2 + (at[0] + 0.5) * zoom
    y = top + (height - 360 * zoom) / 2 + (at[1] + 0.5) * zoom
    return x, y


def test_accepting_goes_from_the_worst_point_to_the_next_and_on_to_the_next_film(
    tab: Tab, server: Here
) -> None:
    assert _active(tab) == "gonion", "the point that the model is least sure of"
    tab.key("a")
    assert _glyph(tab, "gonion") == "✓"
    assert _active(tab) == "menton"
    tab.key("Enter")
    tab.key("x")
    tab.key("u")
    assert [_glyph(tab, n) for n in SCHEMA.names] == ["?", "○", "✓", "✓", "✕"]
    assert _active(tab) == "nasion"
    tab.key("A", SHIFT)
    _film(tab, 2)
    _saved(tab)
    assert _counting(server) == {
        "sella": "unsure", "nasion": "accept", "gonion": "accept", "menton": "accept", "upper_incisor": "not_visible",
    }  # fmt: skip
    tab.wait("document.querySelector('#progress b').innerText === '1 of 8 films'")
    assert tab.text("#progress b") == "1 of 8 films"


def test_a_dragged_point_ends_where_the_pointer_let_it_go(tab: Tab, server: Here) -> None:
    x, y = _predicted("sella")
    tab.drag(_on_screen(tab, (x, y)), _on_screen(tab, (x + 30, y - 20)))
    _saved(tab)
    (event,) = _events(server)
    assert (event.landmark, event.verdict) == ("sella", "correct")
    assert (event.x, event.y) == pytest.approx((x + 30, y - 20), abs=1.0)
    assert (event.pred_x, event.pred_y) == pytest.approx((x, y), abs=1e-3)
    assert event.dwell_ms > 0


def test_a_click_places_the_active_point_and_clicking_a_mark_only_chooses_it(tab: Tab, server: Here) -> None:
    tab.click(*_on_screen(tab, _predicted("nasion")))
    assert _active(tab) == "nasion"
    tab.click(*_on_screen(tab, (150.0, 180.0)))
    assert _active(tab) == "gonion", "placed for the first time, the page goes on"
    _saved(tab)
    (event,) = _events(server)
    assert (event.landmark, event.verdict) == ("nasion", "correct")
    assert (event.x, event.y) == pytest.approx((150, 180), abs=1.0)


def test_arrow_keys_move_by_half_a_pixel_and_are_said_once(tab: Tab, server: Here) -> None:
    for _ in range(3):
        tab.key("ArrowRight")
    tab.key("ArrowUp", SHIFT)
    tab.wait("document.querySelector('#points .current .glyph').innerText == '◆'")
    until(lambda: _events(server), "the nudged point is said")
    _saved(tab)
    (event,) = _events(server)
    x, y = _predicted("gonion")
    assert (event.landmark, event.x, event.y) == ("gonion", round(x + 1.5, 2), round(y - 5, 2))


def test_undo_and_redo_by_action(tab: Tab, server: Here) -> None:
    tab.key("a")
    tab.key("A", SHIFT)
    tab.wait("document.querySelectorAll('#points .accept').length == 5")
    tab.key("z")
    assert tab.js("document.querySelectorAll('#points .accept').length") == 1
    tab.key("z", CTRL)
    assert tab.js("document.querySelectorAll('#points .accept').length") == 0
    tab.key("y")
    _saved(tab)
    tab.reload()
    tab.wait("document.querySelectorAll('#points .accept').length == 1")
    tab.key("y", CTRL)
    tab.wait("document.querySelectorAll('#points .accept').length == 5")
    _saved(tab)
    assert set(_counting(server).values()) == {"accept"}
    assert len(_counting(server)) == 5


def test_a_reload_keeps_the_film_the_point_the_verdicts_and_the_view(tab: Tab) -> None:
    tab.key("n")
    _film(tab, 2)
    tab.key("u")
    tab.key("i")
    tab.key("Tab")
    point = _active(tab)
    tab.mouse("mouseWheel", 640, 300, deltaX=0, deltaY=-300)
    tab.wait("JSON.parse(localStorage['plumbline.place.ceph.1.Ada']).camera")
    camera = tab.js("localStorage['plumbline.place.ceph.1.Ada']")
    tab.reload()
    _film(tab, 2)
    tab.wait("document.querySelectorAll('#points .unsure').length == 1")
    assert _active(tab) == point
    assert tab.js("document.querySelector('#film').style.filter").endswith("invert(1)")
    assert tab.js("localStorage['plumbline.place.ceph.1.Ada']") == camera


def test_a_point_in_the_hand_survives_a_reload(tab: Tab, server: Here) -> None:
    tab.key("ArrowLeft")
    tab.reload()
    tab.wait("document.querySelectorAll('#points .correct').length == 1")
    _saved(tab)
    assert _counting(server) == {"gonion": "correct"}


def test_verdicts_wait_in_the_browser_while_the_server_is_away(chromium: Browser, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        tab = _person(chromium, server, "Ada")
        server.kill()
        tab.key("a")
        tab.key("x")
        tab.wait("document.querySelector('#saved').className == 'offline'")
        assert tab.text("#saved") == "server away: 2 kept here, trying again"
        server.start()
        _saved(tab)
        assert _counting(server) == {"gonion": "accept", "menton": "not_visible"}


def test_two_reviewers_get_different_films(chromium: Browser, tab: Tab, server: Here) -> None:
    ben = _person(chromium, server, "Ben")
    _film(tab, 1)
    _film(ben, 2)
    ben.press('#films [data-rank="1"]')
    ben.wait("document.querySelector('#toasts .bad')?.innerText.includes('Ada is reviewing this film')")
    _film(ben, 2)
    ben.key("a")
    tab.key("x")
    _saved(ben)
    _saved(tab)
    assert _counting(server, "Ben") == {"gonion": "accept"}
    assert _counting(server, "Ada") == {"gonion": "not_visible"}


def test_two_windows_of_one_person_do_not_lose_each_others_verdicts(
    chromium: Browser, tab: Tab, server: Here
) -> None:
    other = _person(chromium, server, "Ada")
    _film(other, 1)
    tab.key("x")
    _saved(tab)
    other.key("a")
    other.wait("document.querySelector('#toasts .bad')?.innerText.includes('another window')")
    _saved(other)
    other.key("u")
    _saved(other)
    assert _counting(server) == {"gonion": "accept", "menton": "unsure"}


def test_a_blinded_film_shows_the_model_when_every_point_is_placed(tab: Tab, server: Here) -> None:
    tab.press(f'#films [data-rank="{BLINDED}"]')
    _film(tab, BLINDED)
    assert tab.js("document.querySelector('#blind').hidden") is False
    tab.key("a")
    assert "Place this point first" in tab.text("#toasts")
    for i in range(SCHEMA.n_points):
        assert _active(tab) == SCHEMA.names[i].replace("_", " ")
        tab.js("new Promise((done) => setTimeout(done, 300))")  # a quicker second click counts as a slip
        tab.click(*_on_screen(tab, (80.0 + 30 * i, 60.0 + 50 * i)))
    tab.wait("document.querySelector('#blind').hidden")
    _saved(tab)
    _film(tab, BLINDED)
    assert set(_counting(server).values()) == {"correct"}
    assert all(event.blinded for event in _events(server))


def test_names_are_text_and_the_help_lists_and_changes_keys(
    chromium: Browser, tab: Tab, server: Here
) -> None:
    villain = chromium.tab(server.url)
    villain.wait("document.querySelector('#naming').open")
    villain.type("<img src=x onerror=document.title='hit'>")
    villain.key("Enter")
    villain.wait("document.querySelectorAll('#points li').length > 0")
    tab.key("n")
    tab.wait("document.querySelector('#films').innerText.includes('<img src=x')")
    assert tab.js("document.querySelectorAll('#films img').length") == 0
    assert "Plumbline" in tab.js("document.title") + villain.js("document.title")
    tab.key("?", SHIFT)
    tab.wait("document.querySelector('#keys').open")
    tab.press("#keylist button:nth-of-type(3)")
    tab.key("k")
    tab.press("#keys button.main")
    tab.wait("!document.querySelector('#keys').open")
    tab.key("k")
    _saved(tab)
    assert list(_counting(server).values()) == ["not_visible"]


def test_a_finger_drags_and_two_fingers_zoom(tab: Tab, server: Here) -> None:
    tab.size(1280, 800, touch=True)
    x, y = _predicted("sella")
    before = tab.js("JSON.parse(localStorage['plumbline.place.ceph.1.Ada']).camera")
    tab.touch([[(700, 300), (760, 300)], [(660, 300), (800, 300)]])
    tab.wait("JSON.parse(localStorage['plumbline.place.ceph.1.Ada']).camera")
    assert before is None
    tab.key("0")
    start, end = _on_screen(tab, (x + 4, y)), _on_screen(tab, (x + 44, y))
    tab.touch([[start], [((start[0] + end[0]) / 2, start[1])], [end]])
    _saved(tab)
    (event,) = _events(server)
    assert (event.landmark, event.verdict) == ("sella", "correct")
    assert event.x == pytest.approx(x + 40, abs=1.5), "a point keeps its distance from the finger"

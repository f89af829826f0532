"""What the server refuses, what it serves, and how."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.review.config import ReviewConfig
from flows.review.desk import Desk
from flows.review.guard import HEADERS, MAX_BODY, is_loopback
from flows.review.heatmaps import Heatmaps
from flows.review.server import PAGE
from tests.flows.review.desks import BLINDED, FILMS, SCHEMA, Page, client_of, verdict_on

PATHS = ["/", "/guide", "/page/app.js", "/health", "/api/session", "/api/queue?annotator=Ada"]


@pytest.mark.parametrize("path", [*PATHS, f"/api/films/{FILMS[0]}/picture", "/api/nothing"])
def test_every_answer_forbids_what_comes_from_elsewhere(page: Page, path: str) -> None:
    answer = page.client.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_the_page_has_no_inline_code_and_loads_nothing_from_elsewhere() -> None:
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, file
        assert "https:" not in text, file
        assert "innerHTML" not in text, file
        if file.suffix == ".html":
            assert "<style" not in text, file
            assert " style=" not in text, file
            assert " on" + "click" not in text, file
            assert "<script>" not in text, file


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8123", "localhost.evil.example", "127.0.0.1.evil.example", "", "::1"],
)
def test_a_foreign_host_is_refused(page: Page, path: str, host: str) -> None:
    answer = page.client.get(path, headers={"host": host})
    assert answer.status_code == 421
    assert "does not answer to the name" in answer.json()["error"]


def test_names_of_this_machine_are_loopback_whatever_the_port() -> None:
    for host in ("localhost", "localhost:9000", "127.0.0.1:80", "127.1.2.3", "[::1]:8123", "[::1]"):
        assert is_loopback(host), host
    for host in ("localhost:x", "localhost:80:80", "10.0.0.1", "[::2]", "0.0.0.0:80", "2130706433"):
        assert not is_loopback(host), host


def test_the_address_that_was_asked_for_is_allowed_too(config: ReviewConfig) -> None:
    with client_of(replace(config, host="films.clinic")) as client:
        own = {"host": "films.clinic:8123", "origin": "http://films.clinic:8123"}
        assert client.get("/health", headers=own).status_code == 200
        assert client.get("/health", headers={"host": "films.clinic:80"}).status_code == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:8123",
        "http://127.0.0.1:8124",
        "https://127.0.0.1:8123",
        "null",
    ],
)
def test_a_foreign_origin_is_refused_and_changes_nothing(
    page: Page, config: ReviewConfig, origin: str
) -> None:
    answer = page.say(1, verdict_on("sella"), headers={"origin": origin})
    assert answer.status_code == 403
    assert page.client.get("/health", headers={"origin": origin}).status_code == 403
    assert Desk(config).events() == []


def test_only_json_is_taken(page: Page, config: ReviewConfig) -> None:
    body = json.dumps({"annotator": "Ada", "events": [verdict_on("sella")]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = page.client.post("/api/items/1/events", content=body, headers={"content-type": kind})
        assert answer.status_code == 415, kind
    assert Desk(config).events() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b"null", 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 400),
        (b'{"annotator": "Ada", "events": []}', 422),
        (b'{"annotator": "Ada", "events": "x"}', 422),
        (b'{"annotator": "Ada", "events": [NaN]}', 422),
        (b'{"annotator": "Ada", "events": [], "admin": true}', 422),
    ],
)
def test_malformed_bodies_are_refused_in_words(page: Page, body: bytes, status: int) -> None:
    answer = page.client.post(
        "/api/items/1/events", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_body_that_is_too_large_is_refused_however_it_comes(page: Page) -> None:
    headers = {"content-type": "application/json"}
    body = b'{"annotator": "' + b"A" * MAX_BODY + b'"}'
    assert page.client.post("/api/next", content=body, headers=headers).status_code == 413
    in_pieces = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
    assert page.client.post("/api/next", content=in_pieces, headers=headers).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/..%2fserver.py",
        "/page/%2e%2e/server.py",
        "/page/..%5cserver.py",
        "/page//etc/passwd",
        "/page/app.js%00",
        "/api/films/../../events.sqlite/picture",
        "/api/films/..%2f..%2fevents.sqlite/picture",
        "/api/films/%2fetc%2fpasswd/picture",
        f"/api/films/{FILMS[0]}%00/picture",
        "/api/films/ceph-unknown/picture",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_but_films_of_the_queue_and_the_page_is_served(page: Page, path: str) -> None:
    answer = page.client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x00b", "a\u202eb"])
def test_an_annotator_needs_a_name(page: Page, name: str) -> None:
    assert page.as_(name).post("/api/next").status_code == 422
    assert page.as_(name).get("/api/queue").status_code == 422
    assert page.client.get("/api/queue").status_code == 422
    assert page.client.post("/api/next", json={}).status_code == 422


def test_markup_in_a_name_comes_back_as_it_went_in(page: Page) -> None:
    name = "<img src=x onerror=alert(1)>"
    page.as_(f"  {name}  ").open(1)
    held = page.get("/api/queue").json()["items"][0]["held_by"]
    assert held == name


def test_a_read_only_page_shows_films_and_takes_nothing(config: ReviewConfig) -> None:
    with client_of(replace(config, read_only=True)) as client:
        page = Page(client)
        assert page.open(1)["predicted"] is not None
        assert page.as_("Ben").post("/api/items/1/open").status_code == 200, "nothing is held"
        assert page.say(1, verdict_on("sella")).status_code == 403
        assert page.open(BLINDED)["predicted"] is None
        assert client.get("/api/session").json()["read_only"]


def test_reads_that_did_not_change_are_not_sent_again(page: Page) -> None:
    for path in (
        "/api/queue?annotator=Ada",
        "/api/items/1?annotator=Ada",
        "/",
        f"/api/films/{FILMS[0]}/picture",
    ):
        first = page.client.get(path)
        again = page.client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
    tag = page.get("/api/items/1").headers["etag"]
    page.say(1, verdict_on("sella"))
    assert page.get("/api/items/1").headers["etag"] != tag


def test_films_come_in_their_raw_size_and_8_bits(page: Page) -> None:
    item = page.open(2)
    answer = page.client.get(f"/api/films/{item['film']}/picture")
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (item["width"], item["height"]))
    assert "no-cache" in answer.headers["cache-control"]


class _Maps:
    """A model that looks at one cell, a different one for each landmark."""

    stored_size = (10, 8)

    def probability_maps(self, images: np.ndarray) -> np.ndarray:
        maps = np.zeros((len(images), SCHEMA.n_points, 10, 8), np.float32)
        for k in range(SCHEMA.n_points):
            maps[:, k, k, 2] = 1
        return maps


def test_a_heatmap_is_opaque_where_the_model_looks_and_hidden_where_the_model_is(
    config: ReviewConfig,
) -> None:
    heatmaps = Heatmaps(config.pictures, _Maps)  # type: ignore[arg-type]
    with client_of(replace(config, heatmap=heatmaps)) as client:
        page = Page(client)
        answer = page.get("/api/items/1/heatmap/gonion")
        alpha = np.asarray(Image.open(io.BytesIO(answer.content)))[..., 3]
        assert (alpha.shape, np.argwhere(alpha > 0).tolist()) == ((10, 8), [[2, 2]])
        assert page.get(f"/api/items/{BLINDED}/heatmap/gonion").status_code == 403
        assert page.get("/api/items/1/heatmap/glabella").status_code == 404
        page.finish(BLINDED, "correct")
        assert page.get(f"/api/items/{BLINDED}/heatmap/gonion").status_code == 200


def test_a_failure_is_answered_without_a_trace_of_where(config: ReviewConfig, tmp_path: Path) -> None:
    def broken(film: str, landmark: int) -> bytes:
        raise OSError(f"cannot read {tmp_path}")

    with client_of(replace(config, heatmap=broken)) as client:
        client._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
        answer = Page(client).get("/api/items/1/heatmap/sella")
    assert answer.status_code == 500
    assert str(tmp_path) not in answer.text

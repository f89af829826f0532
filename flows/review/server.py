"""The review server: `create_app(config)` gives the FastAPI application behind the page.

    GET  /                              the page, /page/NAME its parts, /guide the reviewer's guide
    GET  /health                        alive
    GET  /api/session                   lane, landmarks, round, what the page may do
    GET  /api/queue?annotator=          the queue with everybody's progress
    GET  /api/progress?annotator=       figures of the annotator
    GET  /api/items/RANK?annotator=     an item, without holding its film
    POST /api/items/RANK/open           hold its film and show it;  /renew and /release
    POST /api/next                      the film most worth a minute
    POST /api/items/RANK/events         verdicts; If-Match compares versions
    GET  /api/films/ID/picture          8-bit PNG;  /api/items/RANK/heatmap/LANDMARK?annotator=

Answers are JSON; one that is refused is {"error": words for a person, ...}. Reads carry an ETag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from flows.review.config import ReviewConfig
from flows.review.desk import Desk, RefusedError, Said
from flows.review.guard import Guard
from flows.review.progress import next_item, progress, queue_view

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def _plain_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or not name.isprintable():
        raise ValueError("an annotator has a name of printable characters")
    return name


Annotator = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_plain_name)]
Reader = Annotated[Annotator, Query()]


class Who(BaseModel):
    """Body of a request that an annotator makes."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator


class Next(Who):
    """`skip`: ranks to leave out for now."""

    skip: list[int] = Field(default=[], max_length=1000)


class Verdicts(Who):
    """Verdicts on one item; all are taken or none."""

    events: list[Said] = Field(min_length=1, max_length=500)


def create_app(config: ReviewConfig) -> FastAPI:
    """The application for one review; it opens the database at once and closes it when the server ends."""
    desk = Desk(config)
    parts = _page_parts()
    ui_version = "page-" + hashlib.sha256(b"\0".join(body for body, _ in parts.values())).hexdigest()[:12]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.store.close()

    app = FastAPI(
        title="Plumbline review", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.desk = desk
    app.add_middleware(Guard, host=config.host, port=config.port)
    _answer_refusals(app)
    _serve_page(app, parts)
    _serve_films(app, desk)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "lane": config.lane, "round": config.round, "items": len(config.items)}

    @app.get("/api/session")
    def session() -> dict[str, Any]:
        return {
            "lane": config.lane,
            "round": config.round,
            "dataset": config.dataset,
            "landmarks": config.schema.names,
            "edges": config.schema.edges,
            "read_only": config.read_only,
            "annotator": config.annotator,
            "heatmaps": config.heatmap is not None,
            "lease_seconds": config.lease_seconds,
            "ui_version": ui_version,
            "notice": "research use only",
        }

    @app.get("/api/queue")
    def queue(request: Request, annotator: Reader) -> Response:
        return _with_etag(request, queue_view(desk, annotator))

    @app.get("/api/progress")
    def figures(request: Request, annotator: Reader) -> Response:
        return _with_etag(request, progress(desk, annotator))

    @app.get("/api/items/{rank}")
    def item(request: Request, rank: int, annotator: Reader) -> Response:
        return _with_etag(request, desk.view(rank, annotator))

    @app.post("/api/items/{rank}/open")
    def open_item(rank: int, who: Who) -> dict[str, Any]:
        return desk.open(rank, who.annotator)

    @app.post("/api/items/{rank}/renew")
    def renew(rank: int, who: Who) -> dict[str, bool]:
        desk.renew(rank, who.annotator)
        return {"held": True}

    @app.post("/api/items/{rank}/release")
    def release(rank: int, who: Who) -> dict[str, bool]:
        desk.release(rank, who.annotator)
        return {"held": False}

    @app.post("/api/next")
    def take_next(who: Next) -> dict[str, Any]:
        return {"item": next_item(desk, who.annotator, frozenset(who.skip))}

    @app.post("/api/items/{rank}/events")
    def events(
        rank: int, verdicts: Verdicts, if_match: Annotated[str | None, Header()] = None
    ) -> dict[str, Any]:
        version = _version(if_match)
        results = desk.submit(rank, verdicts.annotator, verdicts.events, ui_version, version)
        return {"results": results, "item": desk.view(rank, verdicts.annotator)}

    return app


def _version(if_match: str | None) -> int | None:
    """The number in an If-Match header, `"12"`."""
    if if_match is None:
        return None
    text = if_match.strip().strip('"')
    if not text.isdigit():
        raise RefusedError(400, f"If-Match must be the version of an item, not {if_match[:50]!r}")
    return int(text)


def _with_etag(request: Request, content: Any) -> Response:
    body = json.dumps(content, allow_nan=False).encode()
    return _body_or_304(request, hashlib.sha256(body).hexdigest()[:32], lambda: body, "application/json")


def _body_or_304(request: Request, tag: str, body: Callable[[], bytes], media_type: str) -> Response:
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if f'"{tag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body(), media_type=media_type, headers=headers)


def _page_parts() -> dict[str, tuple[bytes, str]]:
    """Name -> contents and type of the files of the page, read once: nothing else is ever served from disk."""
    files = sorted(file for file in PAGE.iterdir() if file.suffix in TYPES)
    return {file.name: (file.read_bytes(), TYPES[file.suffix]) for file in files}


def _serve_page(app: FastAPI, parts: dict[str, tuple[bytes, str]]) -> None:
    def part(request: Request, name: str) -> Response:
        if name not in parts:
            raise RefusedError(404, "there is no such page")
        body, kind = parts[name]
        return _body_or_304(request, hashlib.sha256(body).hexdigest()[:32], lambda: body, kind)

    @app.get("/")
    def index(request: Request) -> Response:
        return part(request, "index.html")

    @app.get("/guide")
    def guide(request: Request) -> Response:
        return part(request, "guide.html")

    app.get("/page/{name}")(part)


def _serve_films(app: FastAPI, desk: Desk) -> None:
    config = desk.config

    @app.get("/api/films/{film}/picture")
    def picture(request: Request, film: str) -> Response:
        if film not in config.films:
            raise RefusedError(404, "the queue has no such film")
        tag = config.pictures.etag(film)
        return _body_or_304(request, tag, lambda: config.pictures.png(film), "image/png")

    @app.get("/api/items/{rank}/heatmap/{landmark}")
    def heatmap(rank: int, landmark: str, annotator: Reader) -> Response:
        item = desk.item(rank)
        if config.heatmap is None:
            raise RefusedError(404, "there is no model here that could draw heatmaps")
        if desk.is_hidden(item, annotator):
            raise RefusedError(403, "the model's view of this film is shown once you have placed every point")
        if landmark not in config.schema.names:
            raise RefusedError(404, "the lane has no such landmark")
        body = config.heatmap(item.film, config.schema.names.index(landmark))
        return Response(body, media_type="image/png")


def _answer_refusals(app: FastAPI) -> None:
    """Errors as {"error": ...} in words, never with a traceback or a path."""

    @app.exception_handler(RefusedError)
    def refused(request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error), **error.facts}, error.status)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return JSONResponse({"error": "; ".join(problems)[:2000]}, 422)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"the server failed: {type(error).__name__}; see its output"}, 500)

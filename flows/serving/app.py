"""The web around the models: one page, one way in for films, and what operators ask for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from flows.serving.body import BodyError, read_upload
from flows.serving.canary import Guardrail
from flows.serving.desk import BusyError, Desk, ModelError, NotReadyError, PhantomError, Post
from flows.serving.follower import Follower
from flows.serving.guard import Guard
from flows.serving.metrics import Metrics
from flows.serving.predictor import OptionError, Served
from flows.serving.settings import ServingParams
from flows.serving.shadow import PredictionLog, Shadow
from stages.core.data.decode import FilmError

_PAGE = Path(__file__).parent / "page"
_PAGES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
_RETRY_AFTER_S = "1"


@dataclass(frozen=True)
class Service:
    """Everything that runs behind the web."""

    posts: dict[str, Post]
    desk: Desk
    log: PredictionLog
    metrics: Metrics
    shadow: Shadow | None

    @property
    def followers(self) -> list[Follower]:
        return [post.follower for post in self.posts.values()]


def make_service(
    root: Path,
    params: ServingParams,
    followers: Sequence[Follower],
    shadow: bool = False,
    allow_phantom: bool = False,
) -> Service:
    """Put desk, log, metrics and shadow together around followers."""
    log = PredictionLog(root, params.log_mb * 1e6)
    metrics = Metrics(followers)
    other = Shadow(log, params.shadow_queue) if shadow else None
    desk = Desk(params, log, metrics, other, allow_phantom)
    posts = {follower.source.lane: Post(follower, Guardrail(params.canary)) for follower in followers}
    return Service(posts, desk, log, metrics, other)


def create_app(
    service: Service, params: ServingParams, hosts: Sequence[str] = (), any_address: bool = False
) -> FastAPI:
    """The application; followers and shadow run as long as it does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for follower in service.followers:
            follower.start()
        if service.shadow is not None:
            service.shadow.start()
        yield
        for follower in service.followers:
            follower.stop()
        service.desk.close()

    # The generated pages of FastAPI fetch scripts from a CDN.
    app = FastAPI(title="Plumbline serving", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, hosts=tuple(hosts), any_address=any_address)

    @app.post("/predict/{lane}")
    async def predict(lane: str, request: Request) -> Response:
        """Landmarks of one film: its bytes as the body, or a form with the field `film`."""
        start = time.perf_counter()
        known = lane if lane in service.posts else "unknown"
        try:
            response = await _predict(service, params, lane, request)
        except Exception:
            service.metrics.requests.labels(known, "500").inc()
            raise
        service.metrics.requests.labels(known, str(response.status_code)).inc()
        service.metrics.latency.labels(known).observe(time.perf_counter() - start)
        return response

    @app.get("/health")
    def health() -> Response:
        """200 once a model of every lane is loaded and checked; `degraded` names what is wrong meanwhile."""
        lanes = {follower.source.lane: _health(follower) for follower in service.followers}
        ready = all(state["ready"] for state in lanes.values())
        degraded = any(state["complaints"] for state in lanes.values())
        status = ("degraded" if degraded else "ok") if ready else "not ready"
        said = {"status": status, "lanes": lanes, "unwritten_log_lines": service.log.failures}
        return JSONResponse(said, 200 if ready else 503)

    @app.get("/models")
    def models() -> dict[str, Any]:
        """Which versions are loaded, and what serving knows of them."""
        return {follower.source.lane: _models(follower, service.shadow) for follower in service.followers}

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus's text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)  # browsers ask for it; without an answer they log an error

    for path, name in _PAGES.items():
        app.add_api_route(path, _file(name), include_in_schema=False)
    return app


async def _predict(service: Service, params: ServingParams, lane: str, request: Request) -> Response:
    post = service.posts.get(lane)
    if post is None:
        return _error(404, "lane", f"no lane '{lane}' here; there are {', '.join(service.posts)}")
    try:
        service.desk.reserve()
    except BusyError:
        return _error(503, "busy", "too many films wait already: try again", retry=True)
    try:
        upload = await read_upload(request, params)
    except BodyError as error:
        service.desk.release()
        return _error(error.status, error.reason, error.detail)
    except BaseException:
        service.desk.release()
        raise
    try:
        return JSONResponse(await asyncio.wrap_future(service.desk.submit(post, upload)))
    except FilmError as error:
        return _error(422, error.reason, error.detail)
    except OptionError as error:
        return _error(400, "options", str(error))
    except PhantomError as error:
        return _error(403, "phantom", str(error))
    except NotReadyError:
        detail = "; ".join(post.follower.complaints) or "the model is being loaded"
        return _error(503, "not_ready", detail, retry=True)
    except ModelError as error:
        return _error(500, "model", str(error))


def _error(status: int, reason: str, detail: str, retry: bool = False) -> JSONResponse:
    headers = {"retry-after": _RETRY_AFTER_S} if retry else None
    return JSONResponse({"error": {"reason": reason, "detail": detail}}, status, headers)


def _health(follower: Follower) -> dict[str, Any]:
    lineup = follower.lineup
    return {
        "ready": lineup is not None,
        "registered_name": follower.source.name,
        "version": None if lineup is None else lineup.champion.target.version,
        "registry_age_s": round(follower.age_s, 1),
        "complaints": follower.complaints,
    }


def _models(follower: Follower, shadow: Shadow | None) -> dict[str, Any]:
    lineup = follower.lineup
    said: dict[str, Any] = {"registered_name": follower.source.name, "alias": follower.alias}
    if lineup is not None:
        said["champion"] = _told(lineup.champion)
        said["challenger"] = None if lineup.challenger is None else _told(lineup.challenger)
        said["canary_percent"] = lineup.percent
    said["not_let_in"] = [refusal.why for refusal in list(follower.refused.values())]
    said["shadow"] = None if shadow is None else shadow.summary(follower.source.name)
    return said


def _told(served: Served) -> dict[str, Any]:
    return served.stamp | {"landmarks": list(served.card.landmarks), "golden": asdict(served.golden)}


def _file(name: str) -> Any:
    def page() -> FileResponse:
        return FileResponse(_PAGE / name)

    return page

"""Start the service: what `plumbline serve` and `plumbline canary` call."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from flows.registry.log import CHALLENGER
from flows.review.guard import is_loopback
from flows.serving import canary
from flows.serving.app import create_app, make_service
from flows.serving.follower import Follower
from flows.serving.predictor import load
from flows.serving.settings import ServingParams
from flows.serving.source import Source, sources
from stages.core.errors import StageError
from stages.core.params import load_params

ALIASES = ("champion", "challenger", "previous")


def serve(
    root: Path,
    lanes: list[str],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_hosts: list[str] | None = None,
    alias: str = "champion",
    model: Path | None = None,
    percent: float | None = None,
    shadow: bool = False,
    allow_phantom: bool = False,
) -> None:
    """Serve film lanes until interrupted.

    Args:
        root: the checkout.
        lanes: lanes, registered names or `all`; see `source.sources`.
        host: address to listen at.
        port: default that of params.yaml; 0 takes any free one.
        allow_hosts: more names that the service is known by, beyond loopback.
        alias: the alias to follow.
        model: a folder to serve instead of a registered model.
        percent: the challenger's share where nobody decided about it; default that of params.yaml.
        shadow: have both models answer every film.
        allow_phantom: let models that were trained on phantoms read persons' films.
    Raises:
        StageError: nothing to serve, an unknown alias, or the port is taken.
    """
    import torch
    import uvicorn

    if alias not in ALIASES:
        raise StageError(f"no alias '{alias}'; there are {', '.join(ALIASES)}")
    params = load_params(ServingParams, root / "params.yaml")
    # Must come before MLflow reads them: a registry that hangs must not stop the follower for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    torch.set_num_threads(params.native_threads)
    found = sources(root, lanes, model)
    share = params.canary.percent if percent is None else percent
    followers = [_follower(source, params, root, alias, share, shadow) for source in found]
    service = make_service(root, params, followers, shadow, allow_phantom)
    beyond = not is_loopback(f"[{host}]" if ":" in host else host)
    names = (host, *([socket.gethostname()] if beyond else []), *(allow_hosts or ()))
    app = create_app(service, params, names, any_address=beyond)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("plumbline.serving").setLevel(logging.INFO)
    with _listening(host, params.port if port is None else port) as listener:
        if beyond:
            print(f"WARNING: {host} is open to other machines, without password or encryption", flush=True)
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listener.getsockname()[1]}  {', '.join(s.name for s in found)}", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=4 * (params.workers + params.queue) + 16,
            timeout_graceful_shutdown=10,
        )
        uvicorn.Server(config).run(sockets=[listener])


def set_canary(root: Path, lane: str, percent: float) -> str:
    """Give the lane's present challenger its share of the films; running services follow within seconds.

    Raises:
        StageError: there is no challenger, or percent is not between 0 and 100.
    """
    if not 0 <= percent <= 100:
        raise StageError(f"a share lies between 0 and 100 percent, not at {percent:g}")
    (source,) = sources(root, [lane])
    target = source.resolve(CHALLENGER)
    if target is None:
        raise StageError(f"{source.name} has no challenger: there is nothing to send films to")
    before = canary.decisions(root).get(source.name)
    canary.decide(root, source.name, target.key, percent)
    said = f"{target} gets {percent:g} % of the films"
    if before is not None and before.key == target.key and before.halted is not None:
        said += f" again (it was halted on {before.when:%Y-%m-%d}: {before.halted})"
    return said


def _follower(
    source: Source, params: ServingParams, root: Path, alias: str, percent: float, shadow: bool
) -> Follower:
    return Follower(source, partial(load, root=root, params=params), params, root, alias, percent, shadow)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise StageError(f"cannot listen at {host}:{port} ({error}): choose another --port") from None
    with listener:
        yield listener

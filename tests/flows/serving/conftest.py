"""A root with a registry of toy models, and the service on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.lanes import LANES
from flows.serving.app import Service, create_app, make_service
from flows.serving.follower import Follower
from flows.serving.predictor import load
from flows.serving.settings import ServingParams
from flows.serving.source import LogSource
from tests.flows.serving.toy_lane import PARAMS, Behaviour, ToyLane


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    fresh = Behaviour()
    monkeypatch.setattr(ToyLane, "behaviour", fresh)
    for name in list(LANES):
        monkeypatch.delitem(LANES, name)  # importing a real lane takes seconds
    monkeypatch.setitem(LANES, "toy", ToyLane("toy", Path("models/toy/mean")))
    return fresh


@pytest.fixture
def root(tmp_path: Path, behaviour: Behaviour) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


@pytest.fixture
def follow(root: Path) -> Callable[..., Follower]:
    """A follower that refreshes when the test says so."""

    def make(name: str = "toy-phantom", params: ServingParams = PARAMS, **options: object) -> Follower:
        loading = partial(load, root=root, params=params)
        return Follower(LogSource(root, "toy", name), loading, params, root, **options)  # type: ignore[arg-type]

    return make


Serve = Callable[..., tuple[TestClient, Service, Follower]]


@pytest.fixture
def serve(root: Path, follow: Callable[..., Follower]) -> Iterator[Serve]:
    """The application with its threads, ready where a model can be let in."""
    with ExitStack() as stack:

        def start(
            name: str = "toy-phantom",
            params: ServingParams = PARAMS,
            shadow: bool = False,
            allow_phantom: bool = False,
            **options: object,
        ) -> tuple[TestClient, Service, Follower]:
            follower = follow(name, params, shadow=shadow, **options)
            follower.refresh()
            service = make_service(root, params, [follower], shadow, allow_phantom)
            app = create_app(service, params)
            return stack.enter_context(TestClient(app, base_url="http://localhost")), service, follower

        yield start

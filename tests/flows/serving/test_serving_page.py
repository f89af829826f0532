"""The page in a real browser: a film that is dropped on it comes back with its points."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from flows.serving.app import Service
from flows.serving.follower import Follower
from tests.flows.review.browser import CHROMIUM, Tab, browser, until
from tests.flows.serving.toy_lane import film, release

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application at a port of its own; the lifespan is the test client's."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the server starts")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def drop(tab: Tab, content: bytes, name: str) -> None:
    """Drop a file on the page, as far as a page can tell."""
    tab.js(
        f"""(() => {{
            const bytes = Uint8Array.from(atob({json.dumps(base64.b64encode(content).decode())}), c => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], {json.dumps(name)}, {{ type: "image/png" }}));
            document.querySelector("#drop").dispatchEvent(new DragEvent("drop", {{ dataTransfer: carried }}));
        }})()"""
    )


def test_a_dropped_film_comes_back_with_its_points(
    root: Path, serve: Callable[..., tuple[TestClient, Service, Follower]], tmp_path: Path
) -> None:
    release(root, 30)
    client, _, _ = serve()
    assert isinstance(client.app, FastAPI)
    with listening(client.app) as url, browser(tmp_path / "chromium") as running:
        tab = running.tab(url)
        tab.wait("document.querySelector('#model').textContent.includes('toy-phantom, version 1')")
        drop(tab, film(), "film.png")
        tab.wait("document.querySelectorAll('#points tr').length == 2")
        assert tab.text("#points").split() == ["tip", "30.0", "10.0", "base", "30.0", "20.0"]
        assert "Research use only" in tab.text("#said")
        width, height = tab.js("[view.width, view.height]")
        assert width / height == pytest.approx(70 / 80, abs=0.01)
        place = f"{30.5 / 70 * width}, {10.5 / 80 * height}"
        pixel = f"[...view.getContext('2d').getImageData({place}, 1, 1).data].slice(0, 3)"
        assert tab.js(pixel) == [255, 176, 0], "the point is drawn where the answer says"
        assert tab.problems() == []
        drop(tab, b"no film", "<img src=x onerror=alert(1)>.png")
        tab.wait("document.querySelector('#said').className == 'failed'")
        assert tab.text("#points") == ""

"""A real browser, driven through Chromium's DevTools protocol: what a person does with mouse and keys."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--remote-debugging-port=0",
)  # fmt: skip
SECONDS = 60.0
"""patience with a busy machine"""
CODES = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
ALT, CTRL, SHIFT = 1, 2, 8


def until(true: Callable[[], Any], what: str | Callable[[], str]) -> Any:
    """Wait for something to become true; returns it."""
    deadline = time.monotonic() + SECONDS
    while True:
        if found := true():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"this did not happen: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


class Browser:
    """A running Chromium; `tab` opens a page in a profile of its own, like another person's computer."""

    def __init__(self, port: int, path: str) -> None:
        self._url = f"ws://127.0.0.1:{port}"
        self._control = Session(connect(self._url + path, max_size=None, ping_interval=None))

    def tab(self, url: str, width: int = 1280, height: int = 800) -> Tab:
        context = self._control.call("Target.createBrowserContext")["browserContextId"]
        target = self._control.call(
            "Target.createTarget", url="about:blank", browserContextId=context, width=width, height=height
        )["targetId"]
        tab = Tab(Session(connect(f"{self._url}/devtools/page/{target}", max_size=None, ping_interval=None)))
        tab.size(width, height)
        tab.open(url)
        return tab


class Session:
    """A connection to the browser or to one page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=SECONDS))
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)


class Tab:
    """One page."""

    def __init__(self, session: Session) -> None:
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            session.call(f"{domain}.enable")

    def size(self, width: int, height: int, touch: bool = False) -> None:
        self._session.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        self._session.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def open(self, url: str) -> None:
        self._session.call("Page.navigate", url=url)

    def reload(self) -> None:
        self.js("window.before = true")
        self._session.call("Page.reload")
        until(lambda: self.js("!window.before"), "the page loads again")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self._session.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true; meanwhile the page may not even be there."""
        guarded = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        return until(lambda: self.js(guarded), lambda: f"{expression}; the page says {self.problems()}")

    def problems(self) -> list[str]:
        """Errors that the page, its scripts or its policy met."""
        self.js("0")  # takes in what the browser has told so far
        found = []
        for event in self._session.events:
            if event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                found.append(details.get("exception", {}).get("description") or details["text"])
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found

    def offline(self, away: bool) -> None:
        self._session.call(
            "Network.emulateNetworkConditions",
            offline=away, latency=0, downloadThroughput=-1, uploadThroughput=-1,
        )  # fmt: skip

    def key(self, key: str, modifiers: int = 0) -> None:
        event: dict[str, Any] = {"key": key, "code": key, "modifiers": modifiers}
        event["windowsVirtualKeyCode"] = CODES.get(key) or ord(key.upper()[0])
        if key == "Enter" or (len(key) == 1 and not modifiers & CTRL):
            event["text"] = "\r" if key == "Enter" else key
        self._session.call("Input.dispatchKeyEvent", type="keyDown", **event)
        event.pop("text", None)
        self._session.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        self._session.call("Input.insertText", text=text)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self._session.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y,
            **{"button": "none" if kind == "mouseWheel" else "left", "clickCount": 1, "modifiers": 0, **more},
        )  # fmt: skip

    def click(self, x: float, y: float, **more: Any) -> None:
        self.mouse("mousePressed", x, y, **more)
        self.mouse("mouseReleased", x, y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start)
        for share in (0.25, 0.5, 0.75, 1.0):
            at = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
            self.mouse("mouseMoved", *at, buttons=1)
        self.mouse("mouseReleased", *end)

    def touch(self, moves: list[list[tuple[float, float]]]) -> None:
        """Put fingers down, move them, lift them: a list of places, px of the window, for each moment."""
        for kind, fingers in zip(("touchStart", *["touchMove"] * len(moves)), moves, strict=False):
            points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(fingers)]
            self._session.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self._session.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, selector: str) -> None:
        """Click the middle of an element, once it is there."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        box = self.js(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.click(*box)

    def shoot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        data = self._session.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile; it ends with the block."""
    assert CHROMIUM is not None
    profile.mkdir(parents=True, exist_ok=True)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with (profile / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        noted = profile / "DevToolsActivePort"
        until(lambda: noted.is_file() and len(noted.read_text().splitlines()) == 2, "the browser starts")
        port, path = noted.read_text().splitlines()
        yield Browser(int(port), path)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""What stands between a local server and the rest of the web: names, origins, sizes, headers.

A page of another site can make a browser send requests to a server on this machine, or give its own name this
machine's address (DNS rebinding). So a request must name this server (Host), and one that a page sends must
come from this server's page (Origin). Every answer forbids scripts, frames and pictures of anywhere else.
"""

from __future__ import annotations

import ipaddress
import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 * 1024
"""bytes of a request; the verdicts on a whole film are some 5 kB"""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Middleware that answers what must not reach the application."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """
        Args:
            host, port: where the server listens, a name that is allowed beside those of loopback.
        """
        self.app = app
        self.own = {f"{host}:{port}".lower(), *([host.lower()] if port in (0, 80) else [])}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        guarded = sealed(send)
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope["method"], headers):
            await _answer(guarded, *refusal)
            return
        body = b""
        if scope["method"] not in ("GET", "HEAD"):
            taken = await _body(receive)
            if taken is None:
                await _answer(guarded, 413, f"the request is larger than {MAX_BODY} bytes")
                return
            body = taken
        await self.app(scope, _once(body, receive), guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if not (is_loopback(host) or host in self.own):
            return 421, f"this server does not answer to the name {host[:100]!r}"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return 403, f"requests of the page {origin[:100]!r} are not served"
        if method not in ("GET", "HEAD"):
            kind = headers.get("content-type", "").split(";")[0].strip().lower()
            if kind != "application/json":
                return 415, f"the body must be application/json, not {kind[:100]!r}"
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > MAX_BODY:
                return 413, f"the request is larger than {MAX_BODY} bytes"
        return None


def sealed(send: Send) -> Send:
    """`send` that gives every answer the headers of `HEADERS`, and lets nobody keep it unless it says so itself."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return guarded


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine by a loopback name or address, with any port.

    Any port: people reach the server through forwarded ports. A name that somebody else controls never passes.
    """
    name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "0")
    if not port.isdigit():
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None if it is too large (whatever its header promised)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _once(body: bytes, receive: Receive) -> Receive:
    """`receive` for the application: the body that was read already, then what the server says."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

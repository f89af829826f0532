"""Keeps other people's web pages out of the service, by the Host and the Origin of each request.

As `flows.review.guard`, whose headers and idea of loopback these are, but for bodies that are films, and for services
that are open beyond loopback: addresses written as numbers are safe names there, since rebinding needs a name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.review.guard import is_loopback, sealed


class Guard:
    """ASGI middleware that refuses foreign hosts and origins with 403, and adds security headers.

    Args:
        app: what it guards.
        hosts: names that the service is known by beside those of loopback, without port.
        any_address: also answer to any address written as a number.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), any_address: bool = False) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        guarded = sealed(send)
        if (problem := self._problem(Headers(scope=scope))) is None:
            await self._app(scope, receive, guarded)
        else:
            refusal = JSONResponse({"error": {"reason": "foreign", "detail": problem}}, 403)
            await refusal(scope, receive, guarded)

    def _problem(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if not (is_loopback(host) or self._knows(host)):
            return f"this service is not known as {host[:100]!r}; start it with --allow-host if it should be"
        if origin is not None and urlsplit(origin).netloc.lower() != host:
            return f"pages of {origin[:100]!r} may not use this service"
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or (self._any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""A film out of a request: the plain bytes of its file, or one part of a form."""

from __future__ import annotations

import asyncio
import json
from email.message import Message
from typing import Any

from starlette.requests import ClientDisconnect, Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from flows.serving.desk import Upload
from flows.serving.settings import ServingParams

FILM_TYPES = (
    "image/png",
    "image/jpeg",
    "image/tiff",
    "image/bmp",
    "application/dicom",
    "application/octet-stream",
)
_FORM = "multipart/form-data"
_MAX_PARTS = 200
_MAX_HINTS = 100_000
"""bytes of all fields of a form that are no film"""


class BodyError(Exception):
    """A request that holds no film: HTTP status, a code for programs and words for people."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


async def read_upload(request: Request, params: ServingParams) -> Upload:
    """Read a film and its options.

    Hints stand in the query (`?hint=T2-BR=412,980`, any number), or in fields of the form: `hint`, any number, or
    `options`, a JSON object such as {"hints": {"T2 BR": [412, 980]}}.

    Raises:
        BodyError: 400 malformed, 408 too slow, 413 too large, 415 of another type.
    """
    kind, form = _content_type(request)
    content = await _read(request, params)
    hints = request.query_params.getlist("hint")
    options: dict[str, Any] = {}
    if kind == _FORM:
        kind, content, fields = _parts(content, form)
        hints += fields.pop("hint", [])
        options = _options(fields.pop("options", []))
        if fields:
            raise BodyError(
                400, "form", f"unknown fields: {', '.join(sorted(fields))}; known: film, hint, options"
            )
    if not content:
        raise BodyError(400, "empty", "the request holds no film: send the bytes of its file")
    hints += _as_texts(options.pop("hints", []))
    if hints:
        options["hints"] = tuple(hints)
    return Upload(content, ".dcm" if kind == "application/dicom" else "", options)


def _content_type(request: Request) -> tuple[str, str]:
    """Type in lower case, and the boundary of a form (empty otherwise)."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    kind = header.get_content_type() if request.headers.get("content-type") else ""
    if kind not in (*FILM_TYPES, _FORM):
        known = ", ".join((*FILM_TYPES, _FORM))
        raise BodyError(415, "content_type", f"content type '{kind or 'none'}'; known: {known}")
    boundary = header.get_param("boundary") if kind == _FORM else ""
    if not isinstance(boundary, str) or (kind == _FORM and not 1 <= len(boundary) <= 200):
        raise BodyError(400, "form", "a form needs a boundary in its content type")
    return kind, boundary


async def _read(request: Request, params: ServingParams) -> bytes:
    largest = int(params.body_mb * 1e6)
    too_large = BodyError(413, "too_large", f"a film may have {params.body_mb:g} MB")
    stated = request.headers.get("content-length")
    if stated is not None and stated.isdecimal() and int(stated) > largest:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(params.body_s):
            async for chunk in request.stream():
                if len(content) + len(chunk) > largest:
                    raise too_large
                content += chunk
    except TimeoutError:
        raise BodyError(408, "slow", f"the film did not arrive within {params.body_s:g} s") from None
    except ClientDisconnect:
        raise BodyError(400, "cut_off", "the connection ended before the film did") from None
    return bytes(content)


def _parts(body: bytes, boundary: str) -> tuple[str, bytes, dict[str, list[str]]]:
    """Type and bytes of the film of a form, and its other fields."""
    films: list[tuple[str, bytearray]] = []
    fields: dict[str, list[str]] = {}
    # The decoder's own limit would hold for the film as well; the whole body was measured as it came.
    decoder = MultipartDecoder(boundary.encode("latin-1", "replace"), max_parts=_MAX_PARTS)
    decoder.receive_data(body)
    decoder.receive_data(None)
    try:
        name, target, said, ended = "", bytearray(), 0, False
        while not ended:
            event = decoder.next_event()
            if isinstance(event, File):
                target = bytearray()
                films.append((event.headers.get("content-type", "application/octet-stream"), target))
            elif isinstance(event, Field):
                name, target = event.name, bytearray()
            elif isinstance(event, Data):
                target += event.data
                if films and target is films[-1][1]:
                    continue
                said += len(event.data)
                if said > _MAX_HINTS:
                    raise BodyError(400, "form", f"the fields beside the film hold over {_MAX_HINTS} bytes")
                if not event.more_data:
                    fields.setdefault(name, []).append(target.decode())
            ended = isinstance(event, Epilogue | NeedData)
    except (ValueError, RequestEntityTooLarge) as error:
        raise BodyError(400, "form", f"the form is malformed: {error}") from None
    if len(films) != 1:
        raise BodyError(400, "form", f"the form holds {len(films)} files; expected one, the film")
    kind, content = films[0]
    return kind.partition(";")[0].strip().lower(), bytes(content), fields


def _options(given: list[str]) -> dict[str, Any]:
    if not given:
        return {}
    try:
        options = json.loads(given[-1])
    except (ValueError, RecursionError):
        options = None
    if len(given) > 1 or not isinstance(options, dict):
        raise BodyError(
            400, "options", 'options are one JSON object, such as {"hints": {"T2 BR": [412, 980]}}'
        )
    return options


def _as_texts(hints: Any) -> list[str]:
    """Hints as a person types them, POINT=X,Y, from JSON: a list of such texts, or point -> [x, y]."""
    if isinstance(hints, dict):
        pairs = hints.items()
        if all(isinstance(p, list) and len(p) == 2 and all(_is_number(v) for v in p) for _, p in pairs):
            return [f"{point}={x},{y}" for point, (x, y) in pairs]
    elif isinstance(hints, list) and all(isinstance(hint, str) for hint in hints):
        return hints
    raise BodyError(400, "options", "hints are a list of texts POINT=X,Y, or an object of POINT: [X, Y]")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

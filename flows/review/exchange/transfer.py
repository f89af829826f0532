"""A review out to another annotation program, and what people said there back into the review."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.review.config import Item, ReviewConfig
from flows.review.desk import Desk, RefusedError, Said
from flows.review.exchange import FORMATS, FilmPoints, Format
from flows.review.exchange.record import Placed
from stages.core.errors import StageError
from stages.core.review.events import PLACED, SHOWN, ReviewEvent, standing

SAME_PX = 0.01
"""a point that comes back no further from the prediction than this was not moved; formats round"""


@dataclass(frozen=True)
class Imported:
    """What an import added: verdicts that are there now, and those that were there before."""

    stored: int
    known: int
    films: int


def format_of(name: str) -> Format:
    if name not in FORMATS:
        raise StageError(f"no format '{name}'; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def export_review(config: ReviewConfig, name: str, path: Path) -> int:
    """Write the films of a queue with the points that count now: the reviewers' where they gave any, else the
    model's. Films that are shown blinded go out without points. Returns the number of films.

    Args:
        name: of the format, see `FORMATS`.
    """
    form = format_of(name)
    desk = Desk(config)
    try:
        counting = standing(desk.events())
    finally:
        desk.store.close()
    first = [item for item in config.items if item.kind != "repeat"]
    form.write(path, [_film(config, item, counting) for item in first], config.schema)
    return len(first)


def _film(config: ReviewConfig, item: Item, counting: Sequence[ReviewEvent]) -> FilmPoints:
    own = [event for event in counting if event.film == item.film]
    points: dict[str, Placed] = {}
    hidden = set()
    for name, (x, y) in zip(config.schema.names, item.points, strict=True):
        said = [event for event in own if event.landmark == name]
        placed = [(event.x, event.y) for event in said if event.verdict in PLACED]
        if placed:
            mean_x, mean_y = np.array(placed, float).mean(0)
            points[name] = Placed(float(mean_x), float(mean_y))
        elif any(event.verdict == "not_visible" for event in said):
            hidden.add(name)
        elif not item.blinded:
            points[name] = Placed(float(x), float(y))
    width, height = config.pictures.size(item.film)
    return FilmPoints(item.film, width, height, points, frozenset(hidden))


def import_review(config: ReviewConfig, name: str, path: Path, annotator: str) -> Imported:
    """Take over what an annotator said in another program as events of the open round.

    A point where the model had it is an acceptance, another place a correction, a landmark that is listed as not
    visible is so; a landmark without a word stays open. Importing the same file again adds nothing.

    labelme and COCO do not say which films somebody looked at: give only those, or the model's own points come
    back as accepted.

    Raises:
        StageError: the file cannot be read, films that are not in the queue or have another size; names all.
            Also if somebody else is reviewing one of the films in the page now.
    """
    films = format_of(name).read(path, config.schema)
    first = {item.film: item for item in config.items if item.kind != "repeat"}
    if strange := [film.film for film in films if film.film not in first]:
        raise StageError(f"{path}: films that are not in the queue: {', '.join(strange[:SHOWN])}")
    sizes = [f for f in films if (f.width, f.height) != config.pictures.size(f.film)]
    if sizes:
        named = ", ".join(f"{f.film} ({f.width} x {f.height})" for f in sizes[:SHOWN])
        raise StageError(f"{path}: films of another size than here: {named}")
    desk = Desk(config)
    results: list[str] = []
    at = ""
    try:
        for film in films:
            at = film.film
            item = first[film.film]
            if said := _verdicts(config, item, film, annotator):
                desk.open(item.rank, annotator)
                results += desk.submit(item.rank, annotator, said, f"import-{name}").values()
                desk.release(item.rank, annotator)
    except RefusedError as error:
        done = f"{results.count('stored')} verdicts of earlier films are in; importing again adds the rest"
        raise StageError(f"{path}, film {at}: {error} ({done})") from None
    finally:
        desk.store.close()
    return Imported(results.count("stored"), results.count("known"), len(films))


def _verdicts(config: ReviewConfig, item: Item, film: FilmPoints, annotator: str) -> list[Said]:
    said = []
    for i, landmark in enumerate(config.schema.names):
        if landmark in film.points:
            point = film.points[landmark]
            moved = float(np.hypot(*(item.points[i] - (point.x, point.y)))) > SAME_PX
            x, y = (point.x, point.y) if moved or item.blinded else (None, None)
        elif landmark in film.hidden:
            x = y = None
        else:
            continue
        verdict = "not_visible" if landmark in film.hidden else "accept" if x is None else "correct"
        text = f"{config.round} {annotator} {item.film} {landmark} {verdict} {x} {y}"
        event_id = hashlib.sha256(text.encode()).hexdigest()[:32]
        said.append(
            Said(event_id=event_id, landmark=landmark, verdict=verdict, x=x, y=y, dwell_ms=0)  # type: ignore[arg-type]
        )
    return said

"""The golden check: a model is let in only if it answers a fixed picture as the same weights answered it before.

The digest of a model folder shows that its bytes are whole. It does not show that this code, these libraries and
this machine still make of them what they made when the model was registered. A picture does: drawn by rule, of no
person, sized for the model, it goes through the lane's whole prediction. The expected points lie beside the model
on the registry's shelf where they were recorded at registration (`record`); otherwise the first service that loads
the model records them under `.plumbline/serving/golden/`, and every later load is held to them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.lanes import lane
from flows.registry.shelf import SHELF, Shelved
from flows.serving import FOLDER
from flows.serving.settings import GoldenSettings
from flows.serving.source import Target, reads_films
from stages.core.data.decode import Film
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, wrong_fields
from stages.core.tracking.example import REVISION, made_up_film

_FILE = "golden.json"


class Golden(BaseModel):
    """Attributes:
    revision: of the picture; points that were recorded on another one do not count.
    points: K pairs of x, y in px of the picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    revision: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Verdict:
    """What the golden check came to; `held to` the shelf's points, to this checkout's, or to none so far."""

    held_to: Literal["registration", "first load", "nothing"]
    largest_px: float


def picture(card: ModelCard) -> Film:
    """The golden picture of a model: as large as its input, at least 256 px, marked as generated."""
    height, width = (256, 256) if card.input is None else (card.input.height, card.input.width)
    return Film(made_up_film(height, width), phantom=True)


def points_of(answer: dict[str, Any]) -> np.ndarray:
    """(K, 2) px of the film from a lane's answer; NaN where it gives no number."""
    marks = [(mark.get("x"), mark.get("y")) for mark in answer["landmarks"]]
    return np.array(marks, float).reshape(-1, 2)


def check(
    root: Path,
    target: Target,
    card: ModelCard,
    predict: Callable[[Film], dict[str, Any]],
    settings: GoldenSettings,
) -> Verdict:
    """Ask a loaded model for the golden picture, which also warms it up.

    Raises:
        StageError: the answer makes no sense, or is not the one that was recorded.
    """
    film = picture(card)
    predict(film)
    points = points_of(predict(film))
    if problem := _senseless(points, card, film):
        raise StageError(f"{target} answers the golden picture with {problem}")
    own = root / FOLDER / "golden" / target.name / f"{target.key}.{target.model_sha256[:12]}.json"
    beside = root / SHELF / target.name / target.key / _FILE
    for path, held_to in ((beside, "registration"), (own, "first load")):
        expected = _read(path)
        if expected is None:
            continue
        if len(expected) != len(points):
            raise StageError(f"{target} gives {len(points)} points, {path.name} holds {len(expected)}")
        apart = np.linalg.norm(points - expected, axis=1)
        near = float((apart <= settings.tolerance_px).mean())
        if near < settings.share:
            raise StageError(
                f"{target} does not answer the golden picture as at its {held_to}: {near:.0%} of the points are "
                f"within {settings.tolerance_px:g} px, {settings.share:.0%} have to be (furthest {apart.max():.1f} "
                "px). Its code or a library changed under it: serve it from the checkout that registered it, or "
                "train and promote it again"
            )
        return Verdict("registration" if path == beside else "first load", float(apart.max()))
    _write(own, points)
    return Verdict("nothing", 0.0)


def record(shelf: Path, card: ModelCard, predict: Callable[[Film], dict[str, Any]]) -> None:
    """Write the golden points beside a model on the shelf, at its registration; what is there stays."""
    if not (shelf / _FILE).is_file():
        _write(shelf / _FILE, points_of(predict(picture(card))))


def record_registered(shelf: Shelved) -> None:
    """`record` for a model that was just registered; a lane that reads no films has no golden picture.

    A model that cannot be asked here is a warning: the first service that loads it records its answer.
    """
    card = load_card(shelf.model)
    if not reads_films(card.lane):
        return
    predictor = lane(card.lane).module("predict")
    try:
        trained = predictor.open_model(shelf.model)
        record(shelf.folder, card, lambda film: predictor.predict_film(trained, film))
    except StageError as error:
        warnings.warn(f"{card.registry_name}: its golden answer was not recorded: {error}", stacklevel=2)


def _senseless(points: np.ndarray, card: ModelCard, film: Film) -> str | None:
    """What no working model would say of any picture."""
    if len(points) != len(card.landmarks):
        return f"{len(points)} points instead of {len(card.landmarks)}"
    if lost := int((~np.isfinite(points).all(1)).sum()):
        return f"{lost} points that are no numbers"
    height, width = film.pixels.shape
    far = (np.abs(points - [width / 2, height / 2]) > 2 * np.array([width, height])).any(1)
    if far.any():
        return f"{int(far.sum())} points far off the picture"
    if len(points) > 1 and float(np.ptp(points, axis=0).max()) < 1.0:
        return "all points at one place"
    return None


def _read(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        golden = Golden.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise StageError(f"{path} is damaged ({wrong_fields(error)}); remove it to record it again") from None
    return np.array(golden.points) if golden.revision == REVISION else None


def _write(path: Path, points: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    golden = {"revision": REVISION, "points": [[float(x), float(y)] for x, y in points]}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    partial.replace(path)

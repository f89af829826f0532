"""Where a model looks for a landmark, as a transparent picture to lay over the film."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np

from flows.review.films import FilmPictures, encode

KEPT = 4
"""films whose maps stay in memory"""
TINT_BGR = (0, 159, 230)
OPACITY = 160
"""of the map's highest cell, of 255"""


class MapModel(Protocol):
    """What a lane's trained model must offer for heatmaps."""

    stored_size: tuple[int, int]

    def probability_maps(self, images: np.ndarray) -> np.ndarray:
        """Films (N, H, W) uint8 -> (N, K, h, w) float32, each map adding up to 1."""


class Heatmaps:
    """Draws maps of films on request; the model is opened by the first."""

    def __init__(self, pictures: FilmPictures, open_model: Callable[[], MapModel]) -> None:
        self._pictures = pictures
        self._open = open_model
        self._model: MapModel | None = None
        self._maps: OrderedDict[str, np.ndarray] = OrderedDict()
        self._alone = threading.Lock()

    def __call__(self, film: str, landmark: int) -> bytes:
        """PNG of the map of one landmark; it covers the whole film, edge to edge."""
        with self._alone:
            if film not in self._maps:
                self._model = self._model or self._open()
                self._maps[film] = self._model.probability_maps(self._pictures.stored(film)[None])[0]
                while len(self._maps) > KEPT:
                    self._maps.popitem(last=False)
            return encode(tinted(self._maps[film][landmark]))


def tinted(chances: np.ndarray) -> np.ndarray:
    """A map (h, w) >= 0 as BGRA (h, w, 4) uint8: one colour, the more opaque the likelier.

    Opacity follows the square root, so that a second, lower peak shows beside a sharp first one.
    """
    strength = np.sqrt(chances / max(float(chances.max()), 1e-12))
    picture = np.empty((*chances.shape, 4), np.uint8)
    picture[..., :3] = TINT_BGR
    picture[..., 3] = np.rint(OPACITY * strength)
    return picture

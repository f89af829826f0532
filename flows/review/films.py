"""The pictures of a review: films by pseudonym, as they came, or as they are stored where the files are gone.

A picture is always served in the raw size, so that points in raw px need no conversion in the page: a stored
picture (the `model` frame) is stretched back to the size that its film had.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import geometry
from stages.core.data.decode import FilmError, decode_film
from stages.core.data.films import FilmSet
from stages.core.errors import StageError
from stages.core.model.prediction import LIMITS, SUFFIXES

KEPT = 6
"""encoded pictures that stay in memory: the open film, the next, and a few to go back to"""
NAMES = Path("data/raw/names")


@dataclass(frozen=True)
class Origin:
    """A film store and the raw folder that it was made from (None where nobody knows)."""

    films: FilmSet
    raw: Path | None

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """File name, and name without suffix -> pictures of that name in the raw folder."""
        found: dict[str, list[Path]] = defaultdict(list)
        if self.raw is None or not self.raw.is_dir():
            return found
        for path in sorted(self.raw.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                found[path.name].append(path)
                found[path.stem].append(path)
        return found


@dataclass
class FilmPictures:
    """The films of some stores; see `flows.review.config.Pictures`. Safe to use from several threads.

    Attributes:
        origins: the stores; where a film is in several, the first counts.
        names: pseudonym -> names that its file has.
    """

    origins: list[Origin]
    names: Mapping[str, set[str]]
    _pngs: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def _rows(self) -> dict[str, tuple[Origin, int]]:
        rows: dict[str, tuple[Origin, int]] = {}
        for origin in self.origins:
            for row, film in enumerate(origin.films.ids):
                rows.setdefault(str(film), (origin, row))
        return rows

    def missing(self, films: list[str]) -> list[str]:
        """Those of the films that no store has."""
        return sorted({film for film in films if film not in self._rows})

    def size(self, film: str) -> tuple[int, int]:
        """width, height in raw px."""
        origin, row = self._rows[film]
        width, height = origin.films.sizes_raw[row]
        return int(width), int(height)

    def file(self, film: str) -> Path | None:
        """The raw file of a film, where exactly one can be it."""
        origin, _ = self._rows[film]
        found = {path for name in self.names.get(film, ()) for path in origin.files.get(Path(name).name, ())}
        in_images = {path for path in found if path.parent.name == "images"}
        likely = in_images or found
        return likely.pop() if len(likely) == 1 else None

    def etag(self, film: str) -> str:
        """Of the raw file's time and size, else of the stored pixels."""
        path = self.file(film)
        if path is None:
            origin, row = self._rows[film]
            return hashlib.sha256(origin.films.images[row].tobytes()).hexdigest()[:32]
        state = path.stat()
        return hashlib.sha256(f"{film} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:32]

    def stored(self, film: str) -> np.ndarray:
        """The film (H, W) uint8 in the model frame."""
        origin, row = self._rows[film]
        return np.asarray(origin.films.images[row])

    def pixels(self, film: str) -> np.ndarray:
        """The film (height, width) uint8 in the raw frame.

        The raw file where it is there, readable, and of the size that the labels were made for; else the
        stored picture, stretched.
        """
        width, height = self.size(film)
        path = self.file(film)
        if path is not None:
            try:
                pixels = decode_film(path, LIMITS).pixels
                if pixels.shape == (height, width):
                    return pixels
            except FilmError:
                pass  # it could be read when the store was made: the store still has its picture
        return geometry.resize(self.stored(film), (height, width))

    def png(self, film: str) -> bytes:
        """The film in the raw frame as PNG; the last few are kept."""
        key = f"{film} {self.etag(film)}"
        with self._alone:
            if key in self._pngs:
                self._pngs.move_to_end(key)
                return self._pngs[key]
        body = encode(self.pixels(film))
        with self._alone:
            self._pngs[key] = body
            while len(self._pngs) > KEPT:
                self._pngs.popitem(last=False)
        return body


def encode(pixels: np.ndarray) -> bytes:
    """A picture (H, W) grey or (H, W, 4) BGRA uint8 as PNG, quick rather than small."""
    import cv2

    done, body = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise StageError(f"a picture of {pixels.shape} cannot be written as PNG")
    return body.tobytes()


def read_names(root: Path, lane: str) -> dict[str, set[str]]:
    """Pseudonym -> file names, of all data sets of a lane, from the private tables beside the raw data."""
    names: dict[str, set[str]] = defaultdict(set)
    for file in sorted((root / NAMES).glob(f"{lane}-*.csv")):
        table = pd.read_csv(file, dtype=str)
        for film, name in zip(table["id"], table["name"], strict=True):
            names[film].add(name)
    return names


def open_pictures(root: Path, lane: str, raw_folders: Iterable[tuple[str, Path | None]]) -> FilmPictures:
    """The films of a lane's stores.

    Args:
        raw_folders: name of a store under data/<lane> and the raw folder that it was made from; a store
            that is not there is left out.
    Raises:
        StageError: none of the stores is there.
    """
    folders = list(raw_folders)
    origins = [
        Origin(FilmSet.open(root / "data" / lane / store), raw)
        for store, raw in folders
        if (root / "data" / lane / store / "films.parquet").is_file()
    ]
    if not origins:
        wanted = ", ".join(f"data/{lane}/{store}" for store, _ in folders)
        raise StageError(f"the lane {lane} has no films here ({wanted}): run `dvc repro` for it")
    return FilmPictures(origins, read_names(root, lane))

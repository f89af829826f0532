"""The two sets of films that are judged: those of the base, and those of a clinic, whose truth is a reader's word.

Films of the clinic have no label of their own. One reader's points stand for the truth; every other reader is
judged as if he were a method, so that a page can say how far two people are from each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from stages.ceph.readers import read_readers, reader_points
from stages.ceph.spacing import read_spacing
from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError

BASE_SET, CLINIC_SET = "base", "clinic"
SETS = (BASE_SET, CLINIC_SET)
"""Folders of the evaluation, one a set of films."""
ROLES = {BASE_SET: ("val", "gate", "test"), CLINIC_SET: ("gate", "test")}
"""Roles that are judged; of the clinic's other films a reviewer may have said what the model learned."""
BASE, TUNED = "base", "tuned"
"""what the evaluation calls the two models"""
READER = "reader_"
"""what the name of a method begins with that is a person"""


class Answered(Protocol):
    """What a model says of stored films: points (N, 19, 2) and expected errors (N, 19), model px."""

    @property
    def points(self) -> np.ndarray: ...
    @property
    def expected_error(self) -> np.ndarray: ...


class Model(Protocol):
    """What is asked of a trained model, for example `stages.ceph.locating.model.TrainedCeph`."""

    @property
    def stored_size(self) -> geometry.Size: ...
    def predict(self, images: np.ndarray) -> Answered: ...


class Simple(Protocol):
    """What is asked of the floors, `stages.core.floors.fitting.Floors`."""

    @property
    def size(self) -> geometry.Size: ...
    def predict(self, pictures: np.ndarray) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Answers:
    """Where one method sees the landmarks of the judged films.

    Attributes:
        points: (n, 19, 2) raw px, NaN for a point that a reader did not set.
        expected: (n, 19) raw px, how far off the method says that it is; None if it does not say.
    """

    points: np.ndarray
    expected: np.ndarray | None = None


@dataclass(frozen=True)
class JudgedFilms:
    """Films of one set with their truth.

    Attributes:
        name: one of SETS.
        data: the store with split; its labels are the truth.
        rows: (n,) of the films that are judged.
        spacing_mm: (n, 2) mm per raw px of these, NaN where unknown.
    """

    name: str
    data: LabelledFilms
    rows: np.ndarray
    spacing_mm: np.ndarray

    @classmethod
    def of_base(cls, films: Path, split: Path) -> JudgedFilms:
        return cls._of(BASE_SET, LabelledFilms.open(films, split), films)

    @classmethod
    def of_clinic(cls, films: Path, split: Path, reader: str) -> JudgedFilms:
        """The clinic's films with the points of `reader` as truth.

        Raises:
            StageError: nobody of that name labelled a film; names those who did.
        """
        data = LabelledFilms.open(films, split)
        truth = reader_points(films, reader, data.films.ids)
        return cls._of(CLINIC_SET, replace(data, landmarks_raw=truth), films)

    @classmethod
    def _of(cls, name: str, data: LabelledFilms, films: Path) -> JudgedFilms:
        rows = data.rows(*ROLES[name])
        return cls(name, data, rows, read_spacing(films, data.films.ids[rows]))

    @property
    def ids(self) -> np.ndarray:
        return self.data.films.ids[self.rows]

    @property
    def truth(self) -> np.ndarray:
        """(n, 19, 2) float64 raw px; NaN where there is no label."""
        return self.data.landmarks_raw[self.rows].astype(np.float64)

    def where(self, points: np.ndarray) -> JudgedFilms:
        """The same films, labels only where `points` (n, 19, 2) are set as well."""
        labels = self.data.landmarks_raw.astype(np.float64).copy()
        labels[self.rows] = np.where(np.isfinite(points).all(-1, keepdims=True), labels[self.rows], np.nan)
        return replace(self, data=replace(self.data, landmarks_raw=labels))

    def asked(self, model: Model, named: Path) -> Answers:
        """The answers of a trained model; `named` is its folder, for the message.

        Raises:
            StageError: the store holds films of another size than the model reads.
        """
        store = self.data.films
        self._require_size(model.stored_size, named)
        found = model.predict(np.asarray(store.images[self.rows]))
        sizes = store.sizes_raw[self.rows]
        scale = np.sqrt((sizes[:, 0] / store.model_size[1]) * (sizes[:, 1] / store.model_size[0]))
        return Answers(store.to_raw(found.points, self.rows), found.expected_error * scale[:, None])

    def guessed(self, floors: Simple, named: Path) -> dict[str, Answers]:
        """The answers of the floors, by method.

        Raises:
            StageError: as in `asked`.
        """
        store = self.data.films
        self._require_size(floors.size, named)
        found = floors.predict(np.asarray(store.images[self.rows]))
        return {method: Answers(store.to_raw(points, self.rows)) for method, points in found.items()}

    def others(self, films: Path, reader: str) -> dict[str, Answers]:
        """The points of every reader but `reader`, as methods named READER + name."""
        names = sorted(set(read_readers(films)["reader"]) - {reader})
        return {f"{READER}{name}": Answers(reader_points(films, name, self.ids)) for name in names}

    def _require_size(self, size: geometry.Size, named: Path) -> None:
        own = self.data.films.model_size
        if tuple(size) != own:
            raise StageError(
                f"{self.data.films.folder} holds films of {own[1]} x {own[0]} px, {named} reads {size[1]} x "
                f"{size[0]}: ceph.convert.size and ceph.clinic.size must be equal"
            )

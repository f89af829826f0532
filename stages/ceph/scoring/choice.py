"""The scorer that ceph-scores picked, with all that is needed to apply it to other films: choice.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.ceph.schema import CEPH
from stages.ceph.scoring.evidence import Draws, Evidence
from stages.ceph.scoring.rising import Rising
from stages.ceph.scoring.scorers import scorer
from stages.core.errors import StageError
from stages.core.model.card import wrong_fields

CHOICE = "choice.json"
WORST = 3
"""Points of a film that make its score: a film is worth opening for a few bad points among nineteen."""
SHRINK = 10
"""Films' worth of the mean over all landmarks that is mixed into a landmark's own typical error."""


class Knots(BaseModel):
    """A `Rising` in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def of(cls, curve: Rising) -> Knots:
        return cls(x=tuple(curve.x.tolist()), y=tuple(curve.y.tolist()))

    @property
    def curve(self) -> Rising:
        return Rising(np.array(self.x), np.array(self.y))


class Choice(BaseModel):
    """Attributes:
    scorer: the name picked.
    rank_mean: parts of the scorer `rank_mean`.
    draws: of the evidence that it was picked on; another number gives other deviations.
    references: of every measure, its scores' ranks among the films that it was picked on.
    expected: error in model px by score of the scorer picked.
    typical: (K,) expected error of each landmark on those films, model px.
    measured: of every scorer, what it was worth, for people to read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    scorer: str
    rank_mean: tuple[str, ...]
    draws: Draws
    references: dict[str, Knots]
    expected: Knots
    typical: tuple[float, ...]
    measured: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Choice:
        """Read choice.json of the folder that ceph-scores writes.

        Raises:
            StageError: there is none, or it says something else.
        """
        path = folder / CHOICE
        if not path.is_file():
            raise StageError(f"{path} does not exist: run `dvc repro` for the stage that makes it")
        try:
            choice = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise StageError(f"{path} says no scorer: {wrong_fields(error)}") from None
        if len(choice.typical) != CEPH.n_points:
            raise StageError(
                f"{path} is of {len(choice.typical)} landmarks, not {CEPH.n_points}; run `dvc repro`"
            )
        return choice

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False)
        (folder / CHOICE).write_text(f"{text}\n", encoding="utf-8")

    @property
    def curves(self) -> Mapping[str, Rising]:
        """`references` as curves."""
        return {name: knots.curve for name, knots in self.references.items()}

    def scores(self, evidence: Evidence) -> np.ndarray:
        """(N, K) of the scorer picked."""
        return scorer(self.scorer, self.rank_mean, self.curves).score(evidence)

    def unusual(self, evidence: Evidence) -> np.ndarray:
        """(N, K) expected error of each point over what is typical of its landmark.

        A landmark that is always hard is no reason to open a film: experts disagree there too, and relabelling
        it adds their noise.
        """
        return self.expected.curve(self.scores(evidence)) / np.array(self.typical)


def typical_errors(expected: np.ndarray) -> np.ndarray:
    """(N, K) expected errors of known films -> (K,) of each landmark, drawn towards the mean where films are few."""
    own = expected.mean(0)
    return (len(expected) * own + SHRINK * own.mean()) / (len(expected) + SHRINK)


def film_scores(unusual: np.ndarray) -> np.ndarray:
    """(N, K) -> (N,) mean of each film's `WORST` highest."""
    return np.sort(unusual, axis=1)[:, -WORST:].mean(1)

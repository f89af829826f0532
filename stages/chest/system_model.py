"""The lane's model as people use it: two answers, the rule that joins them, and a radius for each point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from stages.chest.alignment import Canonical
from stages.chest.locating.frames import Aligned, WholeFilm
from stages.chest.locating.inference import TrainedLocator, build
from stages.chest.locating.settings import LocatorSettings
from stages.chest.projection import project
from stages.chest.radius import RadiusModel, features
from stages.chest.schema import CHEST, REPORT_SIZE
from stages.core.data import geometry, tables
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, load_weights

ARCHITECTURE = "align-and-refine"
OUT_OF_FOLD = "out_of_fold.parquet"


class Rule(BaseModel):
    """How the two answers become one.

    Attributes:
        answer: the first, the second, or the mean of both.
        project: onto the fourteen degrees of freedom of the labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    answer: Literal["coarse", "fine", "mean"]
    project: bool

    def join(self, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """Points (N, 15, 2) of both answers in one isotropic frame -> the system's."""
        points = {"coarse": coarse, "fine": fine, "mean": (coarse + fine) / 2}[self.answer]
        return project(points) if self.project else points


@dataclass(frozen=True)
class Answer:
    """Points (N, 15, 2) in px of the films as given, and (N, 15) radii in px at 224 of discs that hold the label
    with the probability `coverage` of the model."""

    points: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class TrainedSystem:
    """A model folder of chest-system, opened on the CPU."""

    card: ModelCard
    coarse: TrainedLocator
    fine: TrainedLocator
    canonical: Canonical
    rule: Rule
    radius: RadiusModel
    out_of_fold: pd.DataFrame
    """id, landmarks (raw px) and radius_px224 of the development films, by networks that had not seen them"""

    @classmethod
    def open(cls, folder: Path) -> TrainedSystem:
        """Load a model folder.

        Raises:
            StageError: if it is a model of other landmarks or kind, or its weights do not fit its card.
        """
        card = load_card(folder)
        if card.architecture != ARCHITECTURE or card.landmarks != CHEST.names:
            raise StageError(
                f"{folder} holds a {card.lane} model '{card.architecture}' of {len(card.landmarks)} points, "
                f"expected '{ARCHITECTURE}' of the {CHEST.n_points} points of the chest lane"
            )
        weights = load_weights(folder)
        answers = {}
        for name in ("coarse", "fine"):
            settings = LocatorSettings.of(card.params[name])
            members = sorted({key.split(".")[1] for key in weights if key.startswith(f"{name}.")})
            answers[name] = build(settings, {m: under(weights, f"{name}.{m}") for m in members})
        shape = weights["canonical"].numpy()
        return cls(
            card=card,
            **answers,
            canonical=Canonical(shape, answers["fine"].settings.input),
            rule=Rule.model_validate(card.params["rule"]),
            radius=RadiusModel.from_arrays({k: v.numpy() for k, v in under(weights, "radius").items()}),
            out_of_fold=tables.read_table(folder / OUT_OF_FOLD),
        )

    @property
    def stored_size(self) -> geometry.Size:
        """(height, width) of the films that it was trained from; every film passes through this size."""
        height, width = self.card.params["stored_size"]
        return int(height), int(width)

    def predict(self, images: np.ndarray) -> Answer:
        """Answer for stored films (N, H, W) uint8; points in model px."""
        rows = np.arange(len(images))
        frames = WholeFilm(self.stored_size, self.coarse.settings.size)
        first = self.coarse.locate(images, frames.fixed(rows))
        aligned = Aligned(self.canonical, first.points, first.points, 0.0, 0.0)
        second = self.fine.locate(images, aligned.fixed(rows))
        to_px224 = REPORT_SIZE / self.stored_size[0]
        apart = np.linalg.norm(first.points - second.points, axis=2)
        told = features(*(to_px224 * values for values in (first.spread, second.spread, apart)))
        return Answer(self.rule.join(first.points, second.points), self.radius.radii(told))

    def predict_film(self, pixels: np.ndarray) -> Answer:
        """Answer for one film (H, W) uint8 of any size, which passes through the stored size; points in its px."""
        stored = geometry.resize(pixels, self.stored_size)
        answer = self.predict(stored[None])
        back = geometry.resize_matrix(self.stored_size, pixels.shape)
        return Answer(geometry.apply(back, answer.points), answer.radius)


def under(entries: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with `<prefix>.`, without it."""
    return {
        name.removeprefix(f"{prefix}."): v for name, v in entries.items() if name.startswith(f"{prefix}.")
    }

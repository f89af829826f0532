"""What a Detector is built from and what it calls wrong; apart from the networks, so that reading needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.core.data import geometry
from stages.core.model.card import InputSize


class Architecture(BaseModel):
    """What a Detector is built from; kept in the model's card.

    Attributes:
        form: `windows` judges a few consecutive vertebrae at a time on a crop of the film, as KeyBot does;
            `global` judges all points at once on the whole film, and so can see that the count has slipped.
        backbone: name of a timm model; the reference is `resnet18`.
        film_channels: equal channels of the film; the reference has 3.
        sigma: standard deviation of a point's Gaussian, in px of the crop or of the input.
        input: of the whole film (`global`).
        vertebrae: in a window (`windows`); the reference has 2.
        margin: around the window's points, as a share of their extent (`windows`); the reference has 0.
        side: of the square that a crop is stretched to, px (`windows`); the reference has 128.
        per_film: windows drawn from a film and step of training (`windows`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: Literal["windows", "global"]
    backbone: str
    film_channels: int = Field(ge=1)
    sigma: float = Field(gt=0)
    input: InputSize
    vertebrae: int = Field(ge=1)
    margin: float = Field(ge=0)
    side: int = Field(ge=16)
    per_film: int = Field(ge=1)

    @property
    def size(self) -> geometry.Size | None:
        """(height, width) of the films that the network reads; None: as they are stored."""
        return self.input.size if self.form == "global" else None


class Threshold(BaseModel):
    """How far off a point counts as wrong: the larger of two distances.

    Attributes:
        least_px512: px of a film 512 px high.
        heights: heights of the vertebra that the point belongs to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    least_px512: float = Field(ge=0)
    heights: float = Field(ge=0)

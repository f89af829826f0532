"""What a Corrector is built from; apart from the networks, so that reading parameters needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.model.card import InputSize
from stages.spine.refining.architecture import Architecture as Heatmaps

LOSSES = {"deeplab": ("bce",), "heatmap": ("cross_entropy", "l1_cells")}
"""What each form learns from; every phase of training gives each a weight."""


class Architecture(BaseModel):
    """What a Corrector is built from; kept in the model's card.

    Attributes:
        form: `deeplab` is KeyBot's, DeepLabv3 with a ResNet-50 and a sigmoid map a landmark; `heatmap` is a
            Refiner's network that gets the current points as the maps of its last pass.
        input: of the films that the network reads.
        sigma: standard deviation of the current points' Gaussians, in px of the input; also of the targets
            (`deeplab`).
        film_channels: equal channels of the film (`deeplab`); the reference has 3.
        heatmaps: the network (`heatmap`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: Literal["deeplab", "heatmap"]
    input: InputSize
    sigma: float = Field(gt=0)
    film_channels: int = Field(ge=1)
    heatmaps: Heatmaps

    @model_validator(mode="after")
    def _heatmaps_of_our_own_form(self) -> Architecture:
        if self.heatmaps.form != "softmax":
            raise ValueError(
                f"heatmaps.form must be softmax, not {self.heatmaps.form}: no other is built here"
            )
        return self

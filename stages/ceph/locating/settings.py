"""What a ceph network is built from and how it learns; parameters load without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.errors import StageError
from stages.core.model.card import InputSize
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan

LOSSES = {"softmax": ("cross_entropy", "l1_cells"), "gaussian": ("mse",)}
"""What a phase of training may weigh, by kind of the network's maps."""


class Network(BaseModel):
    """Attributes:
    form: `efficient` (a timm backbone and a light U-Net decoder) or `unet` (the plain one of Ronneberger 2015).
    backbone: of `efficient`: name of a timm model that gives feature maps.
    weights: of `efficient`: `random`, or `imagenet` where a package ships ImageNet weights of the backbone.
    channels: from the finest map to the coarsest. `efficient`: one width for each of the backbone's maps from
        `stride` on; `unet`: one for each level, 64 to 1024 as published.
    stride: px of the input a cell of the maps; 1 for `unet`.
    dropout: share of the last feature maps that training drops, and `predict_dropped`.
    maps: `softmax` (one distribution over the cells a landmark) or `gaussian` (heights between 0 and 1).
    sigma: standard deviation of the target, px of the input.
    decode: `local` (mean of a softmax map near its highest cell), `mean` (of the whole map), or `highest` (cell).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: Literal["efficient", "unet"]
    backbone: str
    weights: Literal["random", "imagenet"]
    channels: tuple[int, ...] = Field(min_length=2)
    stride: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    maps: Literal["softmax", "gaussian"]
    sigma: float = Field(gt=0)
    decode: Literal["local", "mean", "highest"]

    @model_validator(mode="after")
    def _parts_fit(self) -> Network:
        if self.form == "unet" and (self.stride != 1 or self.weights != "random"):
            raise ValueError("form unet has maps of stride 1 and starts from random weights")
        if self.maps == "gaussian" and self.decode == "mean":
            raise ValueError("gaussian maps have no mean: decode local or highest")
        return self


class FilmAugmentation(Augmentation):
    """How training films are varied; lateral films face one way, so none is mirrored.

    Attributes:
        stretch: width over height changes by e^2u with u up to this either way.
    """

    stretch: float = Field(ge=0)

    @model_validator(mode="after")
    def _never_mirrored(self) -> FilmAugmentation:
        if self.mirror:
            raise ValueError("mirror must be 0: a lateral film that faces the other way has another anatomy")
        return self


class View(BaseModel):
    """One way to look at a film in prediction: turned by `rotation` degrees and scaled by e^`log_scale`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    rotation: float
    log_scale: float


class LocatorSettings(BaseModel):
    """One kind of network with its training.

    Attributes:
        input: size of the films that the network reads.
        network: its parts.
        augment: of training films.
        views: a film's answer is the mean over these.
        fit: phases with rates of `backbone` and `head` and weights of `LOSSES`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: InputSize
    network: Network
    augment: FilmAugmentation
    views: tuple[View, ...] = Field(min_length=1)
    fit: Plan

    @model_validator(mode="after")
    def _known_losses(self) -> LocatorSettings:
        require_known_losses(self.network, self.fit)
        return self

    @classmethod
    def of(cls, params: dict[str, Any]) -> LocatorSettings:
        """From the parameters of a stage or a card, whatever else they hold."""
        if lacking := sorted(cls.model_fields.keys() - params.keys()):
            raise StageError(f"no ceph network's parameters: {', '.join(lacking)} lacking")
        return cls.model_validate({name: params[name] for name in cls.model_fields})


def require_known_losses(network: Network, plan: Plan) -> None:
    """ValueError where a phase weighs a loss that the network's maps do not have, or none at all."""
    known = LOSSES[network.maps]
    for phase in plan.phases:
        if unknown := sorted(phase.weights.keys() - set(known)):
            raise ValueError(
                f"phase '{phase.name}': no losses {unknown} for {network.maps} maps; there are {', '.join(known)}"
            )
        if not any(phase.weights.values()):
            raise ValueError(f"phase '{phase.name}': a loss needs a weight")

"""What a locating network is built from and how it is trained; parameters load without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan

LOSSES = ("cross_entropy", "l1_cells")
"""What a phase of training may weigh."""


class Network(BaseModel):
    """Attributes:
    backbone: name of a timm model that gives feature maps.
    weights: `random`, or `imagenet` where a package ships ImageNet weights of the backbone.
    channels: width of the head.
    mixer_layers: blocks that let every part of the film speak to every other.
    stride: px of the input a cell of the finest maps.
    head: `map` for one distribution over the cells; `axes` for one along x and one along y (SimCC: Li 2022,
        arXiv 2107.03332).
    bin: px of the input a place of either axis, for the head `axes`.
    sigma: standard deviation of the target, in the same px.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    backbone: str
    weights: Literal["random", "imagenet"]
    channels: int = Field(ge=1)
    mixer_layers: int = Field(ge=0)
    stride: int = Field(ge=1)
    head: Literal["map", "axes"]
    bin: int = Field(ge=1)
    sigma: float = Field(gt=0)

    @property
    def cell(self) -> int:
        """px of the input a cell of the distributions."""
        return self.bin if self.head == "axes" else self.stride


class LocatorSettings(BaseModel):
    """One kind of network with its training.

    Attributes:
        input: side of the square picture that the network reads, px.
        network: its parts.
        augment: about the picture's own frame.
        fit: phases with rates of `backbone` and `head` and weights of `LOSSES`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: int = Field(ge=32)
    network: Network
    augment: Augmentation
    fit: Plan

    @model_validator(mode="after")
    def _known_losses(self) -> LocatorSettings:
        for phase in self.fit.phases:
            if unknown := sorted(phase.weights.keys() - set(LOSSES)):
                raise ValueError(f"phase '{phase.name}': no losses {unknown}; there are {', '.join(LOSSES)}")
            if not any(phase.weights.values()):
                raise ValueError(f"phase '{phase.name}': a loss needs a weight")
        return self

    @property
    def size(self) -> geometry.Size:
        return self.input, self.input

    @classmethod
    def of(cls, params: dict[str, Any]) -> LocatorSettings:
        """From the parameters of a stage or a card, whatever else they hold."""
        lacking = sorted(cls.model_fields.keys() - params.keys())
        if lacking:
            raise StageError(f"no locating network's parameters: {', '.join(lacking)} lacking")
        return cls.model_validate({name: params[name] for name in cls.model_fields})

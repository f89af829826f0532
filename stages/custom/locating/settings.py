"""What the network of a described lane is built from and how it learns; parameters load without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan

LOSSES = ("cross_entropy", "l1_cells")
"""what a phase of training may weigh"""


class InputSize(BaseModel):
    """Size of the picture that the network reads, in px; a film is fitted into it with its proportions kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    height: int = Field(ge=32)
    width: int = Field(ge=32)

    @property
    def size(self) -> geometry.Size:
        return self.height, self.width


class Network(BaseModel):
    """Attributes:
    backbone: name of a timm model that gives feature maps.
    weights: `random`, or `imagenet` where a package ships ImageNet weights of the backbone.
    channels: of the decoder.
    stride: px of the input a cell of the maps.
    dropout: share of the last feature maps that training drops.
    sigma: standard deviation of the target, px of the input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    backbone: str
    weights: Literal["random", "imagenet"]
    channels: int = Field(ge=1)
    stride: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    sigma: float = Field(gt=0)


class Step(BaseModel):
    """A training on pictures of one size; the next step goes on from its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: InputSize
    fit: Plan


class LocatorSettings(BaseModel):
    """The network with its training.

    Attributes:
        network: its parts.
        augment: of training films; `mirror` counts only where the description has mirror partners.
        rotations: degrees by which a film is turned in prediction; the answer is the mean.
        steps: from small pictures to those that prediction reads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    network: Network
    augment: Augmentation
    rotations: tuple[float, ...] = Field(min_length=1)
    steps: tuple[Step, ...] = Field(min_length=1)

    @classmethod
    def of(cls, params: dict[str, Any]) -> LocatorSettings:
        """From the parameters of a stage or a card, whatever else they hold."""
        if lacking := sorted(cls.model_fields.keys() - params.keys()):
            raise StageError(f"no described lane's parameters: {', '.join(lacking)} lacking")
        return cls.model_validate({name: params[name] for name in cls.model_fields})

    @property
    def input(self) -> InputSize:
        return self.steps[-1].input

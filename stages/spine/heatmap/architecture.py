"""What a heatmap network is built from; apart from the network, so that reading parameters needs no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Architecture(BaseModel):
    """What a heatmap network is built from; kept in the model's card.

    Attributes:
        backbone: name of a timm model that gives feature maps, for example `hrnet_w18_small`.
        channels: width of the head.
        mixer_layers: blocks that let every part of the film speak to every other; 0 for none.
        stride: px of the network's input a cell of its maps.
        sigma: standard deviation of the target, in the same px.
        average_mirror: predict the mean of a film's and its mirror's maps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    backbone: str
    channels: int = Field(ge=1)
    mixer_layers: int = Field(ge=0)
    stride: int = Field(ge=1)
    sigma: float = Field(gt=0)
    average_mirror: bool

"""What a Refiner is built from; apart from the networks, so that reading parameters needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LOSSES = {
    "softmax": ("cross_entropy", "l1_cells", "distance", "angle"),
    "keybot": ("bce", "bce_aux", "distance", "angle"),
}
"""What a phase of training may weigh, by form of the Refiner"""


class Architecture(BaseModel):
    """What a Refiner is built from; kept in the model's card.

    Attributes:
        form: `softmax` (ours: one distribution over the cells a landmark, read by its mean) or `keybot` (as
            published: sigmoid maps by HRNet with OCR, a hint encoder and an interaction gate).
        backbone: name of a timm model that gives feature maps, for example `hrnet_w18_small`.
        weights: `random`, or `imagenet` where a package ships ImageNet weights of the backbone.
        channels: width of the softmax form's head.
        decoder: of the softmax form: `flat` puts all maps side by side at the finest stride, `pyramid` works
            its way up from the coarsest one.
        mixer_layers: of the softmax form: blocks that let every part of the film speak to every other.
        stride: px of the network's input a cell of its maps.
        sigma: standard deviation of the target, in the same px.
        hint_sigma: of the Gaussians that hints are drawn as, in the same px.
        hint_channels: of the softmax form: hints become so many channels beside the film.
        average_mirror: predict the mean of a film's and its mirror's maps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: Literal["softmax", "keybot"]
    backbone: str
    weights: Literal["random", "imagenet"]
    channels: int = Field(ge=1)
    decoder: Literal["flat", "pyramid"]
    mixer_layers: int = Field(ge=0)
    stride: int = Field(ge=1)
    sigma: float = Field(gt=0)
    hint_sigma: float = Field(gt=0)
    hint_channels: int = Field(ge=1)
    average_mirror: bool

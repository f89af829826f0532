"""Sizes of the smoothing network, apart from its code so that reading them does not load torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

LOSSES = ("position", "acceleration")
"""Names of the losses, which a training phase weighs: 1 and 0.1 in the paper."""


class Sizes(BaseModel):
    """`frames` of a window, `width`, `hidden` width of a block, number of `blocks`, dropout.

    The paper's are 32, 512, 128, 5 and 0.25.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    frames: int = Field(ge=3)
    width: int = Field(ge=1)
    hidden: int = Field(ge=1)
    blocks: int = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)

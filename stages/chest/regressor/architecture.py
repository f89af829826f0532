"""The size of the regressor, apart from the network: parameters load without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Architecture(BaseModel):
    """Size of the network; part of the parameters of the stage that starts it, and of every model's card.

    Attributes:
        film_channels: 1, or 3 equal ones as networks for photographs have.
        channels: of the four stages; the stem has as many as the first.
        blocks: residual blocks a stage.
        hidden: widths of the head's linear layers before the last.
        dropout: before the head's first layer; halved before each further one.
        attention: coordinate attention on the last map, before the head.
        head: `average`: mean over the film, then the linear layers; `spatial`: a softmax over places for
            each point, whose mean place it is. The latter has no linear layers and no dropout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    film_channels: int = Field(ge=1)
    channels: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    hidden: tuple[int, ...]
    dropout: float = Field(ge=0, lt=1)
    attention: bool = False
    head: Literal["average", "spatial"] = "average"

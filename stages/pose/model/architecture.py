"""Sizes of the refiner, apart from its code so that reading them does not load torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOSSES = ("position", "direction", "confidence")
"""Names of the refiner's losses, which a training phase weighs."""


class Architecture(BaseModel):
    """Width of a token (a multiple of the heads), attention layers and heads, dropout."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Architecture:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

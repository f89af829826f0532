"""Forms and sizes of the refiners, apart from their code so that reading them does not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Form = Literal["window", "depth", "depth_large", "joint", "main"]


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


class Branches(BaseModel):
    """Sizes of the two models whose answers the main refiner weighs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    depth: Architecture
    joint: Architecture


@dataclass(frozen=True)
class FormFacts:
    """What a form is called and what a training phase has to name.

    Attributes:
        architecture: its name on a model card.
        groups: parts of the network with a learning rate of their own.
        losses: which a training phase weighs.
    """

    architecture: str
    groups: tuple[str, ...]
    losses: tuple[str, ...]


_DEPTH_LOSSES = (
    "position",
    "bones",
    "symmetry",
    "variation",
    "direction",
    "view",
    "distance",
    "confidence",
    "mirror",
)
FORMS: dict[Form, FormFacts] = {
    "window": FormFacts("depth-refiner", ("linear", "tokens"), ("position", "direction", "confidence")),
    "depth": FormFacts("pose-aware-depth-refiner", ("network",), _DEPTH_LOSSES),
    "depth_large": FormFacts("limb-depth-refiner", ("network",), _DEPTH_LOSSES),
    "joint": FormFacts("joint-constraint-refiner", ("network",), ("angles", "position")),
    "main": FormFacts(
        "main-refiner",
        ("depth", "joint", "fusion"),
        (
            "position",
            "bones",
            "gates",
            "best",
            "confidence",
            "depth",
            "view",
            "distance",
            "angles",
        ),
    ),
}


def form_of(architecture: str) -> Form | None:
    """The form that a model card's `architecture` names, None for another kind of model."""
    return next((form for form, facts in FORMS.items() if facts.architecture == architecture), None)


PUBLISHED: dict[Form, Architecture] = {
    "depth": Architecture(width=64, layers=4, heads=4, dropout=0.1),
    "depth_large": Architecture(width=128, layers=6, heads=8, dropout=0.1),
    "joint": Architecture(width=128, layers=4, heads=4, dropout=0.1),
    "main": Architecture(width=128, layers=2, heads=4, dropout=0.1),
}
"""Sizes of the system description: 655,942 and 916,456 parameters, and 1.21 million for the main refiner's own."""

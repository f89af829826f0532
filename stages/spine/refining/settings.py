"""What a Refiner is built from and how it learns; read by several stages, none of which needs torch for it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.model.card import InputSize
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan
from stages.spine.refining.architecture import LOSSES, Architecture
from stages.spine.refining.sampling_plan import HintPlan


class RefinerSettings(BaseModel):
    """The part of a stage's parameters that decides a Refiner.

    Attributes:
        input: size of the films that the network reads.
        network: what it is built from.
        hints: which hints training samples get.
        augment: how training films are varied.
        swap_on_mirror: left and right points exchange their names on a mirrored film; off only to show what
            the reference's augmentation costs.
        val_clicks: validation also reports the error after so many clicks; 0 for none.
        fit: optimiser and phases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: InputSize
    network: Architecture
    hints: HintPlan
    augment: Augmentation
    swap_on_mirror: bool
    val_clicks: int = Field(ge=0)
    fit: Plan

    @model_validator(mode="after")
    def _weights_are_those_of_the_form(self) -> RefinerSettings:
        known = LOSSES[self.network.form]
        for phase in self.fit.phases:
            if not any(phase.weights.values()) or not phase.weights.keys() <= set(known):
                raise ValueError(
                    f"phase '{phase.name}': weights of some of {', '.join(known)} expected for the form "
                    f"'{self.network.form}', one of them above 0; got {phase.weights}"
                )
        return self

    @property
    def needs_pairs(self) -> bool:
        """Does any phase weigh the distances or angles?"""
        return any(phase.weights.get(name) for phase in self.fit.phases for name in ("distance", "angle"))

    @classmethod
    def of(cls, params: dict[str, Any]) -> RefinerSettings:
        """From a card's parameters, which hold more."""
        return cls.model_validate({name: params[name] for name in cls.model_fields})

"""What all phases of the regressor share as parameters; loads without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.core.params import StageParams
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Plan

LOSSES = ("mse", "wing", "symmetry", "distance")
"""Names that a phase's weights may use; see loss.py."""


class Wing(BaseModel):
    """Parameters of the wing loss in px of a film stretched to 224 x 224, whatever size the network reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    width_px224: float = Field(gt=0)
    curvature_px224: float = Field(gt=0)


class Symmetry(BaseModel):
    """What the symmetry loss compares a shape with.

    Attributes:
        form: `relative`: with the label's own asymmetry, so that the truth costs nothing; `line`: with its
            mirror image about the axis L1-L2, whatever the label says.
        quantile: of the training labels' asymmetry; `line` lets so much go free.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: Literal["relative", "line"]
    quantile: float = Field(ge=0, le=1)


class TrainingParams(StageParams):
    """Parameters of `training.train`; a stage's class adds its section."""

    seed: int
    threads: int
    device: str
    input: int = Field(ge=32)
    wing: Wing
    symmetry: Symmetry
    augment: Augmentation
    fit: Plan

    @field_validator("fit")
    @classmethod
    def _losses_are_known(cls, fit: Plan) -> Plan:
        for phase in fit.phases:
            unknown = sorted(phase.weights.keys() - set(LOSSES))
            if unknown or not any(phase.weights.values()):
                found = f"{', '.join(unknown)} unknown" if unknown else "none above 0"
                raise ValueError(
                    f"phase '{phase.name}': weights of some of {', '.join(LOSSES)} expected, {found}"
                )
        return fit

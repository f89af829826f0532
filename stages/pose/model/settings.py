"""What there is to choose about the training of a refiner, of any form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.params import StageParams
from stages.core.train.plan import Plan
from stages.pose.model.architecture import FORMS, Architecture, Branches, Form


class Linear(BaseModel):
    """The ridge regression that the linear part of a window's network starts as: penalty, and rows of the fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    penalty: float = Field(gt=0)
    rows: int = Field(ge=1)


class TrainingParams(StageParams):
    """Parameters of a training.

    Attributes:
        form: window, a window in time about a linear correction; depth and depth_large, the described depth
            refiners; joint, the described refiner of joint angles; main, both of them and what weighs them.
        architecture: sizes of the form's network; of `main`, of what weighs the branches.
        branches: sizes of the depth and the joint branch of `main`; null for other forms.
        window_s: times of a window's frames relative to the one that is corrected, seconds; 0 among them. All
            forms but `window` see that frame alone: [0.0].
        samples_per_epoch: drawn evenly over the training rows: frames in a row are nearly the same.
        val_rows: validation looks at so many rows at most, evenly spread.
        mirror: chance that a sample is mirrored.
        turn_deg: the camera is walked around the person by up to so many degrees; 0 for `window`.
        no_detections: chance that a sample comes without its 2D detections, so that the refiner does without.
        linear: start of a window's network; null for other forms.
    """

    seed: int
    threads: int
    device: str
    form: Form
    architecture: Architecture
    branches: Branches | None
    window_s: tuple[float, ...]
    samples_per_epoch: int = Field(ge=1)
    val_rows: int = Field(ge=1)
    mirror: float = Field(ge=0, le=1)
    turn_deg: float = Field(ge=0, le=180)
    no_detections: float = Field(ge=0, le=1)
    linear: Linear | None
    fit: Plan

    @model_validator(mode="after")
    def _the_form_is_whole(self) -> TrainingParams:
        problems = []
        if self.form != "window" and self.window_s != (0.0,):
            problems.append(f"it sees one frame: window_s must be [0.0], not {list(self.window_s)}")
        if self.form == "window" and self.turn_deg:
            problems.append(f"a window cannot be turned: turn_deg must be 0, not {self.turn_deg:g}")
        if (self.form == "main") != (self.branches is not None):
            problems.append("branches must be given for main, and for no other form")
        if (self.form == "window") != (self.linear is not None):
            problems.append("linear must be given for window, and for no other form")
        for phase in self.fit.phases:
            if set(phase.weights) != set(losses := FORMS[self.form].losses):
                problems.append(
                    f"phase '{phase.name}': weights must name {', '.join(losses)}, not {list(phase.weights)}"
                )
        if problems:
            raise ValueError(f"form {self.form}: " + "; ".join(problems))
        return self

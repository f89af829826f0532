"""Stage pose-described: the refiners as the system description has them, each at its sizes, beside ours.

    <form>/weights.pt, card.json   of depth, depth_large, joint and main; see `model.forms`

They are trained one after the other on the rows and rules of pose-train, but see one frame at a time. What they
reach stands in the report beside the refiner in use; nothing is promoted from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.plan import Phase
from stages.pose.model.architecture import Architecture, Branches
from stages.pose.model.settings import TrainingParams
from stages.pose.simulation.packed import Packed

Described = Literal["depth", "depth_large", "joint", "main"]


class Form(BaseModel):
    """Sizes and phases of one form; see `model.settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: Architecture
    branches: Branches | None = None
    turn_deg: float = Field(ge=0, le=180)
    phases: tuple[Phase, ...]


class Params(StageParams):
    """What all forms share, and `forms` by name; see `model.settings.TrainingParams`.

    Attributes:
        fit: the plan without its phases.
    """

    section: ClassVar[str] = "pose.described"
    seed: int
    threads: int
    device: str
    samples_per_epoch: int
    val_rows: int
    mirror: float
    no_detections: float
    fit: dict[str, Any]
    forms: dict[Described, Form] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_form_is_whole(self) -> Params:
        for form in self.forms:
            self.of(form)
        return self

    def of(self, form: Described) -> TrainingParams:
        """The parameters of one form's training."""
        own = self.forms[form].model_dump()
        shared = self.model_dump(exclude={"forms", "fit"})
        plan = {**self.fit, "phases": own.pop("phases")}
        return TrainingParams.model_validate(
            {**shared, **own, "form": form, "fit": plan, "window_s": (0.0,), "linear": None}
        )


class Named(Observer):
    """What one form's training observes, under the form's name; its work is kept with that of the others."""

    def __init__(self, observe: Observer, form: str) -> None:
        super().__init__(observe.scratch, observe.key, echo=False)
        self._whole, self._form = observe, form

    def __call__(self, step: int, **metrics: float) -> None:
        self._whole(step, **{f"{self._form}_{name}": value for name, value in metrics.items()})


def run(params: Params, packed: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write a model folder a form. Metrics carry the form's name before them."""
    from stages.pose.model.training import train

    data, metrics = Packed.open(packed), dict[str, float]()
    for form in params.forms:
        found = train(params.of(form), data, output / form, Named(observe, form), form)
        metrics |= {f"{form}_{name}": value for name, value in found.items()}
    return metrics


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage pose-train: train a refiner of the chosen form on simulated estimates of the training dancers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from stages.core.model.card import ModelCard, save_model
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.plan import Plan
from stages.pose.body.skeleton import JOINTS
from stages.pose.model import linear
from stages.pose.model.architecture import FORMS, Architecture, Branches, Form
from stages.pose.model.augment import Augmentation
from stages.pose.model.forms import build, inputs_of
from stages.pose.model.labels import Labels
from stages.pose.model.windows import Window, frame_offsets, read_window
from stages.pose.simulation.packed import Packed, PackedRole

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from stages.core.train.trainer import Batch
    from stages.pose.model.objectives import Targets


class Params(StageParams):
    """Parameters of the training.

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
        linear_penalty, linear_rows: of the ridge regression that the linear part starts as, and the rows it
            is fitted on; read by `window`.
        no_detections: chance that a sample comes without its 2D detections, so that the refiner does without.
    """

    section: ClassVar[str] = "pose.train"
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
    linear_penalty: float = Field(gt=0)
    linear_rows: int = Field(ge=1)
    fit: Plan

    @model_validator(mode="after")
    def _the_form_is_whole(self) -> Params:
        problems = []
        if self.form != "window" and self.window_s != (0.0,):
            problems.append(f"it sees one frame: window_s must be [0.0], not {list(self.window_s)}")
        if self.form == "window" and self.turn_deg:
            problems.append(f"a window cannot be turned: turn_deg must be 0, not {self.turn_deg:g}")
        if (self.form == "main") != (self.branches is not None):
            problems.append("branches must be given for main, and for no other form")
        for phase in self.fit.phases:
            if set(phase.weights) != set(losses := FORMS[self.form].losses):
                problems.append(
                    f"phase '{phase.name}': weights must name {', '.join(losses)}, not {list(phase.weights)}"
                )
        if problems:
            raise ValueError(f"form {self.form}: " + "; ".join(problems))
        return self


def run(params: Params, packed: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the model folder (weights.pt, card.json); see `model.forms` for the networks, `model.losses`."""
    import torch

    from stages.core.train import runtime, trainer
    from stages.pose.model.losses import weigh
    from stages.pose.model.objectives import Targets, objective

    device = runtime.prepare(params.device, params.threads, params.seed)
    data = Packed.open(packed)
    train, val = data.role("train"), data.role("val")
    offsets = frame_offsets(params.window_s, data.fps, data.frame_step)
    network = build(params.form, params.model_dump()).to(device)
    n_samples = min(params.samples_per_epoch, len(train))
    stretch = len(train) / n_samples
    augment = Augmentation(params.mirror, params.no_detections, params.turn_deg)
    losses_of = objective(params.form)
    val_rows = linear.spread(val, params.val_rows)
    val_inputs = _tensors(params.form, read_window(val, val_rows, offsets), device)
    val_targets = Targets.of(Labels.read(val, val_rows), params.form, device)
    first = _start(network, params, train, val, offsets)

    def loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        # each sample is drawn anew from its own stretch of the rows
        rows = np.sort((batch.samples + batch.rng.uniform(size=len(batch.samples))) * stretch).astype(
            np.int64
        )
        window, labels = augment(read_window(train, rows, offsets), Labels.read(train, rows), batch.rng)
        inputs = _tensors(params.form, window, device)
        targets = Targets.of(labels, params.form, device)
        parts = losses_of(network, inputs, targets, batch.phase.weights)
        return weigh(parts, batch.phase.weights), parts

    def validate() -> dict[str, float]:
        answer = network(*val_inputs)
        error = (answer[0] - val_targets.pose).cpu()
        return {
            "val_sim_mean_abs_dz_cm": 100 * float(error[..., 2].abs().mean()),
            "val_sim_mpjpe_mm": 1000 * float(error.norm(dim=-1).mean()),
            "val_sim_expected_abs_dz_cm": 100 * float(answer[1].exp().mean()),
            **_angle_error(answer, val_targets),
        }

    groups = _groups(network, params.form)
    fitted = trainer.fit(network, groups, n_samples, loss, validate, params.fit, params.seed, device, observe)
    if params.form == "joint":
        with torch.inference_mode():
            network.mean_abs_dz_m.copy_((network(*val_inputs)[0] - val_targets.pose)[..., 2].abs().mean(0))  # type: ignore[operator, union-attr]
    save_model(output, network, _card(params, data, train, observe.key))
    return {
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "n_rows_train": len(train),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "first_val_sim_mean_abs_dz_cm": first,
        **({f"best_{params.fit.monitor}": fitted.best_value} if params.fit.monitor else {}),
    }


def _start(
    network: nn.Module, params: Params, train: PackedRole, val: PackedRole, offsets: np.ndarray
) -> float:
    """Put a window's network at its linear correction; depth error in cm on val of what training starts from."""
    if params.form == "window":
        from stages.pose.model.refiner import DepthRefiner

        assert isinstance(network, DepthRefiner)
        first = linear.fit(train, val, offsets, (params.linear_penalty,), params.linear_rows)
        network.start_from(first.weights, first.constant)
        return first.val_abs_dz_cm
    rows = linear.spread(val, params.val_rows)  # the described forms start as the identity
    return 100 * float(np.abs(val["sim_pose"][rows] - val["gt_pose"][rows])[..., 2].mean())


def _groups(network: nn.Module, form: Form) -> dict[str, nn.Module]:
    """The parts of the network that phases give learning rates to."""
    names = FORMS[form].groups
    return {name: network if name == "network" else getattr(network, name) for name in names}


def _angle_error(answer: tuple[Tensor, ...], targets: Targets) -> dict[str, float]:
    from stages.pose.model.losses import angle_loss

    angles = getattr(answer, "angles", None)
    if angles is None:
        return {}
    return {"val_sim_mean_angle_error_deg": float(angle_loss(angles, targets.angles, targets.angle_weight))}


def _tensors(form: Form, window: Window, device: torch.device) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(array).to(device) for array in inputs_of(form, window))


def _card(params: Params, data: Packed, train: PackedRole, key: str) -> ModelCard:
    """The card also holds what `evaluate_folder` needs to make the same kind of input from other folders."""
    inherited = {name: data.manifest[name] for name in ("estimator", "frame_step", "max_gap", "role_policy")}
    # `architecture` says the form; what only other forms read is no fact of a window's model.
    idle = {"form", "branches", "turn_deg"} if params.form == "window" else {"form"}
    return ModelCard(
        lane="pose",
        dataset=data.manifest["name"],
        architecture=FORMS[params.form].architecture,
        key=key,
        params={**params.model_dump(mode="json", exclude=idle), **inherited},
        input=None,
        schema=JOINTS,
        n_train=train.views["sequence"].nunique(),
        split_sha256=data.manifest["split_sha256"],
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

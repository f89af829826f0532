"""Training of a refiner of any form on the packed set; see `forms` for the networks and `losses`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.model.card import ModelCard, save_model
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train.trainer import Batch
from stages.pose.body.skeleton import JOINTS
from stages.pose.model import linear
from stages.pose.model.architecture import FORMS, Form
from stages.pose.model.augment import Augmentation
from stages.pose.model.forms import build, inputs_of
from stages.pose.model.labels import Labels
from stages.pose.model.losses import angle_loss, weigh
from stages.pose.model.objectives import Targets, objective
from stages.pose.model.refiner import DepthRefiner
from stages.pose.model.settings import TrainingParams
from stages.pose.model.windows import Window, frame_offsets, read_window
from stages.pose.simulation.packed import Packed, PackedRole


def train(
    params: TrainingParams, data: Packed, output: Path, observe: Observer, name: str
) -> dict[str, float]:
    """Train on the role train, choose the epoch on val, and write the model folder (weights.pt, card.json).

    Args:
        name: tells apart several trainings of one stage.
    Returns:
        Metrics of the training.
    """
    device = runtime.prepare(params.device, params.threads, params.seed)
    role, val = data.role("train"), data.role("val")
    offsets = frame_offsets(params.window_s, data.fps, data.frame_step)
    network = build(params.form, params.model_dump()).to(device)
    n_samples = min(params.samples_per_epoch, len(role))
    stretch = len(role) / n_samples
    augment = Augmentation(params.mirror, params.no_detections, params.turn_deg)
    losses_of = objective(params.form)
    val_rows = linear.spread(val, params.val_rows)
    val_inputs = _tensors(params.form, read_window(val, val_rows, offsets), device)
    val_targets = Targets.of(Labels.read(val, val_rows), params.form, device)
    first = _start(network, params, role, val, offsets)

    def loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        # each sample is drawn anew from its own stretch of the rows
        rows = np.sort((batch.samples + batch.rng.uniform(size=len(batch.samples))) * stretch).astype(
            np.int64
        )
        window, labels = augment(read_window(role, rows, offsets), Labels.read(role, rows), batch.rng)
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
    fitted = trainer.fit(
        network, groups, n_samples, loss, validate, params.fit, params.seed, device, observe, name
    )
    if params.form == "joint":
        with torch.inference_mode():
            network.mean_abs_dz_m.copy_((network(*val_inputs)[0] - val_targets.pose)[..., 2].abs().mean(0))  # type: ignore[operator, union-attr]
    save_model(output, network, _card(params, data, role, observe.key))
    return {
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "n_rows_train": len(role),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "first_val_sim_mean_abs_dz_cm": first,
        **({f"best_{params.fit.monitor}": fitted.best_value} if params.fit.monitor else {}),
    }


def _start(
    network: nn.Module, params: TrainingParams, train: PackedRole, val: PackedRole, offsets: np.ndarray
) -> float:
    """Put a window's network at its linear correction; depth error in cm on val of what training starts from."""
    if params.linear is not None:
        assert isinstance(network, DepthRefiner)
        first = linear.fit(train, val, offsets, (params.linear.penalty,), params.linear.rows)
        network.start_from(first.weights, first.constant)
        return first.val_abs_dz_cm
    rows = linear.spread(val, params.val_rows)  # the described forms start as the identity
    return 100 * float(np.abs(val["sim_pose"][rows] - val["gt_pose"][rows])[..., 2].mean())


def _groups(network: nn.Module, form: Form) -> dict[str, nn.Module]:
    """The parts of the network that phases give learning rates to."""
    names = FORMS[form].groups
    return {name: network if name == "network" else getattr(network, name) for name in names}


def _angle_error(answer: tuple[Tensor, ...], targets: Targets) -> dict[str, float]:
    angles = getattr(answer, "angles", None)
    if angles is None:
        return {}
    return {"val_sim_mean_angle_error_deg": float(angle_loss(angles, targets.angles, targets.angle_weight))}


def _tensors(form: Form, window: Window, device: torch.device) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array).to(device) for array in inputs_of(form, window))


def _card(params: TrainingParams, data: Packed, train: PackedRole, key: str) -> ModelCard:
    """The card also holds what `evaluate_folder` needs to make the same kind of input from other folders."""
    kept = ("estimator", "frame_step", "max_gap", "acclaim_rate", "role_policy")
    # `architecture` says the form; what only other forms read is no fact of a window's model.
    idle = {"form", "branches", "turn_deg"} if params.form == "window" else {"form", "linear"}
    return ModelCard(
        lane="pose",
        dataset=data.manifest["name"],
        architecture=FORMS[params.form].architecture,
        key=key,
        params={
            **params.model_dump(mode="json", exclude=idle),
            **{name: data.manifest[name] for name in kept},
        },
        input=None,
        schema=JOINTS,
        n_train=train.views["sequence"].nunique(),
        split_sha256=data.manifest["split_sha256"],
    )

"""Stage pose-train: train the depth refiner on simulated estimates of the training dancers."""

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
from stages.pose.body.skeleton import JOINTS, mirror_pose
from stages.pose.model import linear
from stages.pose.model.architecture import LOSSES, Architecture
from stages.pose.model.inference import ARCHITECTURE, build_network
from stages.pose.model.windows import Window, frame_offsets, mirror_window, read_window
from stages.pose.simulation.packed import Packed, PackedRole

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.core.train.trainer import Batch


class Params(StageParams):
    """Parameters of the training.

    Attributes:
        window_s: times of a window's frames relative to the one that is corrected, seconds; 0 among them.
        samples_per_epoch: drawn evenly over the training rows: frames in a row are nearly the same.
        val_rows: validation looks at so many rows at most, evenly spread.
        mirror: chance that a sample is mirrored.
        linear_penalty, linear_rows: of the ridge regression that the linear part starts as, and the rows it
            is fitted on.
        no_detections: chance that a sample comes without its 2D detections, so that the refiner does without.
    """

    section: ClassVar[str] = "pose.train"
    seed: int
    threads: int
    device: str
    architecture: Architecture
    window_s: tuple[float, ...]
    samples_per_epoch: int = Field(ge=1)
    val_rows: int = Field(ge=1)
    mirror: float = Field(ge=0, le=1)
    no_detections: float = Field(ge=0, le=1)
    linear_penalty: float = Field(gt=0)
    linear_rows: int = Field(ge=1)
    fit: Plan

    @model_validator(mode="after")
    def _phases_weigh_the_losses(self) -> Params:
        for phase in self.fit.phases:
            if set(phase.weights) != set(LOSSES):
                raise ValueError(
                    f"phase '{phase.name}': weights must name {', '.join(LOSSES)}, not {list(phase.weights)}"
                )
        return self


def run(params: Params, packed: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the model folder (weights.pt, card.json); see `model.refiner` for the network and its losses."""
    import torch

    from stages.core.train import runtime, trainer
    from stages.pose.model.refiner import losses

    device = runtime.prepare(params.device, params.threads, params.seed)
    data = Packed.open(packed)
    train, val = data.role("train"), data.role("val")
    offsets = frame_offsets(params.window_s, data.fps, data.frame_step)
    network = build_network(params.model_dump()).to(device)
    n_samples = min(params.samples_per_epoch, len(train))
    stretch = len(train) / n_samples
    first = linear.fit(train, val, offsets, (params.linear_penalty,), params.linear_rows)
    network.start_from(first.weights, first.constant)

    def loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        # each sample is drawn anew from its own stretch of the rows
        rows = np.sort((batch.samples + batch.rng.uniform(size=len(batch.samples))) * stretch).astype(
            np.int64
        )
        window, truth = _augment(read_window(train, rows, offsets), train["gt_pose"][rows], params, batch.rng)
        refined, log_scale = network(*_tensors(window, device))
        parts = losses(refined, log_scale, torch.from_numpy(truth).to(device))
        total = torch.stack([batch.phase.weights[name] * part for name, part in parts.items()]).sum()
        return total, parts

    val_window, val_truth = _fixed_rows(val, params.val_rows, offsets)

    def validate() -> dict[str, float]:
        refined, log_scale = network(*_tensors(val_window, device))
        error = (refined - torch.from_numpy(val_truth).to(device)).cpu()
        depth = error[..., 2].abs()
        return {
            "val_sim_mean_abs_dz_cm": 100 * float(depth.mean()),
            "val_sim_mpjpe_mm": 1000 * float(error.norm(dim=-1).mean()),
            "val_sim_expected_abs_dz_cm": 100 * float(log_scale.exp().mean()),
        }

    groups = {"linear": network.linear, "tokens": network.tokens}
    fitted = trainer.fit(network, groups, n_samples, loss, validate, params.fit, params.seed, device, observe)
    save_model(output, network, _card(params, data, train, observe.key))
    return {
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "n_rows_train": len(train),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "first_val_sim_mean_abs_dz_cm": first.val_abs_dz_cm,
        "best_val_sim_mean_abs_dz_cm": fitted.best_value,
    }


def _augment(
    window: Window, truth: np.ndarray, params: Params, rng: np.random.Generator
) -> tuple[Window, np.ndarray]:
    """Mirror some samples, label included, and take the 2D detections from some."""
    blind = rng.uniform(size=len(truth)) < params.no_detections
    seen = np.where(blind[:, None, None, None], window.pose[..., :2], window.seen)
    window = Window(window.pose, window.visibility, seen)
    mirrored = rng.uniform(size=len(truth)) < params.mirror
    other = mirror_window(window)
    chosen = Window(
        *(
            np.where(mirrored.reshape(-1, *[1] * (a.ndim - 1)), b, a)
            for a, b in (
                (window.pose, other.pose),
                (window.visibility, other.visibility),
                (window.seen, other.seen),
            )
        )
    )
    return chosen, np.where(mirrored[:, None, None], mirror_pose(truth), truth)


def _fixed_rows(role: PackedRole, max_rows: int, offsets: np.ndarray) -> tuple[Window, np.ndarray]:
    rows = linear.spread(role, max_rows)
    return read_window(role, rows, offsets), np.asarray(role["gt_pose"][rows])


def _tensors(window: Window, device: torch.device) -> list[Tensor]:
    import torch

    return [torch.from_numpy(array).to(device) for array in (window.pose, window.visibility, window.seen)]


def _card(params: Params, data: Packed, train: PackedRole, key: str) -> ModelCard:
    """The card also holds what `evaluate_folder` needs to make the same kind of input from other folders."""
    inherited = {name: data.manifest[name] for name in ("estimator", "frame_step", "max_gap", "role_policy")}
    return ModelCard(
        lane="pose",
        dataset=data.manifest["name"],
        architecture=ARCHITECTURE,
        key=key,
        params={**params.model_dump(mode="json"), **inherited},
        input=None,
        schema=JOINTS,
        n_train=train.views["sequence"].nunique(),
        split_sha256=data.manifest["split_sha256"],
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

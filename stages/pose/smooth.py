"""Stage pose-smooth: train a floor that smooths estimates over time; see `smoothing.network` for what it is."""

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
from stages.pose.simulation.packed import Packed, PackedRole
from stages.pose.smoothing.architecture import LOSSES, Sizes
from stages.pose.smoothing.inference import ARCHITECTURE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.core.train.trainer import Batch


class Params(StageParams):
    """Parameters of the smoothing network.

    Attributes:
        stride: frames between the starts of two windows when it is used.
        windows_per_epoch: drawn evenly over the training rows: windows that overlap are nearly the same.
        val_windows: validation looks at so many at most, evenly spread.
    """

    section: ClassVar[str] = "pose.smooth"
    seed: int
    threads: int
    device: str
    sizes: Sizes
    stride: int = Field(ge=1)
    windows_per_epoch: int = Field(ge=1)
    val_windows: int = Field(ge=1)
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
    """Write the model folder (weights.pt, card.json)."""
    import torch

    from stages.core.train import runtime, trainer
    from stages.pose.smoothing.network import SmoothingNetwork, losses

    device = runtime.prepare(params.device, params.threads, params.seed)
    data = Packed.open(packed)
    train, val = data.role("train"), data.role("val")
    network = SmoothingNetwork(params.sizes).to(device)
    n_windows = min(params.windows_per_epoch, len(train))
    stretch = len(train) / n_windows

    def loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        # each window starts somewhere in its own stretch of the rows
        starts = ((batch.samples + batch.rng.uniform(size=len(batch.samples))) * stretch).astype(np.int64)
        rows = window_rows(train, starts, params.sizes.frames, data.frame_step)
        given, truth = (_series(train[name], rows, device) for name in ("sim_pose", "gt_pose"))
        parts = losses(network(given), truth)
        total = torch.stack([batch.phase.weights[name] * part for name, part in parts.items()]).sum()
        return total, parts

    spread = np.arange(0, len(val), -(-len(val) // params.val_windows))
    val_rows = window_rows(val, spread, params.sizes.frames, data.frame_step)
    val_given, val_truth = (_series(val[name], val_rows, device) for name in ("sim_pose", "gt_pose"))

    def figures(smoothed: Tensor) -> dict[str, float]:
        error = (smoothed - val_truth).unflatten(1, (len(JOINTS), 3))  # (W, 17, 3, T)
        second = error[..., 2:] - 2 * error[..., 1:-1] + error[..., :-2]
        return {
            "val_sim_mean_abs_dz_cm": 100 * float(error[:, :, 2].abs().mean()),
            "val_sim_mpjpe_mm": 1000 * float(error.norm(dim=2).mean()),
            "val_sim_acceleration_error_mm": 1000 * float(second.norm(dim=2).mean()),
        }

    fitted = trainer.fit(
        network,
        {"network": network},
        n_windows,
        loss,
        lambda: figures(network(val_given)),
        params.fit,
        params.seed,
        device,
        observe,
    )
    save_model(output, network, _card(params, data, train, observe.key))
    with torch.inference_mode():
        after = figures(network(val_given))
    return {
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "n_rows_train": len(train),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        **{f"before_{name}": value for name, value in figures(val_given).items()},
        **after,
    }


def window_rows(role: PackedRole, starts: np.ndarray, frames: int, frame_step: int) -> np.ndarray:
    """(B, T) rows of windows that start at `starts` (B,), or earlier where the view ends too soon."""
    first, n_rows = (role.views[name].to_numpy() for name in ("first_row", "n_rows"))
    view = np.searchsorted(first, starts, side="right") - 1
    fitting = np.maximum(np.minimum(starts, first[view] + n_rows[view] - frames), first[view])
    return role.neighbours(fitting, np.arange(frames) * frame_step)


def _series(column: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
    """(B, 51, T) coordinates over time of the rows (B, T) of a column of poses."""
    import torch

    flat, where = np.unique(rows, return_inverse=True)
    poses = np.asarray(column[flat])[where.reshape(rows.shape)]  # (B, T, 17, 3)
    series = np.ascontiguousarray(poses.reshape(*rows.shape, -1).swapaxes(1, 2))
    return torch.from_numpy(series).to(device)


def _card(params: Params, data: Packed, train: PackedRole, key: str) -> ModelCard:
    return ModelCard(
        lane="pose",
        dataset=data.manifest["name"],
        architecture=ARCHITECTURE,
        key=key,
        params=params.model_dump(mode="json"),
        input=None,
        schema=JOINTS,
        n_train=train.views["sequence"].nunique(),
        split_sha256=data.manifest["split_sha256"],
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

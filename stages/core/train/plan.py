"""How a network is trained, as data: optimiser settings and a list of phases."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Schedule = Literal["constant", "cosine", "one-cycle"]


class Phase(BaseModel):
    """A stretch of training with its own learning rates and loss weights. It starts with a fresh optimiser.

    Attributes:
        name: for messages.
        epochs: at most this many.
        rates: peak learning rate of each parameter group; 0 freezes the group: its parameters and its
            running statistics stand still.
        weights: weights of the lane's losses, for the lane to read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    epochs: int = Field(ge=1)
    rates: dict[str, float]
    weights: dict[str, float]

    @model_validator(mode="after")
    def _something_learns(self) -> Phase:
        if min(self.rates.values(), default=0.0) < 0 or not any(self.rates.values()):
            raise ValueError(f"phase '{self.name}': rates must be >= 0 and one of them > 0, not {self.rates}")
        return self


class Plan(BaseModel):
    """Settings of `trainer.fit`, embedded in a lane's params.

    Attributes:
        batch_size: samples a step. The last incomplete batch of an epoch is left out.
        weight_decay: AdamW's.
        schedule: course of the learning rates within a phase.
        warmup: share of a phase in which `one-cycle` rises.
        clip_norm: the gradient is scaled down to this norm; 0 leaves it alone.
        ema_decay: the validated and kept weights are this exponential moving average; 0: the plain ones.
        patience: a phase ends after this many epochs in a row without a better `monitor`; 0 never does.
        monitor: the validation metric, lower is better, whose best epoch is kept; "" keeps the last epoch.
        precision: of the forward pass.
        checkpoint_every: epochs between two checkpoints.
        phases: run in this order, each from the best weights so far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(ge=1)
    weight_decay: float = Field(ge=0)
    schedule: Schedule
    warmup: float = Field(ge=0, le=1)
    clip_norm: float = Field(ge=0)
    ema_decay: float = Field(ge=0, lt=1)
    patience: int = Field(ge=0)
    monitor: str
    precision: Literal["float32", "bfloat16"]
    checkpoint_every: int = Field(ge=1)
    phases: tuple[Phase, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _patience_needs_a_monitor(self) -> Plan:
        if self.patience and not self.monitor:
            raise ValueError("patience needs a monitor: name a validation metric, or set patience to 0")
        return self


def rate_factor(schedule: Schedule, progress: float, warmup: float) -> float:
    """Learning rate at `progress` in [0, 1] of a phase, as a share of its peak.

    `one-cycle` rises on a half cosine from 1/25 to 1 during `warmup`, then falls on one to 1e-4 (Smith and
    Topin, 2019, with the defaults of its common implementations); `cosine` only falls.
    """
    low, end = 1 / 25, 1e-4
    if schedule == "constant":
        return 1.0
    if schedule == "one-cycle" and progress < warmup:
        return 1.0 + (low - 1.0) * _half_cosine(progress / warmup)
    start = warmup if schedule == "one-cycle" else 0.0
    return end + (1.0 - end) * _half_cosine((progress - start) / (1.0 - start) if start < 1 else 1.0)


def _half_cosine(progress: float) -> float:
    """1 at 0, falling smoothly to 0 at 1."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)

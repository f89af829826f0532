"""Everything of a training run that changes, and its file: written whole or not at all."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.core.stage import Observer

Weights = dict[str, Tensor]


def copy_weights(model: nn.Module) -> Weights:
    """Parameters and buffers of `model`, detached from it."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@dataclass
class Progress:
    """The state of a fit between two epochs.

    Attributes:
        weights: those that training goes on from.
        average: their running average, or None where the plan keeps the plain ones.
        optimiser: state of the phase's optimiser; None at the start of a phase.
        phase, epoch_in_phase: where to go on; `epoch` and `steps` count over all phases.
        best, best_value, best_epoch: the best weights so far by the monitored metric.
        stale_epochs: epochs of this phase since the last better one.
        history: (epoch, metrics) of every epoch.
    """

    weights: Weights
    average: Weights | None
    optimiser: dict[str, Any] | None
    phase: int
    epoch_in_phase: int
    epoch: int
    steps: int
    best: Weights | None
    best_value: float
    best_epoch: int
    stale_epochs: int
    history: list[tuple[int, dict[str, float]]]

    @classmethod
    def start(cls, model: nn.Module, with_average: bool) -> Progress:
        weights = copy_weights(model)
        average = copy_weights(model) if with_average else None
        return cls(weights, average, None, 0, 0, 0, 0, None, math.nan, 0, 0, [])

    def record(self, epoch: int, metrics: dict[str, float], monitor: str, model: nn.Module) -> None:
        """Take in a finished epoch; a monitored value below all earlier ones makes its weights the best."""
        self.epoch, self.epoch_in_phase = epoch, self.epoch_in_phase + 1
        self.history.append((epoch, metrics))
        self.stale_epochs += 1
        if monitor and (math.isnan(self.best_value) or metrics[monitor] < self.best_value):
            self.best = self._keepable(model)
            self.best_value, self.best_epoch, self.stale_epochs = metrics[monitor], epoch, 0

    def next_phase(self, monitor: str, model: nn.Module) -> None:
        """Begin the next phase from the kept weights of the finished one."""
        kept = self.best if monitor and self.best is not None else self._keepable(model)
        self.weights = {name: value.clone() for name, value in kept.items()}
        if self.average is not None:
            self.average = {name: value.clone() for name, value in self.weights.items()}
        self.optimiser, self.phase, self.epoch_in_phase, self.stale_epochs = None, self.phase + 1, 0, 0

    def to(self, device: torch.device) -> Progress:
        """Move what training changes in place; the rest may lie anywhere."""
        if self.average is not None:
            self.average = {name: value.to(device) for name, value in self.average.items()}
        return self

    def kept(self, monitor: str) -> Weights:
        """The weights that a finished fit is about: the best ones, or the last where nothing is monitored."""
        return self.best if monitor and self.best is not None else self.weights

    def _keepable(self, model: nn.Module) -> Weights:
        if self.average is None:
            return copy_weights(model)
        return {name: value.clone() for name, value in self.average.items()}


class Store:
    """The checkpoint file of one fit in the observer's scratch folder.

    Outside DVC (key "untracked") nothing is read or written.
    """

    def __init__(self, observe: Observer, name: str, fingerprint: str) -> None:
        self._file: Path | None = None
        if observe.key != "untracked":
            self._file = observe.scratch / f"{name}.pt"
        self._fingerprint = fingerprint

    def load(self) -> Progress | None:
        """The saved progress, on the CPU, or None where there is none or it belongs to another plan, model or seed."""
        if self._file is None or not self._file.is_file():
            return None
        saved = torch.load(self._file, map_location="cpu", weights_only=True)
        if saved.pop("fingerprint") != self._fingerprint:
            return None
        return Progress(**saved)

    def save(self, progress: Progress) -> None:
        """Replace the file; a kill at any moment leaves the old or the new one."""
        if self._file is None:
            return
        state = {f.name: getattr(progress, f.name) for f in fields(progress)}
        buffer = io.BytesIO()
        torch.save(state | {"fingerprint": self._fingerprint}, buffer)
        partial = self._file.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._file)

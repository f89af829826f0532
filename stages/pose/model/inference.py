"""A trained refiner of any form in use: model folder -> corrected poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, load_weights
from stages.pose.body.skeleton import SWAP, mirror_pose
from stages.pose.model.architecture import FORMS, Form, form_of
from stages.pose.model.forms import build, inputs_of
from stages.pose.model.windows import Window, frame_offsets, mirror_window, read_window
from stages.pose.simulation.packed import PackedRole

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Refiner:
    """A loaded model."""

    network: nn.Module
    card: ModelCard
    form: Form
    batch: int = 2048

    @classmethod
    def load(cls, folder: Path, threads: int) -> Refiner:
        """Open a model folder on the CPU.

        Raises:
            StageError: if it holds another kind of model.
        """
        import torch

        card = load_card(folder)
        form = form_of(card.architecture)
        if form is None:
            expected = ", ".join(facts.architecture for facts in FORMS.values())
            raise StageError(
                f"{folder} holds a {card.architecture} of lane {card.lane}; expected one of {expected}"
            )
        torch.set_num_threads(threads)
        network = build(form, card.params)
        network.load_state_dict(load_weights(folder))
        return cls(network.eval(), card, form)

    def offsets(self, fps: float, frame_step: int = 1) -> np.ndarray:
        """The window's offsets (K,) in frame numbers."""
        return frame_offsets(tuple(self.card.params["window_s"]), fps, frame_step)

    def refine(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Corrected poses (B, 17, 3) in metres and expected absolute depth errors (B, 17) in metres.

        Mean of the answers to the window and to its mirror image.
        """
        pose, scale = self._run(window)
        mirrored_pose, mirrored_scale = self._run(mirror_window(window))
        return (pose + mirror_pose(mirrored_pose)) / 2, (scale + mirrored_scale[:, SWAP]) / 2

    def refine_rows(
        self, role: PackedRole, rows: np.ndarray, fps: float, frame_step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`refine` of packed rows (B,), some at a time."""
        offsets = self.offsets(fps, frame_step)
        parts = [
            self.refine(read_window(role, rows[start : start + self.batch], offsets))
            for start in range(0, len(rows), self.batch)
        ]
        poses, scales = zip(*parts, strict=True)
        return np.concatenate(poses), np.concatenate(scales)

    def _run(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        import torch

        with torch.inference_mode():
            answer = self.network(*(torch.from_numpy(array) for array in inputs_of(self.form, window)))
        return answer[0].numpy(), answer[1].exp().numpy()

"""A trained smoothing network in use: views of packed rows -> smoothed poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card, load_weights
from stages.pose.body.frames import root_relative
from stages.pose.simulation.packed import PackedRole
from stages.pose.smoothing.architecture import Sizes

if TYPE_CHECKING:
    from stages.pose.smoothing.network import SmoothingNetwork

ARCHITECTURE = "smoothing-network"


@dataclass(frozen=True)
class Smoother:
    """A loaded model.

    Attributes:
        stride: frames between the starts of two windows; where windows overlap, their mean counts.
    """

    network: SmoothingNetwork
    card: ModelCard
    stride: int

    @classmethod
    def load(cls, folder: Path, threads: int) -> Smoother:
        """Open a model folder on the CPU.

        Raises:
            StageError: if it holds another kind of model.
        """
        import torch

        from stages.pose.smoothing.network import SmoothingNetwork

        card = load_card(folder)
        if card.architecture != ARCHITECTURE:
            raise StageError(
                f"{folder} holds a {card.architecture} of lane {card.lane}; expected a {ARCHITECTURE}"
            )
        torch.set_num_threads(threads)
        network = SmoothingNetwork(Sizes(**card.params["sizes"]))
        network.load_state_dict(load_weights(folder))
        return cls(network.eval(), card, int(card.params["stride"]))

    @property
    def frames(self) -> int:
        """T, frames in a window."""
        return int(self.card.params["sizes"]["frames"])

    def predict(self, role: PackedRole, rows: np.ndarray, frame_step: int) -> np.ndarray:
        """Smoothed poses (B, 17, 3) in metres, root-relative, of packed rows (B,); their views are smoothed whole.

        Where frames were left out, the one before stands in, as everywhere (`PackedRole.neighbours`).
        """
        first, n_rows = (role.views[name].to_numpy() for name in ("first_row", "n_rows"))
        view = np.searchsorted(first, rows, side="right") - 1
        smoothed = np.empty((len(rows), *role["sim_pose"].shape[1:]), np.float32)
        for k in np.unique(view):
            frames = np.asarray(role["frame"][first[k] : first[k] + n_rows[k]])
            steps = np.arange(0, frames[-1] - frames[0] + 1, frame_step)
            evenly = role.neighbours(first[k : k + 1], steps)[0]
            whole = self.smooth(np.asarray(role["sim_pose"][evenly]))
            wanted = view == k
            smoothed[wanted] = whole[(frames[rows[wanted] - first[k]] - frames[0]) // frame_step]
        return smoothed

    def smooth(self, poses: np.ndarray) -> np.ndarray:
        """Smoothed poses (n, 17, 3) of frames in a row, root-relative; a short view is lengthened by its last."""
        import torch

        n, t = len(poses), self.frames
        lengthened = np.concatenate([poses, np.repeat(poses[-1:], max(0, t - n), axis=0)])
        series = lengthened.reshape(len(lengthened), -1).astype(np.float32)
        last = len(series) - t
        starts = np.unique([*range(0, last, self.stride), last])
        windows = np.stack([series[start : start + t].T for start in starts])  # (W, 51, T)
        with torch.inference_mode():
            answers = self.network(torch.from_numpy(windows)).numpy()
        total, count = np.zeros_like(series), np.zeros((len(series), 1), np.float32)
        for start, answer in zip(starts, answers, strict=True):
            total[start : start + t] += answer.T
            count[start : start + t] += 1
        return root_relative((total / count)[:n].reshape(poses.shape))

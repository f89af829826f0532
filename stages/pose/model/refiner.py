"""The depth refiner: a small network that corrects estimated poses, joint by joint, and says how sure it is.

A linear map of the window makes the first guess (it starts as the ridge regression of `linear`). Then each
joint becomes a token made of its own window in time (estimate, visibility, 2D detection, and how they
disagree) and of that guess; attention across the seventeen tokens lets joints correct each other. The last
layer starts at zero, so that training starts from the linear correction.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from stages.pose.body.skeleton import HIPS, N_JOINTS, PARENT
from stages.pose.model.architecture import Architecture

_PER_FRAME = 15
"""What a joint's token holds of each frame; see `_joint_features`."""


class JointTokens(nn.Module):
    """What a joint's window shows, (B, 17, F) -> (B, 17, 4) corrections, by attention across the joints."""

    def __init__(self, architecture: Architecture, n_features: int) -> None:
        super().__init__()
        width = architecture.width
        self.embed = nn.Sequential(nn.Linear(n_features, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.joint = nn.Parameter(torch.zeros(N_JOINTS, width).normal_(std=0.1))
        layer = nn.TransformerEncoderLayer(
            width,
            architecture.heads,
            2 * width,
            architecture.dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        self.attend = nn.TransformerEncoder(
            layer, architecture.layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.attend(self.embed(features) + self.joint))


class DepthRefiner(nn.Module):
    """Windows of estimates -> corrected pose of one of their frames, and the scale of its depth errors.

    Args:
        architecture: sizes.
        n_frames: K, frames in a window.
        centre: which of them is corrected.
    """

    def __init__(self, architecture: Architecture, n_frames: int, centre: int) -> None:
        super().__init__()
        self.centre = centre
        self.linear = nn.Linear(n_frames * N_JOINTS * 6, N_JOINTS * 3)
        self.tokens = JointTokens(architecture, n_frames * _PER_FRAME + 3)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def start_from(self, weights: np.ndarray, constant: np.ndarray) -> None:
        """Let the linear part be weights (F, 51) and constant (51,) of `linear.LinearCorrection`."""
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(weights.T))
            self.linear.bias.copy_(torch.from_numpy(constant))

    def forward(self, pose: Tensor, visibility: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            pose: (B, K, 17, 3); visibility: (B, K, 17); seen: (B, K, 17, 2); see `windows.Window`.
        Returns:
            Pose (B, 17, 3) in metres, camera frame, root-relative, and the log (B, 17) of the expected
            absolute depth error in metres (the scale of a Laplace distribution).
        """
        flat = torch.cat([pose.flatten(1), visibility.flatten(1), seen.flatten(1)], dim=1)
        guess = pose[:, self.centre] + self.linear(flat).unflatten(1, (N_JOINTS, 3))
        own = _joint_features(pose, visibility, seen).transpose(1, 2).flatten(2)  # (B, 17, 15 K)
        out = self.tokens(torch.cat([own, guess], dim=-1) / _TYPICAL_LENGTH)
        refined = guess + _TYPICAL_ERROR * out[..., :3]
        refined = refined - (refined[:, HIPS[0]] + refined[:, HIPS[1]])[:, None] / 2
        return refined, math.log(_TYPICAL_ERROR) + out[..., 3]


def _joint_features(pose: Tensor, visibility: Tensor, seen: Tensor) -> Tensor:
    """(B, K, 17, 15): estimate, visibility, detection and their disagreement; and of the bone that leads to
    the joint the estimated and the detected vector and their lengths: how much depth it must hide."""
    bone, seen_bone = pose - pose[..., PARENT, :], seen - seen[..., PARENT, :]
    lengths = [(vector.square().sum(-1, keepdim=True) + 1e-6).sqrt() for vector in (bone, seen_bone)]
    parts = [pose, visibility[..., None], seen, seen - pose[..., :2], bone, seen_bone, *lengths]
    return torch.cat(parts, dim=-1)


_TYPICAL_LENGTH = 0.25
_TYPICAL_ERROR = 0.1
"""Metres; they bring what goes into the tokens and what comes out of them to about unit size."""

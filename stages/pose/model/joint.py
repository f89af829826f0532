"""The joint constraint refiner: twelve joints' angles, corrected together along the body's chain.

Each joint is a token of its three angles (as a share of a half turn, sine and cosine) and its visibility.
Attention is biased towards neighbours in the chain by one learnable number a layer, and away from joints that
are badly seen. A head of its own for each joint gives the change in degrees; heads start at zero, so that
training starts from the identity. Angles that seventeen joints cannot tell are never trained on and stay as
they are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.pose.body.skeleton import N_JOINTS
from stages.pose.model.architecture import Architecture
from stages.pose.model.attention import Block, EachItsOwn
from stages.pose.model.forward import N_CHAIN, chain_links, move

_UNSEEN = 10.0
"""How much less an unseen joint is attended to, in log units."""
_TYPICAL_ERROR_DEG = 10.0
"""Brings what the heads give to about unit size."""


class JointAnswer(NamedTuple):
    """pose (B, 17, 3) metres with its joints at the refined angles; log_scale (B, 17) of |dz| in metres, the
    same for every pose; angles (B, 12, 3) refined, degrees."""

    pose: Tensor
    log_scale: Tensor
    angles: Tensor


class ChainBlock(Block):
    """A block whose attention leans towards neighbours in the chain."""

    links: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture, nn.GELU)
        self.chain = nn.Parameter(torch.ones(()))
        self.register_buffer("links", torch.from_numpy(chain_links()), persistent=False)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        chain = self.chain * self.links
        return super().forward(tokens, chain if bias is None else chain + bias)


class JointConstraintRefiner(nn.Module):
    """See the module's docstring. 916,456 parameters at the described size (128 wide, 4 layers, 4 heads)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.encode_angles = nn.Linear(9, width)
        self.encode_visibility = nn.Linear(1, width // 4)
        self.join = nn.Linear(width + width // 4, width)
        self.blocks = nn.ModuleList(ChainBlock(architecture) for _ in range(architecture.layers))
        self.heads = nn.Sequential(
            EachItsOwn(N_CHAIN, width, width // 2), nn.ReLU(), EachItsOwn(N_CHAIN, width // 2, 3, zero=True)
        )

    def forward(self, angles: Tensor, visibility: Tensor) -> Tensor:
        """Angles (B, 12, 3) in degrees and visibility (B, 12) -> refined angles (B, 12, 3) in degrees."""
        turns = angles * (math.pi / 180)
        encoded = self.encode_angles(torch.cat([angles / 180, turns.sin(), turns.cos()], -1))
        tokens = self.join(torch.cat([encoded, self.encode_visibility(visibility[..., None])], -1))
        unseen = -_UNSEEN * (1 - visibility)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, unseen)
        return angles + _TYPICAL_ERROR_DEG * self.heads(tokens)


class JointPoseRefiner(nn.Module):
    """A joint constraint refiner as a refiner of poses.

    Angles say nothing of depth errors, so that the expected one is each joint's mean on the validation rows.
    """

    mean_abs_dz_m: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.network = JointConstraintRefiner(architecture)
        self.register_buffer("mean_abs_dz_m", torch.full((N_JOINTS,), 0.1))

    def forward(self, pose: Tensor, angles: Tensor, angle_visibility: Tensor) -> JointAnswer:
        """Pose (B, 17, 3), its angles (B, 12, 3) in degrees and their visibility (B, 12)."""
        refined = self.network(angles, angle_visibility)
        log_scale = self.mean_abs_dz_m.log().expand(pose.shape[0], N_JOINTS)
        return JointAnswer(move(pose, angles, refined), log_scale, refined)

"""The main refiner: a depth branch and a joint branch look at each other, and a gate weighs what they propose.

Its candidates are poses: the depth refiner's, the one whose joints stand at the joint refiner's angles with the
estimate's own bones (`forward.move`), and the estimate plus a free correction. Each joint has a gate of its own
over the three, so that the joint branch acts on the answer as the others do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.pose.body.skeleton import ARMS, HIPS, LEGS, N_JOINTS
from stages.pose.kinematics.segments import SIDES
from stages.pose.model.architecture import Architecture, Branches
from stages.pose.model.attention import Attention, Block
from stages.pose.model.depth import (
    ORIENTED,
    DepthAnswer,
    PoseAwareDepthRefiner,
    joint_codes,
    mlp,
    torso_of,
    zero_last,
)
from stages.pose.model.forward import CHAIN, move
from stages.pose.model.joint import JointConstraintRefiner

_TYPICAL_ERROR = 0.2
"""In torsos; brings differences between poses to about unit size."""
_PARENTS, _CHILDREN = (list(ends) for ends in zip(*ORIENTED, strict=True))


class MainAnswer(NamedTuple):
    """pose (B, 17, 3) metres; log_scale (B, 17) of |dz| in metres; gates (B, 17, 3) and candidates (B, 3, 17, 3),
    each depth, joint, free; what the branches said: depth, and angles (B, 12, 3) in degrees."""

    pose: Tensor
    log_scale: Tensor
    gates: Tensor
    candidates: Tensor
    depth: DepthAnswer
    angles: Tensor


def limb_shares() -> Tensor:
    """(17, 14) that average the directions of limbs onto the joints at their ends; zero rows for the head."""
    shares = torch.zeros(N_JOINTS, len(ORIENTED))
    for i, ends in enumerate(ORIENTED):
        shares[list(ends), i] = 1
    return shares / shares.sum(1, keepdim=True).clamp_min(1)


def chain_places() -> list[int]:
    """(17,) which of the chain's twelve joints each joint hears from; -1 where none bends there."""
    number = {joint.name: i for i, joint in enumerate(CHAIN)}
    places = [-1] * N_JOINTS
    for names, chains in ((("shoulder", "elbow"), ARMS), (("hip", "knee", "ankle"), LEGS)):
        for side, chain in zip(SIDES, chains, strict=True):
            for name, joint in zip(names, chain, strict=False):
                places[joint] = number[f"{side}_{name}"]
    return places


class BranchEncoder(nn.Module):
    """What one branch says of each joint -> tokens (B, 17, width), after attention across the joints."""

    code: Tensor

    def __init__(self, n_features: int, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.embed = mlp(n_features, width, width)
        self.attend = nn.Sequential(*(Block(architecture, nn.GELU) for _ in range(architecture.layers)))
        self.register_buffer("code", joint_codes(N_JOINTS, width), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.attend(self.embed(features) + self.code)


class CrossAttention(nn.Module):
    """Tokens ask those of the other branch."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.norm_own, self.norm_other = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = Attention(architecture)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        return own + self.attend(self.norm_own(own), self.norm_other(other))


class MainRefiner(nn.Module):
    """What the branches found -> answer; 1,210,477 parameters at the described size (128 wide, 2 layers)."""

    shares: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.depth_branch = BranchEncoder(3 + 1 + 3 + 4, architecture)
        self.joint_branch = BranchEncoder(6, architecture)
        self.elsewhere = nn.Parameter(torch.zeros(N_JOINTS, 6).normal_(std=0.02))
        self.ask_joint, self.ask_depth = CrossAttention(architecture), CrossAttention(architecture)
        self.fuse = nn.Sequential(mlp(2 * width, 2 * width, width), nn.ReLU())
        self.encode_raw = mlp(4, width, width)
        self.gate = mlp(2 * width, width, 3)
        self.free = zero_last(mlp(2 * width, 2 * width, 3))
        self.confidence = zero_last(mlp(2 * width, width, 1))
        self.places = chain_places()
        self.register_buffer("shares", limb_shares(), persistent=False)

    def forward(
        self, pose: Tensor, visibility: Tensor, depth: DepthAnswer, given: Tensor, refined: Tensor
    ) -> MainAnswer:
        """
        Args:
            pose: (B, 17, 3) metres and visibility: (B, 17), the estimate.
            depth: the depth branch's answer to it.
            given, refined: (B, 12, 3) degrees, angles of the estimate and what the joint branch made of them.
        """
        torso = torso_of(pose)
        unit = _TYPICAL_ERROR * torso
        ours = self.depth_branch(self._depth_features(pose, depth, unit))
        theirs = self.joint_branch(self._joint_features(given, refined))
        fused = self.fuse(torch.cat([self.ask_joint(ours, theirs), self.ask_depth(theirs, ours)], -1))
        raw = self.encode_raw(torch.cat([pose / torso, visibility[..., None]], -1))
        both = torch.cat([fused, raw], -1)
        gates = self.gate(both).softmax(-1)
        candidates = torch.stack(
            [depth.pose, move(pose, given, refined), pose + unit * self.free(both)], dim=1
        )
        answer = (gates.transpose(1, 2)[..., None] * candidates).sum(1)
        answer = answer - (answer[:, HIPS[0]] + answer[:, HIPS[1]])[:, None] / 2
        log_scale = unit.log()[:, :, 0] + self.confidence(both)[..., 0]
        return MainAnswer(answer, log_scale, gates, candidates, depth, refined)

    def _depth_features(self, pose: Tensor, depth: DepthAnswer, unit: Tensor) -> Tensor:
        """(B, 17, 11): correction, log scale in torsos, mean limb direction, view as sines and cosines."""
        bones = depth.pose[:, _CHILDREN] - depth.pose[:, _PARENTS]
        directions = bones / (bones.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        forward, up, right = depth.view.unbind(1)
        level = (forward.square() + right.square() + 1e-12).sqrt()
        seen_from = torch.stack([right / level, forward / level, up, level], 1)[:, None]
        parts = [
            (depth.pose - pose) / unit,
            (depth.log_scale - unit.log()[:, :, 0])[..., None],
            self.shares @ directions,
            seen_from.expand(-1, N_JOINTS, -1),
        ]
        return torch.cat(parts, dim=-1)

    def _joint_features(self, given: Tensor, refined: Tensor) -> Tensor:
        """(B, 17, 6): refined angles and their change in half turns; learnt ones where nothing bends."""
        angles = torch.cat([refined / 180, (refined - given) / 180], -1)
        learnt = self.elsewhere.expand(given.shape[0], -1, -1)
        columns = [learnt[:, i] if place < 0 else angles[:, place] for i, place in enumerate(self.places)]
        return torch.stack(columns, dim=1)


class MainSystem(nn.Module):
    """The main refiner with its two branches in one model, to be trained in phases."""

    def __init__(self, architecture: Architecture, branches: Branches) -> None:
        super().__init__()
        self.depth = PoseAwareDepthRefiner(branches.depth)
        self.joint = JointConstraintRefiner(branches.joint)
        self.fusion = MainRefiner(architecture)

    def forward(
        self, pose: Tensor, visibility: Tensor, seen: Tensor, angles: Tensor, angle_visibility: Tensor
    ) -> MainAnswer:
        """Pose (B, 17, 3), visibility (B, 17), seen (B, 17, 2); its angles (B, 12, 3) and theirs (B, 12)."""
        depth = self.depth(pose, visibility, seen)
        return self.fusion(pose, visibility, depth, angles, self.joint(angles, angle_visibility))

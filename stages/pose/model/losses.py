"""What the refiners are trained on: one small function a loss, tensors in and a scalar out.

Poses are (B, 17, 3) in metres, camera frame, root-relative. A training phase weighs the losses by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from stages.pose.body.skeleton import ARMS, BONES, LEGS, LIMBS, SWAP

_DEPTH_COUNTS = torch.tensor([1.0, 1.0, 2.0])
"""Depth is what this is about: its errors count twice."""

_GATE_M = 0.02
"""Metres by which a candidate has to be better for its share of the gate to rise e-fold."""

_BEST_SHARE = 0.9


def weigh(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of the losses times their weights."""
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def position_loss(refined: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error over coordinates, depth counted twice; metres."""
    return ((refined - truth).abs() * _DEPTH_COUNTS.to(refined)).mean()


def direction_loss(refined: Tensor, truth: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between refined and true directions of the limbs."""
    parents, children = (list(ends) for ends in zip(*LIMBS, strict=True))
    ours, theirs = (pose[:, children] - pose[:, parents] for pose in (refined, truth))
    return (1 - functional.cosine_similarity(ours, theirs, dim=-1, eps=1e-6)).mean()


def confidence_loss(refined: Tensor, log_scale: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood of the depth errors under a Laplace distribution (up to a constant).

    Each joint is judged by itself, whatever else is in the batch. The pose gets no gradient from it, so that
    giving up on a joint never pays.
    """
    error = (refined[..., 2] - truth[..., 2]).detach().abs()
    return (log_scale + error * torch.exp(-log_scale)).mean()


def lengths(pose: Tensor, bones: tuple[tuple[int, int], ...] = BONES) -> Tensor:
    """(B, len(bones)) lengths in metres."""
    parents, children = (list(ends) for ends in zip(*bones, strict=True))
    return ((pose[:, children] - pose[:, parents]).square().sum(-1) + 1e-12).sqrt()


def bone_loss(refined: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of the twelve bones' lengths, metres."""
    return (lengths(refined) - lengths(truth)).abs().mean()


def symmetry_loss(refined: Tensor, visibility: Tensor) -> Tensor:
    """Mean difference in length of a left limb and its right partner, weighed by how well both are seen."""
    sides = []
    for left, right in (ARMS, LEGS):
        for i in range(2):
            sides.append(((left[i], left[i + 1]), (right[i], right[i + 1])))
    ours, partners = (lengths(refined, tuple(limbs)) for limbs in zip(*sides, strict=True))
    joints = [[*left, *right] for left, right in sides]
    seen = visibility[:, joints].amin(-1)
    return (seen * (ours - partners).abs()).sum() / seen.sum().clamp_min(1e-6)


def variation_loss(refined: Tensor, person: Tensor) -> Tensor:
    """Mean variance (square metres) of bone lengths among the frames of the same person.

    Args:
        refined: poses.
        person: (B,) integers that tell people apart. Who has one frame in the batch counts nothing.
    """
    bones = lengths(refined)
    people, index = torch.unique(person, return_inverse=True)
    count = torch.zeros(len(people), dtype=bones.dtype, device=bones.device)
    count = count.index_add(0, index, torch.ones_like(bones[:, 0]))
    mean = torch.zeros(len(people), bones.shape[1], dtype=bones.dtype, device=bones.device)
    mean = mean.index_add(0, index, bones) / count[:, None]
    several = (count[index] > 1).to(bones)[:, None]
    return (several * (bones - mean[index]).square()).sum() / (several.sum() * bones.shape[1]).clamp_min(1)


def view_loss(view: Tensor, truth: Tensor) -> Tensor:
    """Mean of 1 - cos between given and true unit directions (B, 3) to the camera, body frame."""
    return (1 - (view * truth).sum(-1)).mean()


def distance_loss(log_distance: Tensor, distance_m: Tensor) -> Tensor:
    """Mean absolute error of the logarithm of the camera's distance (B,)."""
    return (log_distance - distance_m.clamp_min(1e-3).log()).abs().mean()


def mirror_loss(refined: Tensor, of_mirrored: Tensor) -> Tensor:
    """Mean distance of the answer and of the mirrored answer to the mirrored input, metres.

    A pose itself may be as lopsided as it likes: only what the model makes of it has to follow the mirror.
    """
    return (refined - _flip(of_mirrored)).abs().mean()


def mirrored(pose: Tensor, visibility: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs (B, 17, 3), (B, 17) and (B, 17, 2) of a frame seen in a mirror: sides change places in all."""
    return _flip(pose), visibility[:, SWAP], _flip(seen)


def _flip(positions: Tensor) -> Tensor:
    """Mirrored positions (B, 17, D) of the camera's frame or of the picture."""
    return torch.cat([-positions[:, SWAP, :1], positions[:, SWAP, 1:]], dim=-1)


def wrapped(degrees: Tensor) -> Tensor:
    """The same angles in [-180, 180)."""
    return torch.remainder(degrees + 180, 360) - 180


def angle_loss(refined: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error (degrees) of angles (B, 12, 3), the short way round, weighed by `weight` (B, 12, 3)."""
    return (weight * wrapped(refined - truth).abs()).sum() / weight.sum().clamp_min(1e-6)


def gate_loss(gates: Tensor, candidates: Tensor, truth: Tensor) -> Tensor:
    """Mean square difference of the gates to what the candidates deserve by their errors.

    Args:
        gates: (B, 17, C) shares; candidates: (B, C, 17, 3) poses; truth: poses.
    """
    error = (candidates - truth[:, None]).norm(dim=-1).transpose(1, 2).detach()
    return (gates - torch.softmax(-error / _GATE_M, dim=-1)).square().mean()


def best_loss(refined: Tensor, candidates: Tensor, truth: Tensor) -> Tensor:
    """How far (metres) the answer is from being a tenth better than the best candidate (B, C, 17, 3)."""
    best = (candidates - truth[:, None]).norm(dim=-1).amin(1).detach()
    error = ((refined - truth).square().sum(-1) + 1e-12).sqrt()
    return functional.relu(error - _BEST_SHARE * best).mean()

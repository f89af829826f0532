"""What each form is trained on: answers and labels -> losses by name.

Labels live in `Targets`, apart from inputs; nothing of them is given to a network's `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.pose.model import losses
from stages.pose.model.architecture import Form
from stages.pose.model.depth import DepthAnswer, PoseAwareDepthRefiner
from stages.pose.model.forward import angle_inputs
from stages.pose.model.joint import JointAnswer
from stages.pose.model.labels import Labels
from stages.pose.model.main import MainAnswer


@dataclass(frozen=True)
class Targets:
    """`Labels` as tensors, with the angles (B, 12, 3) in degrees of their poses and how far to trust those."""

    pose: Tensor
    view: Tensor
    distance_m: Tensor
    person: Tensor
    angles: Tensor
    angle_weight: Tensor

    @classmethod
    def of(cls, labels: Labels, form: Form, device: torch.device) -> Targets:
        """Angles are worked out only for the forms that learn them."""
        n = len(labels.pose)
        angles, weight = np.zeros((n, 0, 3), np.float32), np.zeros((n, 0, 3), np.float32)
        if form in ("joint", "main"):
            angles, _, weight = angle_inputs(labels.pose, np.ones(labels.pose.shape[:2], np.float32))
        arrays = (labels.pose, labels.view, labels.distance_m, labels.person, angles, weight)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def objective(
    form: Form,
) -> Callable[[nn.Module, tuple[Tensor, ...], Targets, Mapping[str, float]], dict[str, Tensor]]:
    """(network, inputs, targets, weights of the losses) -> all losses of the form by name."""
    return {"window": _window_losses, "joint": _joint_losses, "main": _main_losses}.get(form, _depth_losses)


def _window_losses(
    network: nn.Module, inputs: tuple[Tensor, ...], targets: Targets, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    refined, log_scale = network(*inputs)
    return {
        "position": losses.position_loss(refined, targets.pose),
        "direction": losses.direction_loss(refined, targets.pose),
        "confidence": losses.confidence_loss(refined, log_scale, targets.pose),
    }


def _depth_losses(
    network: nn.Module, inputs: tuple[Tensor, ...], targets: Targets, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    assert isinstance(network, PoseAwareDepthRefiner)
    pose, visibility, seen = inputs
    answer: DepthAnswer = network(pose, visibility, seen)
    return {
        "position": losses.position_loss(answer.pose, targets.pose),
        "bones": losses.bone_loss(answer.pose, targets.pose),
        "symmetry": losses.symmetry_loss(answer.pose, visibility),
        "variation": losses.variation_loss(answer.pose, targets.person),
        "direction": losses.direction_loss(answer.pose, targets.pose),
        "view": losses.view_loss(answer.view, targets.view),
        "distance": losses.distance_loss(answer.log_distance, targets.distance_m),
        "confidence": losses.confidence_loss(answer.pose, answer.log_scale, targets.pose),
        # A second pass is worth its time only where it counts.
        "mirror": losses.mirror_loss(answer.pose, network(*losses.mirrored(pose, visibility, seen)).pose)
        if weights["mirror"]
        else pose.new_zeros(()),
    }


def _joint_losses(
    network: nn.Module, inputs: tuple[Tensor, ...], targets: Targets, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    answer: JointAnswer = network(*inputs)
    return {
        "angles": losses.angle_loss(answer.angles, targets.angles, targets.angle_weight),
        "position": losses.position_loss(answer.pose, targets.pose),
    }


def _main_losses(
    network: nn.Module, inputs: tuple[Tensor, ...], targets: Targets, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    answer: MainAnswer = network(*inputs)
    return {
        "position": losses.position_loss(answer.pose, targets.pose),
        "bones": losses.bone_loss(answer.pose, targets.pose),
        "gates": losses.gate_loss(answer.gates, answer.candidates, targets.pose),
        "best": losses.best_loss(answer.pose, answer.candidates, targets.pose),
        "confidence": losses.confidence_loss(answer.pose, answer.log_scale, targets.pose)
        + losses.confidence_loss(answer.depth.pose, answer.depth.log_scale, targets.pose),
        "depth": losses.position_loss(answer.depth.pose, targets.pose),
        "view": losses.view_loss(answer.depth.view, targets.view),
        "distance": losses.distance_loss(answer.depth.log_distance, targets.distance_m),
        "angles": losses.angle_loss(answer.angles, targets.angles, targets.angle_weight),
    }

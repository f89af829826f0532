"""How the public implementation of these refiners goes wrong. For comparison only; nothing here is trained with.

here                             what is wrong with it                                 ours
batch_maximum_confidence         a sample's target depends on who else is in the batch   losses.confidence_loss
angle_symmetry_of_one_frame      a person in mid-step is told to stand like a statue      losses.mirror_loss
bone_variance_over_the_batch     tall and short people are to have equal bones            losses.variation_loss
mirror_without_visibility        the hidden arm changes sides, its visibility does not    windows.mirror_window
turn_without_the_picture         a person seen from elsewhere, in the picture from here   augment.turn
fuse_without_the_joint_branch    the joint branch has a gate that multiplies nothing      main.MainRefiner
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from stages.pose.body.frames import rodrigues
from stages.pose.kinematics.angles import CHAIN
from stages.pose.model.losses import lengths
from stages.pose.model.windows import Window, mirror_window


def batch_maximum_confidence(refined: Tensor, truth: Tensor) -> Tensor:
    """Targets (B, 17) of the confidence: one less the error's share of the largest error in the batch."""
    error = (refined - truth).norm(dim=-1)
    return 1 - error / error.max()


def angle_symmetry_of_one_frame(angles: Tensor) -> Tensor:
    """Mean difference of left and right angles (B, 12, 3) in degrees at the same moment."""
    number = {joint.name: i for i, joint in enumerate(CHAIN)}
    right = [i for name, i in number.items() if name.startswith("right_")]
    left = [number["left_" + CHAIN[i].name.removeprefix("right_")] for i in right]
    return (angles[:, left] - angles[:, right]).abs().mean()


def bone_variance_over_the_batch(refined: Tensor) -> Tensor:
    """Mean variance of bone lengths among all poses (B, 17, 3) of a batch, whoever they are."""
    return lengths(refined).var(0, unbiased=False).mean()


def mirror_without_visibility(window: Window) -> Window:
    """Sides change places in poses and pictures alone."""
    mirrored = mirror_window(window)
    return Window(mirrored.pose, window.visibility, mirrored.seen)


def turn_without_the_picture(window: Window, degrees: np.ndarray) -> Window:
    """Rotate poses (B,) degrees about the picture's vertical and leave the 2D detections where they were."""
    rotation = rodrigues(np.outer(np.radians(degrees), [0.0, 1.0, 0.0]))
    pose = np.einsum("bij,bkcj->bkci", rotation, window.pose).astype(np.float32)
    return Window(pose, window.visibility, window.seen)


def fuse_without_the_joint_branch(pose: Tensor, gates: Tensor, candidates: Tensor) -> Tensor:
    """The estimate (B, 17, 3) plus the gated moves of depth and free correction; gates are (B, 17, 3)."""
    depth, _, free = (candidate - pose for candidate in candidates.unbind(1))
    return pose + gates[..., :1] * depth + gates[..., 2:] * free

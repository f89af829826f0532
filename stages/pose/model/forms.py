"""One interface to every form of refiner: how it is built, and what it is given.

    network = build(form, params)             inputs = inputs_of(form, window)
    answer = network(*tensors of inputs)      answer[0] poses (B, 17, 3), answer[1] log scales (B, 17)

Inputs are made of a `Window` alone, and a window holds nothing of a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.pose.model.architecture import Architecture, Branches, Form
from stages.pose.model.windows import Window

if TYPE_CHECKING:
    from torch import nn

INPUTS: dict[Form, tuple[str, ...]] = {
    "window": ("pose", "visibility", "seen"),
    "depth": ("pose", "visibility", "seen"),
    "depth_large": ("pose", "visibility", "seen"),
    "joint": ("pose", "angles", "angle_visibility"),
    "main": ("pose", "visibility", "seen", "angles", "angle_visibility"),
}
"""Names of a form's inputs in the order of its `forward`, nothing else of which reaches a network."""


def build(form: Form, params: Mapping[str, Any]) -> nn.Module:
    """An untrained network of the sizes in a model card's (or stage's) `params`."""
    architecture = Architecture(**params["architecture"])
    if form == "window":
        from stages.pose.model.refiner import DepthRefiner

        window = params["window_s"]
        return DepthRefiner(architecture, len(window), list(window).index(0))
    if form == "joint":
        from stages.pose.model.joint import JointPoseRefiner

        return JointPoseRefiner(architecture)
    if form == "main":
        from stages.pose.model.main import MainSystem

        return MainSystem(architecture, Branches(**params["branches"]))
    from stages.pose.model.depth import PoseAwareDepthRefiner

    return PoseAwareDepthRefiner(architecture, limbs=form == "depth_large")


def inputs_of(form: Form, window: Window) -> tuple[np.ndarray, ...]:
    """A form's inputs, float32, in the order of INPUTS; all but `window` see a window of one frame.

    Raises:
        ValueError: a longer window for a form that sees one frame.
    """
    if form == "window":
        return window.pose, window.visibility, window.seen
    if window.pose.shape[1] != 1:
        raise ValueError(f"form {form} sees one frame, not a window of {window.pose.shape[1]}")
    found = {"pose": window.pose[:, 0], "visibility": window.visibility[:, 0], "seen": window.seen[:, 0]}
    if "angles" in INPUTS[form]:
        from stages.pose.model.forward import angle_inputs

        found["angles"], found["angle_visibility"], _ = angle_inputs(found["pose"], found["visibility"])
    return tuple(found[name] for name in INPUTS[form])

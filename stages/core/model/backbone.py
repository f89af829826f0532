"""Backbones by their name in timm, without weights: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from stages.core.errors import StageError


def build_backbone(name: str, **arguments: Any) -> nn.Module:
    """`timm.create_model` with random weights.

    Raises:
        StageError: timm knows no such model, or it cannot be built with these arguments.
    """
    try:
        return timm.create_model(name, pretrained=False, **arguments)
    except RuntimeError as error:
        raise StageError(f"timm cannot build the backbone '{name}': {error}") from None

"""A model folder of the ceph lane whose weights are random: what a test of answers needs, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.ceph.expected import ExpectedError
from stages.ceph.locating.model import save_trained
from stages.ceph.locating.network import build_network
from stages.ceph.locating.settings import LocatorSettings
from stages.ceph.schema import CEPH

from .stored import STORED, settings

EXPECTED = ExpectedError(0.3, 0.5, -0.2, np.linspace(-0.3, 0.3, CEPH.n_points), 40.0)


def write_untrained(folder: Path, key: str = "untracked", **changes: Any) -> Path:
    """Write a model of `settings(**changes)`; maps have one clear peak each."""
    torch.manual_seed(3)
    params = settings(**changes)
    built = LocatorSettings.of(params)
    network = build_network(built.network, CEPH.n_points, built.input.size)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
        network.head.last.weight.mul_(20)  # type: ignore[operator,union-attr]
    save_trained(
        folder, network.state_dict(), EXPECTED, dataset="phantom", key=key, params=params,
        stored_size=STORED, n_train=1, split_sha256="s",
    )  # fmt: skip
    return folder

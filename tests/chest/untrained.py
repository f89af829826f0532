"""A model folder of the chest lane whose networks have random weights: what a test of answers needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from stages.chest import system
from stages.chest.alignment import Canonical
from stages.chest.locating.network import Locator
from stages.chest.radius import RadiusModel
from stages.chest.schema import CHEST
from stages.chest.system_model import ARCHITECTURE
from stages.chest.system_model import OUT_OF_FOLD as TABLE
from stages.core.data import tables
from stages.core.model.card import InputSize, ModelCard, save_model

from .shapes import random_shapes
from .test_system import coarse_params, fine_params

STORED = (64, 64)
"""What the first step reads: resampling rounds the same half up here and down there, which random weights magnify."""
_LOUDER = {"head.last.weight": 3, "head.place": 300}
"""So that points lie apart: the crop of points that all but coincide would hang on their last digits."""


def write_untrained(
    folder: Path, answer: Literal["coarse", "fine", "mean"] = "mean", project: bool = True, head: str = "map"
) -> Path:
    """Write a system of two networks a step; their answers move with the film."""
    torch.manual_seed(2)
    settings: dict[str, Any] = {}
    weights: dict[str, torch.Tensor] = {}
    for name, params in (("coarse", coarse_params()), ("fine", fine_params())):
        built = params.network.model_copy(update={"head": head})
        settings[name] = params.model_copy(update={"network": built}).model_dump(mode="json")
        for member in "01":
            network = Locator(built, CHEST.n_points, params.input)
            state = {k: _LOUDER.get(k, 1) * v for k, v in network.state_dict().items()}
            weights |= {f"{name}.{member}.{key}": value for key, value in state.items()}
    shapes = random_shapes(3, 5).numpy()
    weights["canonical"] = torch.from_numpy(Canonical.of(shapes, fine_params().input, 0.15).shape)
    radius = RadiusModel(np.array([0.4, 0.3, 0.2, 0.1]), np.linspace(1, 3, CHEST.n_points), 0.9)
    weights |= {f"radius.{name}": torch.from_numpy(np.array(a)) for name, a in radius.arrays().items()}
    side = coarse_params().input
    card = ModelCard(
        lane="chest", dataset="phantom", architecture=ARCHITECTURE, key="k",
        params={
            "rule": {"answer": answer, "project": project}, "coverage": 0.9, "stored_size": list(STORED), **settings,
        },
        input=InputSize(height=side, width=side), schema=CHEST.names, n_train=1, split_sha256="s",
    )  # fmt: skip
    save_model(folder, weights, card)
    seen = {
        "landmarks": list(shapes.astype(np.float32)),
        "radius_px224": [np.ones(15, np.float32)] * len(shapes),
    }
    table = pd.DataFrame({"id": [str(i) for i in range(len(shapes))], **seen})
    tables.write_table(folder / TABLE, table, system.OUT_OF_FOLD)
    return folder

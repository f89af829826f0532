"""A model folder of the spine lane whose networks have random weights: what a test of answers needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.core.model.card import InputSize, ModelCard, save_model
from stages.spine.checking.network import build_network as build_detector
from stages.spine.correcting.network import build_network as build_corrector
from stages.spine.likeness import Likeness
from stages.spine.looping.system import ARCHITECTURE, as_tensors
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.heads import build_head
from stages.spine.schema import SCHEMA
from tests.spine import test_corrector, test_detector
from tests.spine.drawn import draw_spines, small

STORED = (128, 64)
KEYBOT = Architecture(
    form="keybot", backbone="hrnet_w18_small", weights="random", channels=1, decoder="flat", mixer_layers=0,
    stride=1, sigma=3.0, hint_sigma=3.0, hint_channels=1, average_mirror=False,
)  # fmt: skip


def write_untrained(
    folder: Path, rule: dict[str, Any], *, score: str = "spread", keybot: bool = False, windows: bool = False,
    members: int = 2, propagates: bool = True,
) -> Path:  # fmt: skip
    """Write a system whose Refiner tells points apart and whose Detector is in doubt about them."""
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    refiner = small().model_dump(mode="json")
    light = test_corrector.built("heatmap").heatmaps.model_copy(update={"average_mirror": True})
    refiner["network"] = (KEYBOT if keybot else light).model_dump()
    if keybot:
        refiner["fit"]["phases"][0]["weights"] = {"bce": 1.0}
    detector = test_detector.params("windows" if windows else "global").model_dump(mode="json")
    corrector = test_corrector.params("heatmap").model_dump(mode="json")
    built = Architecture.model_validate(refiner["network"])
    size = refiner["input"]["height"], refiner["input"]["width"]
    weights: dict[str, torch.Tensor] = {}
    for number in range(members):
        network = build_head(built, SCHEMA.n_points, size, None).network
        weights |= {f"refiner.{number}.{name}": value for name, value in network.state_dict().items()}
    loud = {
        name: 30 * value
        for name, value in weights.items()
        if name.endswith(("head.last.weight", "main.weight"))
    }
    weights |= loud
    judge = build_detector(test_detector.built("windows" if windows else "global"), SCHEMA)
    weights |= {f"detector.{name}": value for name, value in judge.state_dict().items()}
    doubts = weights["detector.classifier.fc.bias" if windows else "detector.whole.1.bias"]
    doubts += torch.linspace(-1, 1, len(doubts))
    proposer = build_corrector(test_corrector.built("heatmap"), SCHEMA)
    weights |= {f"corrector.{name}": value for name, value in proposer.state_dict().items()}
    films, _ = draw_spines(rng, 12, 17)
    likeness = Likeness.fit(films, np.full((12, 2), (64, 128)), np.arange(12))
    weights |= {f"likeness.{name}": value for name, value in as_tensors(likeness.to_arrays()).items()}
    if propagates:
        mixed = rng.normal(0, 1, (2 * SCHEMA.n_points, 12))
        told = {"covariance": mixed @ mixed.T / 4, "noise": np.array(0.5), "reach": np.array(4.0)}
        weights |= {f"propagation.{name}": value for name, value in as_tensors(told).items()}
    expected = {"score": score, "at": [0.1, 0.4, 0.6, 8.0], "heights": [0.1, 0.2, 0.7, 1.5]}
    card = ModelCard(
        lane="spine", dataset="phantom", architecture=ARCHITECTURE, key="k",
        params={
            "refiner": refiner, "detector": detector, "corrector": corrector, "rule": rule, "expected_error": expected
        },
        input=InputSize(height=STORED[0], width=STORED[1]), schema=SCHEMA.names, n_train=1, split_sha256="s",
    )  # fmt: skip
    save_model(folder, weights, card)
    return folder

"""A real network asked for maps and members in one look."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.ceph.expected import ExpectedError
from stages.ceph.locating.inference import Locator
from stages.ceph.locating.model import ARCHITECTURE, TrainedCeph
from stages.ceph.locating.network import build_network
from stages.ceph.locating.settings import LocatorSettings
from stages.ceph.schema import CEPH
from stages.ceph.scoring.probing import ProbedModel
from stages.core.model.card import ModelCard

STORED = (48, 40)
INPUT = {"height": 32, "width": 32}


def probed(dropout: float) -> ProbedModel:
    """A plain U-Net of a few thousand random numbers that reads films of another size than the stored one."""
    settings = LocatorSettings.model_validate(
        {
            "input": INPUT,
            "network": {
                "form": "unet", "backbone": "", "weights": "random", "channels": (8, 8), "stride": 1,
                "dropout": dropout, "maps": "softmax", "sigma": 2.0, "decode": "local",
            },
            "augment": {
                "mirror": 0.0, "rotation": 0.0, "log_scale": 0.0, "shift": 0.0, "stretch": 0.0, "photometric": [],
            },
            "views": [{"rotation": 0.0, "log_scale": 0.0}],
            "fit": {
                "batch_size": 1, "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0, "clip_norm": 0.0,
                "ema_decay": 0.0, "patience": 0, "monitor": "", "precision": "float32", "checkpoint_every": 1,
                "phases": [
                    {"name": "all", "epochs": 1, "rates": {"backbone": 1.0, "head": 1.0},
                     "weights": {"cross_entropy": 1.0}},
                ],
            },
        }
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(settings.network, CEPH.n_points, settings.input.size).eval()
    with torch.no_grad():
        network.head.last.weight.mul_(20)  # type: ignore[union-attr, operator]
    card = ModelCard(
        lane="ceph", dataset="phantom", architecture=ARCHITECTURE, key="k", input=None,
        params={"stored_size": list(STORED)}, schema=CEPH.names, n_train=1, split_sha256="0",
    )  # fmt: skip
    expected = ExpectedError(0.0, 1.0, 0.0, np.zeros(CEPH.n_points), 50.0)
    return ProbedModel(TrainedCeph(card, Locator(network, settings, torch.device("cpu")), expected))


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, *STORED), dtype=np.uint8)


def test_the_maps_are_the_models_and_looking_leaves_it_as_it_was(films: np.ndarray) -> None:
    model = probed(0.3)
    before = model.predict(films).points
    maps, _ = model.maps_and_members(films, 2, 0)
    np.testing.assert_allclose(maps, model.trained.probability_maps(films), atol=1e-7)
    np.testing.assert_array_equal(model.predict(films).points, before)
    assert not model.trained.locator.network.head.drop._forward_pre_hooks  # type: ignore[union-attr]


def test_without_dropout_every_member_is_the_network_itself(films: np.ndarray) -> None:
    model = probed(0.0)
    _, members = model.maps_and_members(films, 3, 0)
    np.testing.assert_allclose(members, np.stack([model.predict(films).points] * 3), atol=1e-4)


def test_members_differ_from_each_other_and_are_the_same_for_every_company_of_films(
    films: np.ndarray,
) -> None:
    model = probed(0.5)
    _, members = model.maps_and_members(films, 4, 0)
    assert members.shape == (4, len(films), CEPH.n_points, 2)
    for one in range(4):
        for other in range(one):
            assert np.abs(members[one] - members[other]).max() > 0.5
    _, alone = model.maps_and_members(films[9:10], 4, 0)
    np.testing.assert_allclose(alone[:, 0], members[:, 9], atol=1e-4)
    _, fewer = model.maps_and_members(films, 2, 0)
    np.testing.assert_allclose(fewer, members[:2], atol=1e-4)


def test_the_targets_width_is_told_in_cells() -> None:
    assert probed(0.1).target_sigma_cells == 2.0

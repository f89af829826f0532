"""The networks' maps and how they are read: shapes, sizes, sub-pixel points, losses that leave landmarks out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.ceph.locating import warping
from stages.ceph.locating.network import build_network, start_weights
from stages.ceph.locating.reading import Reader, highest, local_means
from stages.ceph.locating.settings import FilmAugmentation, LocatorSettings, Network, View
from stages.ceph.reference import plain_mse
from stages.ceph.schema import CEPH
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model.inputs import n_parameters

from .stored import fit_settings, settings

SIZE = (64, 48)


def unet(**changes: Any) -> Network:
    return Network.model_validate(settings()["network"] | changes)


def efficient(**changes: Any) -> Network:
    plain = {
        "form": "efficient",
        "backbone": "tf_efficientnet_lite0",
        "stride": 4,
        "channels": [16, 24, 32, 48],
    }
    return unet(**(plain | changes))


def test_the_described_network_has_31_million_parameters() -> None:
    """One channel in, 64 to 1024 wide, 19 maps out: the sum of its convolutions and normalisations by hand."""
    widths = (64, 128, 256, 512, 1024)

    def two(inner: int, outer: int) -> int:
        return 9 * inner * outer + 9 * outer * outer + 4 * outer

    down = sum(two(a, b) for a, b in zip((1, *widths), widths, strict=False))
    up = sum(4 * a * b + a + two(2 * a, a) for a, b in pairwise(widths))
    network = build_network(unet(channels=widths), CEPH.n_points, (512, 512))
    assert n_parameters(network) == down + up + 64 * 19 + 19 == 31_037_651


@pytest.mark.parametrize("built", [unet(), efficient(), efficient(stride=2, channels=[8, 16, 24, 32, 48])])
def test_a_map_a_landmark_at_the_stated_stride(built: Network) -> None:
    network = build_network(built, CEPH.n_points, SIZE).eval()
    with torch.inference_mode():
        maps = network(torch.zeros(2, 1, *SIZE))
    assert maps.shape == (2, CEPH.n_points, SIZE[0] // built.stride, SIZE[1] // built.stride)
    grouped = [p for part in network.groups().values() for p in part.parameters()]
    assert len(grouped) == len(list(network.parameters()))


def test_imagenet_weights_come_from_a_package() -> None:
    torch.manual_seed(0)
    first = build_network(efficient(weights="imagenet"), CEPH.n_points, SIZE)
    second = build_network(efficient(weights="imagenet"), CEPH.n_points, SIZE)
    pairs = list(zip(first.backbone.parameters(), second.backbone.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in pairs)
    for network in (first, second):
        start_weights(network, efficient(weights="imagenet"))
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(StageError, match="4 px"):
        build_network(efficient(), CEPH.n_points, (66, 48))
    with pytest.raises(StageError, match="channels"):
        build_network(efficient(channels=[8, 8]), CEPH.n_points, SIZE)
    with pytest.raises(StageError, match="no_such_net"):
        build_network(efficient(backbone="no_such_net"), CEPH.n_points, SIZE)
    with pytest.raises(ValidationError, match="stride 1"):
        unet(stride=2)
    with pytest.raises(ValidationError, match="mirror must be 0"):
        LocatorSettings.model_validate(settings(augment=settings()["augment"] | {"mirror": 0.5}))
    wrong = fit_settings()
    wrong["phases"][0]["weights"] = {"mse": 1.0}
    with pytest.raises(ValidationError, match="mse"):
        LocatorSettings.model_validate(settings(fit=wrong))


@pytest.mark.parametrize(
    "built", [unet(), unet(maps="gaussian"), efficient(stride=2, channels=[8, 16, 24, 32, 48], sigma=3.0)]
)
@given(x=st.floats(10, 37), y=st.floats(10, 53))
def test_a_perfect_map_is_read_to_a_hundredth_of_a_pixel(built: Network, x: float, y: float) -> None:
    reader = Reader(built, SIZE)
    points = torch.tensor([[[x, y]]])
    target = reader.codec.encode(points, SIZE)
    logits = target.clamp_min(1e-9).log() if built.maps == "softmax" else torch.logit(target, eps=1e-6)
    seen = reader.read(logits)
    # The window of gaussian maps stays on the highest pixel, which draws the point to it a little.
    assert torch.linalg.vector_norm(seen.points - points) < (0.006 if built.maps == "softmax" else 0.1)
    assert seen.peak.item() == pytest.approx(1.0, abs=0.2)


def test_the_highest_cell_is_up_to_half_a_pixel_off() -> None:
    """What the description's decoding loses, on maps that are perfect: 0.38 px a point on average."""
    generator = np.random.default_rng(0)
    points = torch.from_numpy(generator.uniform(12, 36, (50, 1, 2))).float()
    errors = {}
    for decode in ("highest", "local"):
        reader = Reader(unet(decode=decode), SIZE)
        found = reader.read(reader.codec.encode(points, SIZE).clamp_min(1e-9).log()).points
        errors[decode] = float(torch.linalg.vector_norm(found - points, dim=-1).mean())
    assert errors["highest"] == pytest.approx(0.38, abs=0.05)
    assert errors["local"] < 0.03


def test_a_far_second_peak_does_not_draw_the_point() -> None:
    reader = Reader(unet(), SIZE)
    here, there = (reader.codec.encode(torch.tensor([[p]]), SIZE) for p in ([12.3, 20.6], [40.0, 50.0]))
    found = local_means(0.7 * here + 0.3 * there, reader.reach)
    assert found[0, 0].tolist() == pytest.approx([12.3, 20.6], abs=0.05)
    assert highest(0.7 * here + 0.3 * there)[0, 0].tolist() == [12.0, 21.0]


def test_a_second_peak_widens_the_spread() -> None:
    reader = Reader(unet(), SIZE)
    here, there = (reader.codec.encode(torch.tensor([[p]]), SIZE) for p in ([12.0, 20.0], [30.0, 40.0]))
    one, two = (reader.read(m.clamp_min(1e-9).log()) for m in (here, 0.7 * here + 0.3 * there))
    assert one.spread.item() == pytest.approx(2.0, abs=0.05)
    assert two.spread.item() > 3 * one.spread.item()
    assert two.peak.item() == pytest.approx(0.7 * one.peak.item(), rel=0.05)


@pytest.mark.parametrize("maps", ["softmax", "gaussian"])
def test_distributions_sum_to_one(maps: str) -> None:
    torch.manual_seed(0)
    found = Reader(unet(maps=maps), SIZE).distributions(torch.randn(2, 3, *SIZE))
    assert (found >= 0).all()
    assert found.sum((-2, -1)).numpy() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("maps", ["softmax", "gaussian"])
def test_a_landmark_of_weight_zero_or_without_a_label_teaches_nothing(maps: str) -> None:
    torch.manual_seed(0)
    reader = Reader(unet(maps=maps), SIZE)
    output = torch.randn(1, 4, *SIZE, requires_grad=True)
    truth = torch.tensor([[[20.0, 20.0], [22.0, 30.0], [torch.nan, torch.nan], [-30.0, 5.0]]])
    losses = reader.losses(output, truth, torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    torch.stack(list(losses.values())).sum().backward()
    assert output.grad is not None
    taught = output.grad.abs().sum((-2, -1))[0]
    assert taught[0] > 0
    assert taught[1:].tolist() == [0.0, 0.0, 0.0]


def test_a_landmark_of_twice_the_weight_teaches_twice_as_much() -> None:
    torch.manual_seed(0)
    reader, output = Reader(unet(), SIZE), torch.zeros(1, 2, *SIZE, requires_grad=True)
    truth = torch.tensor([[[20.0, 20.0], [20.0, 20.0]]])
    reader.losses(output, truth, torch.tensor([[2.0, 1.0]]))["cross_entropy"].backward()
    assert output.grad is not None
    taught = output.grad.abs().sum((-2, -1))[0]
    assert taught[0].item() == pytest.approx(2 * taught[1].item())


def test_an_answer_of_zeros_costs_more_than_a_blunt_one_that_sees_the_landmark() -> None:
    """By the plain squared error zeros are the better answer; by the weighted one they are not."""
    reader = Reader(unet(maps="gaussian"), SIZE)
    truth, weight = torch.tensor([[[20.0, 20.0]]]), torch.ones(1, 1)
    target = reader.codec.encode(truth, SIZE)
    blunt, zeros = 0.5 * target + 0.08, torch.full_like(target, 1e-4)
    assert plain_mse(blunt, target) > plain_mse(zeros, target)
    costs = [reader.losses(torch.logit(maps), truth, weight)["mse"] for maps in (blunt, zeros)]
    assert costs[0] < 0.5 * costs[1]


def test_a_film_is_stretched_about_its_centre_and_points_move_along() -> None:
    still = {"mirror": 0, "rotation": 0, "log_scale": 0, "shift": 0, "photometric": ()}
    stretched = FilmAugmentation(stretch=0.2, **still)
    warps = warping.draw(np.random.default_rng(1), stretched, np.array([[48, 64]]), SIZE)
    matrix = warps.matrices[0]
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(1.0)
    assert matrix[0, 0] != pytest.approx(1.0, abs=1e-3)
    centre = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    assert geometry.apply(matrix, centre) == pytest.approx(centre)


def test_views_turn_and_scale_about_the_centre() -> None:
    matrix = warping.fixed_views([View(rotation=90.0, log_scale=float(np.log(2)))], SIZE)[0]
    centre = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    assert geometry.apply(matrix, centre + np.array([3, 0])) == pytest.approx(centre + np.array([0, 6]))

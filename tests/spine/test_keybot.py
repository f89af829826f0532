"""KeyBot's Refiner: its size, its hints and its gate, and the same values as the straightforward way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.core.errors import StageError
from stages.core.model.card import InputSize
from stages.core.model.codecs import GaussianHeatmap
from stages.core.model.inputs import n_parameters
from stages.spine import reference
from stages.spine.checking import architecture as checking
from stages.spine.checking.inference import TrainedDetector
from stages.spine.checking.network import WindowDetector, crop
from stages.spine.correcting import architecture as correcting
from stages.spine.correcting.inference import TrainedCorrector
from stages.spine.correcting.network import DeepLabCorrector
from stages.spine.looping.loop import Loop, LoopRule
from stages.spine.refining import keybot_parts
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.heads import KeyBotHead
from stages.spine.refining.hints import Hints
from stages.spine.refining.inference import Refiner, for_prediction
from stages.spine.refining.keybot import KeyBotRefiner, folded, full_size
from stages.spine.refining.keybot_loss import full_size_bce, locate_full_size
from stages.spine.schema import vertebral_schema

SCHEMA = vertebral_schema(("L1", "L2", "L3", "L4"))
K, FILM, GRID, SIGMA = SCHEMA.n_points, (64, 32), (16, 8), 3.0
WINDOW, SHARPNESS = 7, 10.0
LARGE = (128, 64)
"""film whose half a Corrector can read"""


@pytest.fixture
def network() -> KeyBotRefiner:
    """A small Refiner of four vertebrae, in float64, without dropout."""
    torch.manual_seed(0)
    small = KeyBotRefiner(K, "hrnet_w18_small", ocr_width=8, gate_width=16, hint_sigma=SIGMA).double()
    for layer in small.modules():
        if isinstance(layer, nn.Dropout2d):
            layer.p = 0.0
    return small


@pytest.fixture
def films() -> Tensor:
    return torch.randn(2, 1, *FILM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def points() -> Tensor:
    random = torch.rand(2, K, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return random * torch.tensor([FILM[1] - 1.0, FILM[0] - 1.0])


def blocks() -> np.ndarray:
    """A film (1, *LARGE) of 2 x 2 equal pixels: halving it rounds nothing."""
    small = np.random.default_rng(7).integers(0, 256, (1, LARGE[0] // 2, LARGE[1] // 2), np.uint8)
    return small.repeat(2, 1).repeat(2, 2)


REFINER = Architecture(
    form="keybot", backbone="hrnet_w18_small", weights="random", channels=1, decoder="flat", mixer_layers=0,
    stride=4, sigma=SIGMA, hint_sigma=SIGMA, hint_channels=1, average_mirror=False,
)  # fmt: skip
DETECTOR = checking.Architecture(
    form="windows", backbone="resnet10t", film_channels=3, sigma=2.0, input=InputSize(height=64, width=32),
    vertebrae=2, margin=0.0, side=32, per_film=1,
)  # fmt: skip
CORRECTOR = correcting.Architecture(
    form="deeplab", input=InputSize(height=64, width=32), sigma=2.0, film_channels=3,
    heatmaps=REFINER.model_copy(update={"form": "softmax"}),
)  # fmt: skip


def hinted(points: Tensor, *which: int, grid: tuple[int, int] | None = None) -> Hints:
    """Hints of these landmarks of the second film, and earlier maps on `grid`."""
    given = torch.full_like(points, torch.nan)
    given[1, list(which)] = points[1, list(which)]
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(2, K, *grid, generator=generator, dtype=points.dtype) if grid else None
    return Hints(given, maps)


def test_the_reference_size_has_the_parameters_of_the_public_weights() -> None:
    assert n_parameters(KeyBotRefiner(68)) == 32_942_889


def test_both_heads_have_a_map_a_landmark_at_stride_4(network: KeyBotRefiner, films: Tensor) -> None:
    main, auxiliary = network(films, Hints.none(2, K))
    assert main.shape == auxiliary.shape == (2, K, *GRID)
    assert full_size(main, FILM).shape == (2, K, *FILM)


@pytest.mark.parametrize("grid", [None, GRID, FILM])
@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_are_those_of_the_straightforward_way(
    network: KeyBotRefiner, films: Tensor, points: Tensor, grid: tuple[int, int] | None, training: bool
) -> None:
    network.train(training)
    hints = hinted(points, 0, 5, grid=grid)
    heads = network(films, hints)
    everyone = torch.ones(2, K, dtype=torch.bool)
    loss = torch.stack([full_size_bce(head, points, everyone, FILM, SIGMA) for head in heads]).sum()
    found = locate_full_size(heads[0], FILM, WINDOW, SHARPNESS)
    (loss + found.sum()).backward()
    gradients = {name: _gradient(parameter) for name, parameter in network.named_parameters()}
    network.zero_grad()

    plain_heads = reference.forward_plainly(network, films, hints)
    plain_loss = reference.losses_plainly(plain_heads, points, SIGMA)
    plain_found = reference.decode_all_pairs(torch.sigmoid(plain_heads[0]), WINDOW, SHARPNESS)
    (plain_loss + plain_found.sum()).backward()

    for head, plain in zip(heads, plain_heads, strict=True):
        torch.testing.assert_close(full_size(head, FILM), plain, rtol=0, atol=1e-9)
    torch.testing.assert_close(loss, plain_loss, rtol=0, atol=1e-9)
    # decode_all_pairs counts its steps in float32.
    torch.testing.assert_close(found, plain_found, rtol=0, atol=1e-5)
    off = {
        name: float((gradients[name] - _gradient(parameter)).abs().max())
        for name, parameter in network.named_parameters()
    }
    largest = max(off, key=lambda name: off[name])
    assert off[largest] < 1e-6, f"{largest} is off by {off[largest]}"


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.clone()


def test_only_the_hinted_film_answers_a_hint(network: KeyBotRefiner, films: Tensor, points: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        without, _ = network(films, Hints.none(2, K))
        told, _ = network(films, hinted(points, 3))
    torch.testing.assert_close(told[0], without[0])
    assert (told[1] - without[1]).abs().max() > 1e-6


def test_earlier_maps_change_the_answer(network: KeyBotRefiner, films: Tensor, points: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        without, _ = network(films, hinted(points, 3))
        told, _ = network(films, hinted(points, 3, grid=GRID))
    assert (told - without).abs().amax((1, 2, 3)).min() > 1e-6


def test_gradients_reach_the_hint_encoder(network: KeyBotRefiner, films: Tensor, points: Tensor) -> None:
    main, _ = network(films, hinted(points, 2, grid=GRID))
    main.square().sum().backward()
    of_previous, of_hints = _gradient(network.hint_encoder.squeeze.weight).flatten(1).chunk(2, dim=1)
    assert (of_previous.abs().sum(0) > 0).all()
    assert of_hints.abs().sum(0).nonzero().flatten().tolist() == [2]
    assert _gradient(network.hint_encoder.scale).abs() > 0


def test_the_gate_sees_nothing_but_each_channels_highest_cell(network: KeyBotRefiner) -> None:
    generator = torch.Generator().manual_seed(4)
    maps = torch.rand(1, 16, 6, 5, generator=generator, dtype=torch.float64)
    highest = maps.amax((-2, -1), keepdim=True)
    gate = network.gate.weigh(maps)
    torch.testing.assert_close(network.gate.weigh(torch.where(maps < highest, maps / 2, maps)), gate)
    raised = maps.clone()
    raised[..., 1, 1] += 2
    assert (network.gate.weigh(raised) - gate).abs().max() > 1e-6


def test_the_gate_sees_the_hints_alone(network: KeyBotRefiner, points: Tensor) -> None:
    """Earlier maps reach the film's features, not the gate."""
    hints, more = hinted(points, 1), hinted(points, 1, grid=GRID)
    ours, same = (keybot_parts.hint_maps(h, FILM, SIGMA, GRID) for h in (hints, more))
    assert torch.equal(ours, same)
    _, drawn = reference.hints_film_by_film(hints, FILM, SIGMA)
    torch.testing.assert_close(ours, full_size(drawn, GRID), rtol=0, atol=1e-6)


def test_the_backbones_coarse_maps_are_enlarged_with_aligned_corners(network: KeyBotRefiner) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Upsample)]
    assert layers
    for layer in layers:
        ramp = layer(torch.linspace(0, 1, 4).expand(1, 1, 4, 4))
        torch.testing.assert_close(ramp[0, 0, 0], torch.linspace(0, 1, ramp.shape[-1]))


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("direct", [1, 2, 3])
def test_small_maps_are_convolved_as_if_enlarged(side: int, direct: int) -> None:
    generator = torch.Generator().manual_seed(5)
    sizes = {2: (12, 8), 3: (6, 4), 5: (3, 1)}
    maps = [torch.randn(2, c, *s, generator=generator, dtype=torch.float64) for c, s in sizes.items()]
    weight = torch.randn(4, 10, side, side, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    joined = torch.cat([full_size(m, (12, 8)) for m in maps], 1)
    plain = F.conv2d(joined, weight, bias, padding=side // 2)
    torch.testing.assert_close(keybot_parts.convolve_joined(maps, weight, bias, direct), plain)


def test_the_loss_is_the_full_size_cross_entropy_of_the_counted_points(points: Tensor) -> None:
    generator = torch.Generator().manual_seed(6)
    logits = 5 * torch.randn(2, K, *GRID, generator=generator, dtype=torch.float64)
    counted = torch.rand(2, K, generator=generator) < 0.7
    codec = GaussianHeatmap(sigma=SIGMA, stride=1, window=WINDOW, sharpness=SHARPNESS)
    plain = F.binary_cross_entropy_with_logits(
        full_size(logits, FILM)[counted], codec.encode(points, FILM)[counted]
    )
    missing = torch.where(counted.unsqueeze(-1), points, torch.nan)
    torch.testing.assert_close(full_size_bce(logits, missing, counted, FILM, SIGMA), plain)
    nobody = torch.zeros_like(counted)
    assert float(full_size_bce(logits, missing, nobody, FILM, SIGMA)) == 0.0


def test_the_loss_has_the_gradient_of_its_value(points: Tensor) -> None:
    logits = torch.randn(1, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    counted = torch.tensor([[True, False, True]])
    assert torch.autograd.gradcheck(
        lambda maps: full_size_bce(maps, points[:1, :3], counted, (16, 8), SIGMA), (logits,)
    )


def test_points_are_read_as_from_full_size_maps() -> None:
    """Also at the film's edges, where the window is padded, and for two equal peaks, where the first wins."""
    logits = torch.full((1, 4, *GRID), -4.0)
    logits[0, 0, 5, 3] = logits[0, 1, 0, 7] = logits[0, 2, 15, 0] = logits[0, 3, 4, 4] = logits[
        0, 3, 9, 2
    ] = 3
    codec = GaussianHeatmap(sigma=SIGMA, stride=1, window=WINDOW, sharpness=SHARPNESS)
    found = locate_full_size(logits, FILM, WINDOW, SHARPNESS)
    torch.testing.assert_close(found, codec.decode(full_size(logits, FILM)), rtol=0, atol=1e-4)


def test_folding_keeps_the_values_and_leaves_no_normalisation(
    network: KeyBotRefiner, films: Tensor, points: Tensor
) -> None:
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(films, hinted(points, 4))  # Other statistics than those of a fresh layer.
    ready = folded(network)
    assert network.training
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in ready.modules())
    hints = hinted(points, 2, 4, grid=GRID)
    with torch.inference_mode():
        for ours, plain in zip(ready(films, hints), network.eval()(films, hints), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_the_loop_answers_as_the_straightforward_one(network: KeyBotRefiner, rounds: int) -> None:
    """All points flagged, so that crops that end between pixels or on them make no difference."""
    refiner = network.float().eval()
    nn.init.constant_(refiner.hint_encoder.scale, 5.0)  # a fresh network hardly listens
    detector, corrector = WindowDetector(DETECTOR, SCHEMA).eval(), DeepLabCorrector(CORRECTOR, SCHEMA).eval()
    corrector.codec = GaussianHeatmap(sigma=2.0, stride=1, window=1, sharpness=1.0)  # its highest pixels
    head = KeyBotHead(
        refiner, GaussianHeatmap(sigma=SIGMA, stride=1, window=WINDOW, sharpness=SHARPNESS), LARGE, None
    )
    ready = Refiner((for_prediction(head),), REFINER, SCHEMA, LARGE, torch.device("cpu"))
    checks = TrainedDetector(DETECTOR, detector, SCHEMA)
    corrects = TrainedCorrector(CORRECTOR, corrector, SCHEMA)
    loop = Loop(
        ready,
        None,
        lambda _, seen, places: checks.probabilities(seen, places),
        lambda _, seen, places: corrects.propose(seen, places),
        LoopRule(update="hint", rounds=rounds, threshold=0.0, accept=-1e9),
    )
    film = blocks()
    nobody = np.full((1, K, 2), np.nan)
    state, done = loop.run(film, nobody, loop.refine(film, nobody))
    assert len(done) == rounds
    with torch.inference_mode():
        seen = torch.from_numpy(film)[:, None].float() / 255
        plain = reference.loop_plainly(refiner, detector, corrector, seen, rounds, 0.0, WINDOW, SHARPNESS)
    torch.testing.assert_close(torch.from_numpy(state.points).float(), plain, rtol=0, atol=1e-2)


def test_a_crop_cut_alone_shows_what_one_cut_with_others_does() -> None:
    """On a smooth film, for the reference's crops end half a pixel further out."""
    torch.manual_seed(0)
    film = F.interpolate(torch.rand(1, 1, 8, 4), size=LARGE, mode="bicubic").clamp(0, 1)
    points = 10 + torch.rand(8, 2) * torch.tensor([LARGE[1] - 20.0, LARGE[0] - 20.0])
    cut, places = reference.stretched_crop(film, points, 32)
    crops, theirs = crop(film, points[None, None], margin=0.0, side=32)
    assert (cut - crops).abs().max() < 0.25 * crops.std()
    assert (places - theirs[0]).abs().max() < 1.0


def test_the_most_suspicious_window_decides_also_one_by_one(points: Tensor) -> None:
    detector = WindowDetector(DETECTOR, SCHEMA).eval()
    head = detector.classifier.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias[:4], -1.0)  # what a window says of its upper vertebra
    nn.init.constant_(head.bias[4:], 2.0)  # of its lower one
    film, places = torch.rand(1, 1, *LARGE), points[:1].float()
    with torch.inference_mode():
        plain = reference.judge_plainly(detector, film, places)
        torch.testing.assert_close(plain, torch.sigmoid(detector(film, places)))
    assert (plain[0, 4:] > 0.5).all()
    assert (plain[0, :4] < 0.5).all()


def test_what_does_not_fit_is_named(network: KeyBotRefiner) -> None:
    with pytest.raises(StageError, match=r"films of \(48, 32\) px do not divide into the cells of 32 px"):
        network(torch.zeros(1, 1, 48, 32, dtype=torch.float64), Hints.none(1, K))
    with pytest.raises(StageError, match="'resnet18' is no HRNet"):
        KeyBotRefiner(K, "resnet18")
    with pytest.raises(StageError, match="cannot build the backbone 'hrnet_w7'"):
        KeyBotRefiner(K, "hrnet_w7")

"""What is encoded decodes to itself, at every stride and up to the film's edge."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.data import geometry
from stages.core.model.codecs import GaussianHeatmap, SoftmaxHeatmap
from stages.spine.reference import decode_all_pairs, encode_film_by_film

REFERENCE = GaussianHeatmap(sigma=7.5, stride=1, window=15, sharpness=10.0)


def scattered(size: tuple[int, int], margin: float, seed: int = 0, count: int = 300) -> torch.Tensor:
    """(2, count, 2) points at least `margin` px inside a film."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1] - 1, size[0] - 1], dtype=torch.float32)
    return torch.rand((2, count, 2), generator=generator) * (extent - 2 * margin) + margin


def mean_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm(dim=-1).mean())


def test_a_perfect_gaussian_is_read_within_the_promise() -> None:
    points = scattered((128, 96), margin=10)
    error = mean_error(REFERENCE.locate(REFERENCE.encode(points, (128, 96))), points)
    assert error <= 0.03
    # KeyBot's decoder shortens the offset from the highest cell by 6 %; less would be another decoder.
    assert error == pytest.approx(0.023, abs=0.002)


@settings(deadline=None, max_examples=30)
@given(
    stride=st.sampled_from([1, 2, 4, 8]),
    cells=st.floats(0.5, 6),
    seed=st.integers(0, 1000),
    border=st.booleans(),
)
def test_a_perfect_softmax_target_is_read_exactly(stride: int, cells: float, seed: int, border: bool) -> None:
    size = (96, 64)
    hull = (stride - 1) / 2 + 2e-3 * stride
    points = scattered(size, hull if border else 20, seed, count=40)
    codec = SoftmaxHeatmap(sigma=cells * stride, stride=stride)
    target = codec.encode(points, size)
    torch.testing.assert_close(target.sum((-1, -2)), torch.ones(2, 40))
    torch.testing.assert_close(codec.locate(target), points, atol=1e-3, rtol=0)
    torch.testing.assert_close(codec.decode(target.clamp_min(1e-30).log()), points, atol=1e-3, rtol=0)


def test_without_the_tilt_a_target_at_the_border_would_be_read_inside() -> None:
    codec = SoftmaxHeatmap(sigma=4.0, stride=1)
    corner = torch.tensor([[[0.5, 63.0]]])
    plain = GaussianHeatmap(sigma=4.0, stride=1, window=3, sharpness=1.0).encode(corner, (64, 64))
    plain = plain / plain.sum((-1, -2), keepdim=True)
    assert mean_error(codec.locate(plain), corner) > 3
    assert mean_error(codec.locate(codec.encode(corner, (64, 64))), corner) < 0.01


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_points_beyond_the_cell_centres_land_on_their_hull(stride: int) -> None:
    codec = SoftmaxHeatmap(sigma=2.0 * stride, stride=stride)
    outside = torch.tensor([[[-50.0, 20.0], [63.4, -0.5], [30.0, 1e30]]])
    low, high = (stride - 1) / 2, 63 - (stride - 1) / 2
    found = codec.locate(codec.encode(outside, (64, 64)))
    torch.testing.assert_close(found, outside.clamp(low, high), atol=2e-3 * stride, rtol=0)


def test_cells_are_the_pixels_of_a_resized_film() -> None:
    points, size, stride = scattered((48, 32), margin=12), (48, 32), 4
    maps = SoftmaxHeatmap(sigma=6.0, stride=stride).encode(points, size)
    in_cells = SoftmaxHeatmap(sigma=1.5, stride=1).locate(maps)
    expected = geometry.apply(geometry.resize_matrix(size, (12, 8)), points.numpy())
    np.testing.assert_allclose(in_cells.numpy(), expected, atol=1e-4)


def test_values_are_those_of_the_plain_loop_also_at_the_border() -> None:
    size = (64, 48)
    points = torch.cat((scattered(size, 0, count=20), torch.tensor([[[0.0, 0.0], [47.0, 63.0]]] * 2)), 1)
    maps = REFERENCE.encode(points, size)
    torch.testing.assert_close(maps, encode_film_by_film(points, size, 7.5), atol=1e-6, rtol=0)
    noisy = maps + 0.3 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(REFERENCE.locate(noisy), decode_all_pairs(noisy, 15, 10.0), atol=1e-5, rtol=0)


def test_a_gaussian_with_a_stride_is_read_in_model_px() -> None:
    codec = GaussianHeatmap(sigma=6.0, stride=2, window=9, sharpness=10.0)
    points = scattered((96, 64), margin=16)
    maps = codec.encode(points, (96, 64))
    assert maps.shape == (2, 300, 48, 32)
    assert mean_error(codec.locate(maps), points) <= 0.06  # 0.03 cells
    torch.testing.assert_close(codec.decode(torch.logit(maps, 1e-6)), codec.locate(maps), atol=1e-3, rtol=0)


@pytest.mark.parametrize("codec", [REFERENCE, SoftmaxHeatmap(sigma=4.0, stride=4)])
def test_a_missing_landmark_is_an_empty_map_beside_whole_ones(
    codec: GaussianHeatmap | SoftmaxHeatmap,
) -> None:
    points = torch.tensor([[[20.0, 20.0], [math.nan, math.nan]]])
    maps = codec.encode(points, (64, 64))
    assert maps[0, 0].max() > 0
    assert not maps[0, 1].any()


@pytest.mark.parametrize("codec", [REFERENCE, SoftmaxHeatmap(sigma=4.0, stride=4)])
def test_a_target_can_be_drawn_into_an_earlier_one(codec: GaussianHeatmap | SoftmaxHeatmap) -> None:
    first, second = scattered((64, 64), 8, seed=1), scattered((64, 64), 8, seed=2)
    buffer = codec.encode(first, (64, 64))
    drawn = codec.encode(second, (64, 64), out=buffer)
    assert drawn.data_ptr() == buffer.data_ptr()
    torch.testing.assert_close(drawn, codec.encode(second, (64, 64)), atol=0, rtol=0)


def test_decoding_has_gradients_and_single_precision() -> None:
    for codec in (REFERENCE, SoftmaxHeatmap(sigma=4.0, stride=4)):
        output = torch.randn(1, 3, 16, 16, requires_grad=True)
        points = codec.decode(output)
        assert points.dtype == torch.float32
        points.sum().backward()  # type: ignore[no-untyped-call]
        assert output.grad is not None
        assert bool((output.grad != 0).any())


def test_impossible_codecs_and_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="odd number"):
        GaussianHeatmap(sigma=1.0, stride=1, window=4, sharpness=1.0)
    with pytest.raises(ValueError, match="sigma"):
        GaussianHeatmap(sigma=0.0, stride=1, window=5, sharpness=1.0)
    with pytest.raises(ValueError, match="half a cell"):
        SoftmaxHeatmap(sigma=1.0, stride=4)
    with pytest.raises(ValueError, match="cells of 4 px"):
        SoftmaxHeatmap(sigma=4.0, stride=4).encode(torch.zeros(1, 1, 2), (64, 30))
    with pytest.raises(ValueError, match=r"\(B, K, 2\)"):
        REFERENCE.encode(torch.zeros(3, 2), (64, 64))
    with pytest.raises(ValueError, match=r"\(B, K, h, w\)"):
        REFERENCE.locate(torch.zeros(3, 4, 4))

"""Affine maps act on pictures and points alike, with pixel centres at integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.data import geometry

sizes = st.tuples(st.integers(2, 400), st.integers(2, 400))


@given(source=sizes, target=sizes)
def test_resizing_keeps_the_outer_edges(source: geometry.Size, target: geometry.Size) -> None:
    edges = np.array([[-0.5, -0.5], [source[1] - 0.5, source[0] - 0.5]])
    moved = geometry.apply(geometry.resize_matrix(source, target), edges)
    np.testing.assert_allclose(moved, [[-0.5, -0.5], [target[1] - 0.5, target[0] - 0.5]], atol=1e-9)


@given(source=sizes, target=sizes)
def test_resize_and_back_is_the_identity(source: geometry.Size, target: geometry.Size) -> None:
    there = geometry.resize_matrix(source, target)
    both = geometry.compose(there, geometry.invert(there))
    np.testing.assert_allclose(both, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


def test_mirror_is_an_involution_and_matches_a_flipped_picture() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    mirror = geometry.mirror_matrix(4)
    np.testing.assert_allclose(geometry.compose(mirror, mirror), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(geometry.warp(image, mirror, (3, 4)), image[:, ::-1])


@pytest.mark.parametrize("degrees", [-30.0, 7.5, 90.0])
@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_a_bright_spot_moves_with_its_point(degrees: float, scale: float) -> None:
    spot = np.array([40.0, 25.0])
    rows, columns = np.mgrid[:80, :90]
    image = (255 * np.exp(-((columns - spot[0]) ** 2 + (rows - spot[1]) ** 2) / 18)).astype(np.uint8)
    matrix = geometry.similarity_matrix((80, 90), degrees, scale, 3.0, -4.0)
    warped = geometry.warp(image, matrix, (80, 90)).astype(float)
    centroid = [(warped * columns).sum() / warped.sum(), (warped * rows).sum() / warped.sum()]
    np.testing.assert_allclose(centroid, geometry.apply(matrix, spot), atol=0.15)


def test_compose_applies_the_first_matrix_first() -> None:
    shift = np.array([[1.0, 0, 5], [0, 1, 0]])
    double = np.array([[2.0, 0, 0], [0, 2, 0]])
    np.testing.assert_allclose(geometry.apply(geometry.compose(shift, double), np.array([1.0, 1.0])), [12, 2])


def test_shrinking_averages_and_keeps_the_mean() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 32)).astype(np.uint8)
    small = geometry.resize(image, (16, 8))
    blocks = image.reshape(16, 4, 8, 4).mean((1, 3))
    assert np.abs(small - blocks).max() <= 0.51


def test_missing_points_stay_missing() -> None:
    points = np.array([[1.0, 2.0], [np.nan, np.nan]])
    moved = geometry.apply(geometry.mirror_matrix(10), points)
    assert np.isnan(moved[1]).all()
    np.testing.assert_allclose(moved[0], [8, 2])

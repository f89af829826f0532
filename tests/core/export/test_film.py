"""What a graph does to a film is what prediction does to it, grey value by grey value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.core.data import geometry
from stages.core.export import film as on_film

STORED = (224, 192)


def noise(size: geometry.Size) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)


@pytest.mark.parametrize(
    "size", [(448, 384), (896, 768), (672, 576), (224, 192), (1120, 192), (50, 60), (223, 191), (500, 60), (60, 500)]
)  # fmt: skip
def test_a_film_is_resized_as_opencv_does_it(size: geometry.Size) -> None:
    film = noise(size)
    resized = on_film.resize(torch.from_numpy(film), STORED)
    np.testing.assert_array_equal(resized.numpy(), geometry.resize(film, STORED))


@pytest.mark.parametrize("size", [(299, 301), (2399, 1935), (225, 193)])
def test_odd_factors_agree_but_for_halves(size: geometry.Size) -> None:
    film = noise(size)
    off = on_film.resize(torch.from_numpy(film), STORED).numpy() - geometry.resize(film, STORED)
    assert np.abs(off).max() <= 1
    assert (off != 0).mean() < 1e-3


def test_a_film_is_warped_as_opencv_does_it_and_is_black_beyond() -> None:
    film = noise(STORED)
    move = geometry.compose(
        geometry.similarity_matrix(STORED, 11.0, 0.43, 20.0, -31.0), geometry.mirror_matrix(96)
    )
    warped = on_film.warp(torch.from_numpy(film).float(), on_film.fixed(move), (96, 96)).numpy()
    off = warped - geometry.warp(film, move, (96, 96))
    assert np.abs(off).max() <= 1
    assert (off != 0).mean() < 1e-3
    assert (warped == 0).mean() > 0.1


def test_maps_compose_invert_and_scale_as_in_geometry() -> None:
    one, two = geometry.similarity_matrix(STORED, 7.0, 1.3), geometry.resize_matrix(STORED, (96, 96))
    points = np.random.default_rng(1).uniform(0, 200, (5, 2))
    both = on_film.compose(on_film.fixed(one), on_film.fixed(two))
    there = on_film.apply(both, on_film.fixed(points))
    np.testing.assert_allclose(there, geometry.apply(geometry.compose(one, two), points))
    np.testing.assert_allclose(on_film.apply(on_film.invert(both), there), points)
    np.testing.assert_allclose(on_film.area(both), abs(np.linalg.det(geometry.compose(one, two)[:, :2])))
    stretched = on_film.resize_points(on_film.fixed(points), STORED, on_film.sizes(torch.zeros(96, 60)))
    np.testing.assert_allclose(stretched, geometry.apply(geometry.resize_matrix(STORED, (96, 60)), points))

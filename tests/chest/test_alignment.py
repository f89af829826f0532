"""The canonical crop undoes what the guess says of place, size and tilt, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from stages.chest.alignment import Canonical, apply_each, invert_each
from stages.chest.raw.structure import shape_from_structure
from stages.core.data import geometry


def shapes(count: int, seed: int = 0) -> np.ndarray:
    """Upright shapes about the middle of a film of 224 px, each with widths of its own."""
    rng = np.random.default_rng(seed)
    top = np.array([112.0, 40.0]) + rng.normal(0, 4, (count, 2))
    bottom = top + np.stack([rng.normal(0, 2, count), rng.uniform(130, 160, count)], axis=1)
    left, right = (rng.uniform(30, 80, (count, 5)) for _ in range(2))
    return shape_from_structure(top, bottom, left, right)


def canonical() -> Canonical:
    return Canonical.of(shapes(40), side=96, margin=0.15)


def test_the_mean_shape_fills_the_crop_but_for_the_margin() -> None:
    shape = canonical().shape
    np.testing.assert_allclose(shape.min(0), 0.15 * 96 - 0.5)
    np.testing.assert_allclose(shape.max(0), 0.85 * 96 - 0.5)


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(0, 1, (0, 0)), (12, 1, (0, 0)), (-25, 0.6, (30, -8)), (5, 1.4, (-20, 9))]
)
def test_a_film_turned_scaled_and_moved_gives_the_same_crop(
    degrees: float, scale: float, shift: tuple[float, float]
) -> None:
    aligned, given = canonical(), shapes(5, seed=1)
    moved = geometry.apply(geometry.similarity_matrix((224, 224), degrees, scale, *shift), given)
    np.testing.assert_allclose(
        apply_each(aligned.maps(moved), moved), apply_each(aligned.maps(given), given), atol=1e-9
    )


def test_the_axis_stands_upright_in_the_crop() -> None:
    given = shapes(5, seed=2)
    mapped = apply_each(canonical().maps(given), given)
    np.testing.assert_allclose(mapped[:, 0, 0], mapped[:, 1, 0], atol=1e-9)
    assert (mapped[:, 0, 1] < mapped[:, 1, 1]).all()


def test_no_other_scale_and_shift_brings_the_guess_nearer_to_the_shape() -> None:
    aligned, given = canonical(), shapes(1, seed=3)
    mapped = apply_each(aligned.maps(given), given)[0]
    best = ((mapped - aligned.shape) ** 2).sum()
    for change in (np.array([1.02, 1.0]), np.array([1.0, 0.98])):
        about = mapped.mean(0)
        assert ((about + (mapped - about) * change - aligned.shape) ** 2).sum() > best
    for move in ([0.5, 0.0], [0.0, -0.5]):
        assert ((mapped + np.array(move) - aligned.shape) ** 2).sum() > best


def test_maps_there_and_back() -> None:
    aligned, given = canonical(), shapes(4, seed=4)
    maps = aligned.maps(given)
    np.testing.assert_allclose(apply_each(invert_each(maps), apply_each(maps, given)), given, atol=1e-9)

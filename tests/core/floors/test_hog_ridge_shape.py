"""The three ideas that the floors are made of, each against what is known of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.floors.hog import hog
from stages.core.floors.ridge import KernelRidge, fit_ridges, kernel, typical_distance
from stages.core.floors.shape import fit_shape_model


def pictures(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 24), dtype=np.uint8)


def test_an_edge_votes_for_the_direction_across_it() -> None:
    upright, lying = np.zeros((2, 32, 32), np.uint8)
    upright[:, 16:], lying[16:] = 200, 200
    vertical, horizontal = hog(np.stack([upright, lying]), [8], 8).reshape(2, -1, 8).sum(1)
    assert vertical.argmax() == 0  # the gradient points along x: 0 degrees
    assert horizontal.argmax() == 4  # along y: 90 degrees
    assert (vertical > 0).sum() == (horizontal > 0).sum() == 1


def test_brightness_and_contrast_do_not_matter() -> None:
    dim = pictures() // 4
    brighter = dim * 2 + 40
    np.testing.assert_allclose(hog(dim, [8, 4], 9), hog(brighter, [8, 4], 9), atol=2e-3)


def test_a_mirrored_picture_has_the_mirrored_descriptor() -> None:
    count, cell = 8, 8
    plain, mirrored = (hog(p, [cell], count) for p in (pictures(), pictures()[:, :, ::-1]))
    grid = mirrored.reshape(3, 3, 2, 2, 2, count)[:, :, ::-1, :, ::-1]  # blocks' and cells' columns
    circle = np.arange(count) * -1 % count  # an angle becomes 180 degrees less the angle
    np.testing.assert_allclose(grid[..., circle].reshape(3, -1), plain, atol=2e-3)


def test_a_long_series_is_described_like_its_films_one_by_one() -> None:
    many = pictures(300)
    np.testing.assert_array_equal(hog(many, [8], 9)[257], hog(many[257:258], [8], 9)[0])


def test_cells_that_do_not_divide_the_picture_are_refused() -> None:
    for cell in (5, 24):
        with pytest.raises(ValueError, match="cells"):
            hog(pictures(), [cell], 9)


@settings(deadline=None, max_examples=15)
@given(penalty=st.sampled_from([1e-3, 0.1, 1.0]), seed=st.integers(0, 99))
def test_a_linear_kernel_is_ridge_regression(penalty: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, targets = rng.normal(size=(20, 5)).astype(np.float16), rng.normal(size=(20, 2))
    (ridge,) = fit_ridges(features, targets, None, [penalty])
    x = features.astype(np.float64)
    strength = penalty * (x**2).sum(1).mean()
    primal = np.linalg.solve(x.T @ x + strength * np.eye(5), x.T @ (targets - targets.mean(0)))
    np.testing.assert_allclose(ridge.predict(features), x @ primal + targets.mean(0), atol=1e-3)


def test_a_gaussian_kernel_follows_what_a_line_cannot_and_the_penalty_flattens_it() -> None:
    features = np.linspace(-3, 3, 60, dtype=np.float16)[:, None]
    targets = np.sin(2 * features.astype(np.float64))
    (line,) = fit_ridges(features, targets, None, [1e-6])
    close, flat = fit_ridges(features, targets, 0.5, [1e-6, 1e3])
    held_out = np.linspace(-2.5, 2.5, 7, dtype=np.float16)[:, None]
    wanted = np.sin(2 * held_out.astype(np.float64))
    assert np.abs(line.predict(held_out) - wanted).max() > 0.5
    assert np.abs(close.predict(held_out) - wanted).max() < 0.01
    assert np.abs(flat.predict(held_out) - targets.mean(0)).max() < 0.05


def test_predictions_do_not_depend_on_how_many_films_are_asked_for_at_once() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(700, 6)).astype(np.float16)
    ridge = KernelRidge(features[:50], rng.normal(size=(50, 2)), np.array([1.0, -1.0]), 2.0)
    np.testing.assert_allclose(ridge.predict(features)[600:601], ridge.predict(features[600:601]), rtol=1e-5)
    assert ridge.predict(features[:0]).shape == (0, 2)


def test_kernel_and_typical_distance_by_definition() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 4)).astype(np.float16), rng.normal(size=(9, 4)).astype(np.float16)
    distance = np.linalg.norm(a[:, None].astype(float) - b[None].astype(float), axis=-1)
    np.testing.assert_allclose(kernel(a, b, 1.5), np.exp(-(distance**2) / 4.5), atol=1e-5)
    own = np.linalg.norm(a[:, None].astype(float) - a[None].astype(float), axis=-1)
    assert typical_distance(a) == pytest.approx(np.sqrt((own**2).mean()), rel=1e-5)


def test_a_shape_model_holds_the_share_it_was_asked_for_and_no_more() -> None:
    rng = np.random.default_rng(2)
    directions = np.linalg.qr(rng.normal(size=(10, 10)))[0][:3]
    shapes = (rng.normal(size=(400, 3)) * [10, 3, 0.3]) @ directions
    shapes = shapes.reshape(400, 5, 2) + 50
    assert len(fit_shape_model(shapes, 0.85).components) == 1
    assert len(fit_shape_model(shapes, 0.99).components) == 2
    full = fit_shape_model(shapes, 1.0)
    np.testing.assert_allclose(full.project(shapes), shapes, atol=1e-8)
    np.testing.assert_allclose(full.components @ full.components.T, np.eye(len(full.components)), atol=1e-9)


def test_a_projection_is_the_nearest_shape_of_the_model() -> None:
    rng = np.random.default_rng(3)
    shapes = rng.normal(size=(50, 4, 2)) * np.arange(1, 5)[:, None]
    model = fit_shape_model(shapes, 0.8)
    other = rng.normal(size=(1, 4, 2)) * 3
    nearest = model.project(other)
    np.testing.assert_allclose(model.project(nearest), nearest)
    best = np.linalg.norm(nearest - other)
    for _ in range(50):
        moved = model.shapes(model.coefficients(other) + rng.normal(size=(1, len(model.components))) * 0.3)
        assert np.linalg.norm(moved - other) > best


def test_shapes_that_cannot_make_a_model_are_refused() -> None:
    with pytest.raises(ValueError, match="two shapes"):
        fit_shape_model(np.zeros((1, 3, 2)), 0.9)
    with pytest.raises(ValueError, match="share"):
        fit_shape_model(np.zeros((5, 3, 2)), 1.2)
    still = fit_shape_model(np.ones((5, 3, 2)), 0.9)  # films that all have one shape
    np.testing.assert_allclose(still.project(np.zeros((1, 3, 2))).shape, (1, 3, 2))

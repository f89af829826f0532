"""The projection onto the labels' degrees of freedom, and the radius of a point."""

from __future__ import annotations

import numpy as np
import pytest

from stages.chest.projection import project
from stages.chest.radius import RadiusModel, features
from stages.chest.raw.structure import structure_residuals
from tests.chest.test_alignment import shapes


def test_shapes_with_the_structure_stay_as_they_are() -> None:
    given = shapes(20)
    np.testing.assert_allclose(project(given), given, atol=1e-9)


def test_whatever_is_projected_has_the_structure_and_stays_when_projected_again() -> None:
    noisy = shapes(20) + np.random.default_rng(1).normal(0, 5, (20, 15, 2))
    once = project(noisy)
    for residual in structure_residuals(once):
        np.testing.assert_allclose(residual, 0, atol=1e-9)
    np.testing.assert_allclose(project(once), once, atol=1e-9)


def test_projection_takes_away_a_part_of_independent_noise() -> None:
    truth = shapes(400)
    noisy = truth + np.random.default_rng(2).normal(0, 4, truth.shape)
    before, after = (np.linalg.norm(p - truth, axis=2).mean() for p in (noisy, project(noisy)))
    assert after < 0.9 * before


def told(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and errors of points whose risk the spread tells, landmarks of very different difficulty."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(1, 8, (n, 15))
    errors = rng.rayleigh(1.0, (n, 15)) * spread * np.linspace(0.5, 3, 15)
    return features(spread, spread, rng.uniform(0, 1, (n, 15))), errors


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_discs_of_other_films_hold_the_label_as_often_as_stated_for_every_landmark(coverage: float) -> None:
    model = RadiusModel.fit(*told(1500, 0), coverage)
    fresh, errors = told(1500, 1)
    inside = (errors <= model.radii(fresh)).mean(0)
    np.testing.assert_allclose(inside, coverage, atol=0.05)


def test_points_that_are_told_to_be_risky_get_wider_discs() -> None:
    model = RadiusModel.fit(*told(1500, 0), 0.9)
    spread = np.array([[1.0] * 15, [8.0] * 15])
    narrow, wide = model.radii(features(spread, spread, np.full((2, 15), 0.5)))
    assert (wide > 2 * narrow).all()


def test_features_that_tell_nothing_still_cover() -> None:
    rng = np.random.default_rng(3)
    same = features(*(np.ones((800, 15)) for _ in range(3)))
    errors = rng.rayleigh(3.0, (800, 15))
    model = RadiusModel.fit(same, errors, 0.9)
    np.testing.assert_allclose((rng.rayleigh(3.0, (800, 15)) <= model.radii(same)).mean(0), 0.9, atol=0.06)


def test_a_model_of_radii_survives_its_table_of_arrays() -> None:
    model = RadiusModel.fit(*told(100, 4), 0.8)
    again = RadiusModel.from_arrays(model.arrays())
    fresh, _ = told(10, 5)
    np.testing.assert_array_equal(again.radii(fresh), model.radii(fresh))
    assert again.coverage == 0.8

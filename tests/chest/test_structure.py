"""Fifteen points from fourteen numbers, and the grid that labels lie on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.chest import schema
from stages.chest.raw import structure
from stages.chest.schema import CHEST

offsets = st.lists(st.floats(4, 30), min_size=5, max_size=5)


@settings(deadline=None)
@given(
    top=st.tuples(st.floats(20, 40), st.floats(0, 12)),
    length=st.floats(20, 55),
    tilt=st.floats(-25, 25),
    left=offsets,
    right=offsets,
)
def test_structure_round_trip(top, length, tilt, left, right):
    angle = np.deg2rad(tilt)
    bottom = np.array(top) + length * np.array([-np.sin(angle), np.cos(angle)])
    points = structure.shape_from_structure([top], [bottom], [left], [right])
    again = structure.structure_from_shape(points)
    for expected, found in zip((top, bottom, left, right), again, strict=True):
        np.testing.assert_allclose(found[0], expected, atol=1e-9)
    assert all(np.abs(r).max() < 1e-9 for r in structure.structure_residuals(points))


def test_left_is_smaller_x_and_mirror_exchanges_the_offsets():
    left, right = [10, 18, 21, 22, 24], [9, 17, 20, 23, 25]
    points = structure.shape_from_structure([(32, 8)], [(34, 50)], [left], [right])
    assert (points[0, schema.LEFT, 0] < points[0, schema.RIGHT, 0]).all()
    mirrored = (points * [-1, 1] + [63, 0])[:, CHEST.swap]
    _, _, mirrored_left, mirrored_right = structure.structure_from_shape(mirrored)
    np.testing.assert_allclose(mirrored_left[0], right)
    np.testing.assert_allclose(mirrored_right[0], left)


def test_schema_pairs_and_midline():
    assert set(CHEST.pairs) == {(2, 3), (4, 5), (6, 7), (11, 12), (13, 14)}
    np.testing.assert_array_equal(np.flatnonzero(CHEST.swap == np.arange(15)), [0, 1, 8, 9, 10])


def test_residuals_name_the_moved_point():
    points = structure.shape_from_structure([(32, 8)], [(32, 48)], [[10] * 5], [[10] * 5])
    points[0, schema.AXIS_QUARTERS[1]] += [3, 4]
    points[0, schema.RIGHT[2]] += [1, 2]
    quarters, along = structure.structure_residuals(points)
    np.testing.assert_allclose(quarters[0], [0, 5, 0], atol=1e-12)
    np.testing.assert_allclose(along[0], [0] * 7 + [2, 0, 0], atol=1e-12)


def test_grid_of_a_299_px_film():
    values = structure.grid_values(299)
    assert len(set(values)) == 64
    assert values[:5].tolist() == [0, 5, 9, 14, 19]
    assert values[-1] == 294


@settings(deadline=None)
@given(st.floats(0, 294))
def test_snapping_moves_a_coordinate_by_at_most_half_a_step(value):
    snapped = structure.snap_to_grid(np.array([value, value]), 299)
    assert np.isin(snapped, structure.grid_values(299)).all()
    assert abs(snapped[0] - value) <= 299 / 64 / 2 + 0.5


@pytest.mark.parametrize("outside", [(-20.0, 5.0), (400.0, 5.0)])
def test_snapping_keeps_points_on_the_film(outside):
    assert structure.snap_to_grid(np.array(outside), 299)[0] in (0, 294)

"""SNA, SNB and ANB on constructed jaws, and that they belong to the patient and not to the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ceph.angles import angles
from stages.ceph.schema import CEPH, INDEX
from stages.core.data import geometry


def head(sna: float, snb: float) -> np.ndarray:
    """(1, 19, 2): sella left of nasion, A and B below it at the given angles, the rest anywhere."""
    points = np.random.default_rng(0).uniform(0, 400, (1, CEPH.n_points, 2))
    nasion = np.array([300.0, 100.0])
    points[0, INDEX["nasion"]] = nasion
    points[0, INDEX["sella"]] = nasion - [150.0, 0.0]
    for name, angle, length in (("subspinale", sna, 90.0), ("supramentale", snb, 130.0)):
        turned = np.deg2rad(180 - angle)
        points[0, INDEX[name]] = nasion + length * np.array([np.cos(turned), np.sin(turned)])
    return points


@given(sna=st.floats(60, 100), snb=st.floats(60, 100))
def test_constructed_angles_are_found(sna: float, snb: float) -> None:
    found = angles(head(sna, snb))
    assert found["SNA"][0] == pytest.approx(sna, abs=1e-6)
    assert found["SNB"][0] == pytest.approx(snb, abs=1e-6)
    assert found["ANB"][0] == pytest.approx(sna - snb, abs=1e-6)


@given(degrees=st.floats(-180, 180), scale=st.floats(0.3, 3), mirrored=st.booleans())
def test_turning_enlarging_and_mirroring_a_film_change_no_angle(
    degrees: float, scale: float, mirrored: bool
) -> None:
    points = head(82, 79)
    moved = geometry.apply(geometry.similarity_matrix((500, 400), degrees, scale, 5, -7), points)
    if mirrored:
        moved = geometry.apply(geometry.mirror_matrix(400), moved)
    for name, value in angles(moved).items():
        assert value == pytest.approx(angles(points)[name], abs=1e-6)


def test_a_stretched_film_has_other_angles() -> None:
    stretched = angles(head(82, 79) * [1.0, 1.2])
    assert abs(stretched["SNA"][0] - 82) > 0.5


def test_a_missing_point_leaves_its_own_angles_out() -> None:
    points = head(82, 79)
    points[0, INDEX["supramentale"]] = np.nan
    found = angles(points)
    assert found["SNA"][0] == pytest.approx(82)
    assert np.isnan(found["SNB"][0])
    assert np.isnan(found["ANB"][0])

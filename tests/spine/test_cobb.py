"""Cobb angles against hand-made spines and against the challenge's own file."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from stages.spine.cobb import cobb_angles, cobb_smape, end_vertebrae


def spine(tilts: list[float], offsets: list[float] | None = None) -> np.ndarray:
    """Vertebrae 100 wide, 60 high, 80 apart, each tilted by so many degrees and moved sideways."""
    points = []
    for i, tilt in enumerate(tilts):
        angle = np.radians(tilt)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([[-50, -30], [50, -30], [-50, 30], [50, 30]]) @ rotation.T
        centre = np.array([500 + (offsets[i] if offsets else 0), 100 + 80 * i])
        points.append(corners + centre)
    return np.concatenate(points)


def test_a_single_curve_has_its_ends_and_the_rest_above_and_below() -> None:
    bow = spine([5, 15, 20, 0, -25, -10], [0, -20, -50, -60, -30, -2])
    angles = cobb_angles(bow, 2000)
    np.testing.assert_allclose(angles, [45, 15, 15], atol=1e-6)
    assert end_vertebrae(bow).tolist() == [2, 4]


def test_a_double_curve_takes_the_compensation_above_and_below_in_the_upper_half() -> None:
    double = spine([-10, 20, -30, 5, 0, 2], [0, 30, -30, 20, -10, 1])
    np.testing.assert_allclose(cobb_angles(double, 2000), [50, 30, 35], atol=1e-6)


def test_a_double_curve_in_the_lower_half_takes_both_from_above() -> None:
    tilts, offsets = [0.0, -4, 12, -10, 20, -30], [0.0, 20, -20, 20, -30, 1]
    low = spine(tilts, offsets)
    assert cobb_angles(low, 500)[0] == pytest.approx(50)
    np.testing.assert_allclose(cobb_angles(low, 500), [50, 30, 22], atol=1e-6)
    np.testing.assert_allclose(cobb_angles(low, 5000), [50, 30, 0], atol=1e-6)


def test_angles_do_not_change_when_the_film_is_mirrored_or_enlarged() -> None:
    rng = np.random.default_rng(0)
    films = np.stack([spine(list(rng.normal(0, 15, 17)), list(rng.normal(0, 30, 17))) for _ in range(50)])
    angles = cobb_angles(films, 1500)
    mirrored = films * [-1, 1] + [1000, 0]
    mirrored = mirrored.reshape(50, -1, 2, 2)[:, :, ::-1].reshape(films.shape)
    np.testing.assert_allclose(cobb_angles(mirrored, 1500), angles, atol=1e-3)
    np.testing.assert_allclose(cobb_angles(films * 3, 4500), angles, atol=1e-3)


def test_any_leading_shape_and_spines_with_a_missing_point() -> None:
    films = np.stack([spine([5, 15, -20]), spine([0, 0, 3])]).reshape(2, 1, 12, 2)
    films[1, 0, 4] = np.nan
    angles = cobb_angles(films, np.array([[900], [900]]))
    assert angles.shape == (2, 1, 3)
    assert angles[0, 0, 0] == pytest.approx(35)
    assert np.isnan(angles[1]).all()


@pytest.mark.parametrize("shape", [(10, 2), (8, 3), (4, 2)])
def test_points_that_are_no_vertebrae_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="corners of at least two vertebrae"):
        cobb_angles(np.zeros(shape), 100)


def test_smape_sums_within_a_film_first() -> None:
    truth = np.array([[40.0, 20.0, 20.0], [10.0, 0.0, 0.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]])
    predicted = np.array([[40.0, 10.0, 30.0], [10.0, 0.0, 20.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    assert cobb_smape(predicted, truth) == pytest.approx(100 * (20 / 160 + 20 / 40 + 0) / 3)
    assert np.isnan(cobb_smape(np.empty((0, 3)), np.empty((0, 3))))
    with pytest.raises(ValueError, match="two arrays"):
        cobb_smape(truth, truth[:2])


@pytest.mark.realdata
def test_the_published_angles_follow_from_the_published_landmarks(realdata: Path) -> None:
    folder = realdata / "spine_aasce" / "boostnet_labeldata"
    labels = folder / "labels" / "training"
    names = (labels / "filenames.csv").read_text().split("\n")[:481]
    published = np.loadtxt(labels / "angles.csv", delimiter=",")
    points = np.stack([scipy.io.loadmat(labels / f"{name}.mat")["p2"] for name in names])
    heights = [Image.open(folder / "data" / "training" / name).height for name in names]
    angles = cobb_angles(points, heights)
    assert cobb_smape(angles, published) < 0.001
    assert np.abs(angles - published).max() < 0.006, "printed with five significant digits"

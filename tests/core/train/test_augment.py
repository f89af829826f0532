"""Films and their points move together; a mirror swaps names; photometry moves nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.train.augment import (
    Augmentation,
    PhotometricStep,
    Photometry,
    Warps,
    draw_warps,
    mirror_warps,
    warp_films,
    warp_points,
)

PAIRED = LandmarkSchema("toy", ("left", "right", "nose"), ((0, 1),))
SIZE = (48, 32)


def jitter(
    mirror: float = 0.5, rotation: float = 30.0, log_scale: float = 0.2, shift: float = 0.05
) -> Augmentation:
    return Augmentation(mirror=mirror, rotation=rotation, log_scale=log_scale, shift=shift, photometric=())


def spot(image: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y)."""
    rows, columns = np.indices(image.shape)
    weight = image.astype(float) / image.sum()
    return np.array([(columns * weight).sum(), (rows * weight).sum()])


def blob(x: float, y: float) -> np.ndarray:
    """A bright spot three pixels wide at (x, y): wide enough that sampling it keeps its centre."""
    rows, columns = np.indices(SIZE)
    return np.rint(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), x=st.floats(13, 18), y=st.floats(21, 26))
def test_a_bright_spot_stays_on_its_point_under_any_drawn_map(seed: int, x: float, y: float) -> None:
    drawn = draw_warps(np.random.default_rng(seed), jitter(), np.array([[200, 600]]), SIZE)
    film = warp_films(blob(x, y)[None], drawn)[0]
    point = warp_points(np.array([[[x, y]]]), drawn, LandmarkSchema("one", ("spot",), ()))[0, 0]
    assert np.abs(spot(film) - point).max() < 0.1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_mirror_twice_is_the_identity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    films = rng.integers(0, 256, (2, *SIZE), dtype=np.uint8)
    points = rng.uniform(0, 30, (2, 3, 2))
    mirror = mirror_warps(2, SIZE[1])
    assert np.array_equal(warp_films(warp_films(films, mirror), mirror), films)
    assert np.array_equal(warp_films(films, mirror), films[:, :, ::-1])
    np.testing.assert_allclose(warp_points(warp_points(points, mirror, PAIRED), mirror, PAIRED), points)


def test_a_mirror_gives_each_point_its_partners_name_and_leaves_other_films_alone() -> None:
    points = np.array([[[2.0, 5.0], [20.0, 6.0], [11.0, 7.0]]] * 2)
    warps = Warps(np.stack([geometry.mirror_matrix(32), np.eye(3)[:2]]), np.array([True, False]))
    mirrored, kept = warp_points(points, warps, PAIRED)
    assert mirrored.tolist() == [[11.0, 6.0], [29.0, 5.0], [20.0, 7.0]]
    assert kept.tolist() == points[1].tolist()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_rotation_is_one_of_the_raw_film_not_of_the_stretched_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw_size = (600, 200)
    warps = draw_warps(rng, jitter(mirror=0, log_scale=0), np.array([raw_size[::-1]]), SIZE)
    to_raw = geometry.resize_matrix(SIZE, raw_size)
    corners = np.array([[[3.0, 4.0], [20.0, 4.0], [9.0, 40.0]]])
    before = geometry.apply(to_raw, corners[0])
    after = geometry.apply(to_raw, warp_points(corners, warps, PAIRED)[0])
    lengths = [np.linalg.norm(p - np.roll(p, 1, axis=0), axis=1) for p in (before, after)]
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-9)


def test_draws_stay_in_their_bounds_and_depend_on_the_generator_alone() -> None:
    sizes = np.tile([[200, 600]], (400, 1))
    still = draw_warps(np.random.default_rng(0), jitter(0, 0, 0, 0), sizes, SIZE)
    np.testing.assert_allclose(still.matrices, np.tile(np.eye(3)[:2], (400, 1, 1)), atol=1e-12)
    assert not still.mirrored.any()
    scaled = draw_warps(np.random.default_rng(0), jitter(0, 0, 0.3, 0), sizes, SIZE)
    factors = np.log(scaled.matrices[:, 0, 0])
    assert 0.25 < factors.max() <= 0.3
    assert -0.3 <= factors.min() < -0.25
    moved = draw_warps(np.random.default_rng(0), jitter(0, 0, 0, 0.1), sizes, SIZE).matrices[:, :, 2]
    assert 2.5 < np.abs(moved[:, 0]).max() <= 3.2
    assert 4.0 < np.abs(moved[:, 1]).max() <= 4.8
    again = draw_warps(np.random.default_rng(0), jitter(0, 0, 0, 0.1), sizes, SIZE).matrices[:, :, 2]
    assert np.array_equal(moved, again)


def test_a_missing_point_stays_missing() -> None:
    points = np.full((1, 3, 2), np.nan)
    assert np.isnan(warp_points(points, mirror_warps(1, 32), PAIRED)).all()


def steps(*named: tuple[str, dict[str, object]]) -> tuple[PhotometricStep, ...]:
    return tuple(PhotometricStep(name=name, arguments=arguments) for name, arguments in named)


def test_photometry_is_decided_by_the_generator_and_varies_every_film() -> None:
    vary = Photometry(steps(("RandomBrightnessContrast", {"p": 1.0}), ("GaussNoise", {"p": 1.0})))
    films = np.full((4, *SIZE), 100, np.uint8)
    first = vary(films, np.random.default_rng(1))
    assert np.array_equal(first, vary(films, np.random.default_rng(1)))
    assert len({film.tobytes() for film in first}) == 4
    assert (films == 100).all()


def test_photometry_rejects_what_moves_pixels_does_not_exist_or_has_wrong_arguments_all_at_once() -> None:
    wrong = steps(("HorizontalFlip", {}), ("NoSuch", {}), ("GaussNoise", {"q": 1}))
    with pytest.raises(StageError, match=r"(?s)HorizontalFlip: not a photometric.*NoSuch.*GaussNoise: .*'q'"):
        Photometry(wrong)


def test_no_photometry_imports_nothing(root: Path) -> None:
    code = (
        "import sys, numpy as np; from stages.core.train.augment import Photometry;"
        "Photometry(())(np.zeros((1, 4, 4), np.uint8), np.random.default_rng(0));"
        "sys.exit('albumentations' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0

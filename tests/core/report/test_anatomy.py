"""Drawings put points and ellipses where the data are."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from stages.core.report import anatomy, error_maps
from stages.core.report.svg import ellipse

SHAPE = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 200.0], [100.0, 200.0]])
NAMES = ("a", "b", "c", "d")
EDGES = ((0, 1), (1, 3), (3, 2), (2, 0))


def residuals(sd: tuple[float, float], bias: tuple[float, float] = (0.0, 0.0), n: int = 400) -> np.ndarray:
    return np.random.default_rng(0).normal(bias, sd, (n, 4, 2))


def draw(values: np.ndarray) -> str:
    spots = [error_maps.Spot(name, (k,)) for k, name in enumerate(NAMES)]
    return error_maps.error_map(SHAPE, values, NAMES, EDGES, spots, "px", "label", height=300)


def test_window_keeps_proportions_and_margin() -> None:
    window, width = anatomy.around(SHAPE, margin=10, height=220, side=30)
    assert window.scale == pytest.approx(1.0)
    assert width == pytest.approx(120 + 60)
    np.testing.assert_allclose(window.place(SHAPE), SHAPE + np.array([40, 10]))


def test_ellipses_have_the_spread_of_the_error_and_stand_at_its_mean() -> None:
    bias, spread = error_maps.spread_of(residuals((3, 9), (5, -2))[:, 0])
    np.testing.assert_allclose(bias, [5, -2], atol=1.2)
    np.testing.assert_allclose(np.sqrt(np.diag(spread)), [3, 9], rtol=0.1)


def test_ellipse_axes_follow_the_covariance() -> None:
    upright = ellipse(0, 0, np.diag([4.0, 25.0]), "error")
    assert re.search(r'rx="5" ry="2"', upright)
    assert abs(float(re.search(r"rotate\((-?[\d.]+)\)", upright)[1])) == pytest.approx(90)  # type: ignore[index]


def test_ellipses_and_biases_are_to_the_scale_of_the_shape() -> None:
    values = residuals((2, 4), (6, 0), n=4000)
    drawn = draw(values)
    scale = 300 / 220  # 200 px of shape and a margin of a twentieth on either side
    radii = [float(r) for r in re.findall(r'rx="([\d.]+)"', drawn)]
    assert radii == pytest.approx([4 * scale] * 4, rel=0.1)
    lines = [
        tuple(map(float, m))
        for m in re.findall(r'x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"[^>]*class="bias"', drawn)
    ]
    assert [b - a for a, b in lines] == pytest.approx([6 * scale] * 4, abs=0.5)


def test_error_map_names_every_spot_and_survives_missing_points() -> None:
    values = residuals((3, 9))
    values[:, 2] = np.nan
    values[:5, 0, 1] = np.nan
    drawn = draw(values)
    assert "nan" not in drawn
    assert drawn.count("<ellipse") == 3
    assert all(f">{name} " in drawn for name in "abd")
    assert "nan" not in draw(np.full((2, 4, 2), np.nan))


def test_spots_of_several_points_show_the_error_of_their_middle() -> None:
    values = np.zeros((50, 4, 2))
    values[:, 0, 0], values[:, 1, 0] = 8.0, -8.0  # opposite errors leave the middle in its place
    drawn = error_maps.error_map(SHAPE, values, NAMES, EDGES, [error_maps.Spot("top", (0, 1))], "px", "", 300)
    assert "top: mean error 8.00 px, bias 0 to the right, 0 down" in drawn
    values[:, 1] = np.nan
    drawn = error_maps.error_map(SHAPE, values, NAMES, EDGES, [error_maps.Spot("top", (0, 1))], "px", "", 300)
    assert "top: mean error 8.00 px, bias +8.00 to the right, 0 down" in drawn
    assert "nan" not in drawn


def test_a_film_keeps_raw_proportions_and_names_its_points() -> None:
    marks = [anatomy.Marks("label", SHAPE, "truth"), anatomy.Marks("prediction", SHAPE + 3, "prediction")]
    drawn = anatomy.film(None, (150, 300), marks, NAMES, EDGES, "film 1", height=100)
    assert 'viewBox="0 0 50 100"' in drawn
    assert drawn.count("<circle") == 8
    assert "<image" not in drawn
    assert '<g class="plain">' in drawn
    assert "<title>a (label)</title>" in drawn
    assert drawn.count('class="link"') == 1


def test_pixel_centres_lie_half_a_pixel_inside_the_film() -> None:
    corners = np.array([[0.0, 0.0], [149.0, 299.0]])
    drawn = anatomy.film(
        None, (150, 300), [anatomy.Marks("label", corners, "truth")], ("a", "b"), (), "", 600
    )
    places = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert places == [("1", "1"), ("299", "599")]  # two drawing pixels a film pixel


def test_without_names_only_lines_are_drawn() -> None:
    marks = [anatomy.Marks("label", SHAPE, "truth")]
    assert "<circle" not in anatomy.film(None, (150, 300), marks, (), EDGES, "", height=100)


def test_an_embedded_film_is_the_film() -> None:
    image = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    uri = anatomy.film_jpeg(image, 95)
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.abs(back.astype(int) - image).max() <= 6
    assert anatomy.film_jpeg(image, 95) == uri


def test_lines_without_an_end_are_left_out() -> None:
    points = SHAPE.copy()
    points[1] = np.nan
    drawn = anatomy.chains(points, EDGES, "curve")
    assert drawn is not None
    assert drawn.count("L") == 2
    assert anatomy.chains(np.full((4, 2), np.nan), EDGES, "curve") is None


@pytest.mark.parametrize(("extent", "length"), [(1000, 200), (999, 100), (60, 10), (0.7, 0.1)])
def test_scale_bars_are_round(extent: float, length: float) -> None:
    assert anatomy.round_length(extent) == pytest.approx(length)


def test_stick_figures_have_two_views_of_every_pose() -> None:
    pose = np.random.default_rng(1).normal(0, 40, (17, 3))
    poses = {"truth": ("truth", pose), "before": ("before", pose + np.array([0, 0, 10]))}
    drawn = anatomy.stick_figures(poses, [(0, 1), (1, 2)], "label", height=200)
    assert drawn.count("<path") == 4
    assert "nan" not in drawn

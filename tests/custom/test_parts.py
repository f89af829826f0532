"""The parts of a described lane that can be wrong by themselves: split, shape, pictures, radii, network, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import assign_roles
from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.core.train.augment import Augmentation
from stages.core.train.plan import Phase, Plan
from stages.custom.locating.inference import Locator
from stages.custom.locating.network import codec, read
from stages.custom.locating.pictures import to_pictures
from stages.custom.locating.settings import InputSize, LocatorSettings, Network, Step
from stages.custom.locating.training import Films, fit
from stages.custom.measures import errors_mm, errors_percent
from stages.custom.radius import RadiusModel
from stages.custom.shape import completed, extents, mean_shape
from stages.custom.split import LEAST, best_salt, best_shares, require_enough
from tests.custom.drawn import SHAPE

NETWORK = Network(
    backbone="tf_efficientnet_lite0", weights="random", channels=8, stride=4, dropout=0.0, sigma=4.0
)


@pytest.mark.parametrize("n", [30, 40, 60, 200])
def test_small_sets_have_enough_of_every_role(n: int) -> None:
    patients = [f"patient {i}" for i in range(n)]
    shares = best_shares(n)
    roles = assign_roles(patients, shares, best_salt(patients, shares))
    require_enough(pd.DataFrame({"patient": patients, "role": roles}))
    assert sum(shares.values()) == pytest.approx(1)


def test_films_that_come_later_move_nobody() -> None:
    patients = [f"patient {i}" for i in range(45)]
    shares = best_shares(45)
    salt = best_salt(patients, shares)
    before = assign_roles(patients, shares, salt)
    after = assign_roles([*patients, *(f"newcomer {i}" for i in range(30))], shares, salt)
    assert (after[:45] == before).all()


def test_too_few_patients_are_said_to_be() -> None:
    with pytest.raises(StageError, match=f"11 patients .* too few: {sum(LEAST.values())} are needed"):
        best_shares(11)
    roles = ["train"] * 12 + ["val"] * 4 + ["gate"] * 2 + ["test"] * 6
    with pytest.raises(StageError, match=r"gate 2 \(of 6\)"):
        require_enough(pd.DataFrame({"patient": [str(i) for i in range(24)], "role": roles}))


@given(scale=st.floats(0.2, 40), x=st.floats(-500, 500), y=st.floats(-500, 500), lost=st.integers(0, 5))
def test_a_missing_point_is_where_the_usual_shape_has_it(scale: float, x: float, y: float, lost: int) -> None:
    usual = mean_shape(np.stack([SHAPE, 3 * SHAPE + 7]))
    film = scale * SHAPE + (x, y)
    gap = film.copy()
    gap[lost] = np.nan
    np.testing.assert_allclose(completed(gap[None], usual)[0], film, atol=1e-6 * scale)
    np.testing.assert_allclose(extents(gap[None], usual), extents(film[None], usual))


def test_a_landmark_that_films_lack_has_a_place_in_the_usual_shape() -> None:
    films = np.stack([SHAPE * s for s in (50, 70, 90)])
    films[0, 2] = np.nan
    films[1, 4] = np.nan
    np.testing.assert_allclose(mean_shape(films), mean_shape(np.stack([SHAPE])), atol=1e-4)


@given(scale=st.floats(0.1, 20))
def test_errors_in_percent_are_the_same_on_films_of_any_size(scale: float) -> None:
    usual = mean_shape(SHAPE[None])
    truth, found = 100 * SHAPE[None], 100 * SHAPE[None] + (3.0, 4.0)
    wanted = errors_percent(found, truth, usual)
    np.testing.assert_allclose(errors_percent(scale * found, scale * truth, usual), wanted)
    np.testing.assert_allclose(wanted, 100 * 5 / np.hypot(*(100 * np.ptp(SHAPE, axis=0))))


def test_errors_in_mm_follow_each_axis_and_are_unknown_without_spacing() -> None:
    truth = np.zeros((2, 3, 2))
    found = truth + np.array([3.0, 4.0])
    mm = errors_mm(found, truth, np.array([[2.0, 1.0], [np.nan, np.nan]]))
    np.testing.assert_allclose(mm[0], np.hypot(6, 4))
    assert np.isnan(mm[1]).all()


@settings(max_examples=20)
@given(width=st.integers(40, 300), height=st.integers(40, 300))
def test_pictures_keep_the_proportions_and_maps_follow_them(width: int, height: int) -> None:
    film = np.full((height, width), 20, np.uint8)
    x, y = width // 3, height // 2
    film[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = 255
    stored = geometry.resize(film, (160, 128))
    pictures, maps = to_pictures(stored[None], np.array([[width, height]]), (96, 96))
    to_picture = geometry.compose(geometry.resize_matrix((height, width), (160, 128)), maps[0])
    rounded = 0.5 / (96 * min(width, height) / max(width, height) - 0.5)
    assert to_picture[0, 0] == pytest.approx(to_picture[1, 1], rel=rounded + 1e-6), "but for whole pixels"
    place = np.argwhere(pictures[0] > 150).mean(0)[::-1]
    rows, columns = np.nonzero(film == 255)
    np.testing.assert_allclose(
        place, geometry.apply(to_picture, np.array([columns.mean(), rows.mean()])), atol=1.0
    )
    corners = geometry.apply(to_picture, np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    assert (corners > -0.51).all()
    assert (corners < 95.51).all()


def test_perfect_maps_give_their_points_back() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(8, 88, (4, 5, 2))).float()
    target = codec(NETWORK).encode(points, (96, 96))
    found, spread = read(target.clamp_min(1e-12).log(), NETWORK)
    assert (found - points).norm(dim=-1).mean() < 0.03
    assert spread.mean() == pytest.approx(NETWORK.sigma, rel=0.1)


def test_discs_hold_what_they_claim_on_films_like_those_of_the_calibration() -> None:
    rng = np.random.default_rng(0)

    def films(n: int) -> tuple[np.ndarray, np.ndarray]:
        spread = rng.uniform(1, 5, (n, 20))
        return spread, spread * np.abs(rng.normal(0, 1, (n, 20)))

    spread, errors = films(40)
    errors[3, 4] = np.nan
    fitted = RadiusModel.fit(spread, errors, 0.9)
    told, actual = films(2000)
    assert (actual <= fitted.radii(told)).mean() == pytest.approx(0.9, abs=0.03)
    assert RadiusModel.from_array(fitted.to_array()) == fitted


def plan(epochs: int) -> Plan:
    phase = Phase(
        name="all",
        epochs=epochs,
        rates={"backbone": 0.003, "head": 0.003},
        weights={"cross_entropy": 1.0, "l1_cells": 0.1},
    )
    return Plan(
        batch_size=4, weight_decay=0.0, schedule="one-cycle", warmup=0.2, clip_norm=1.0, ema_decay=0.0, patience=0,
        monitor="", precision="float32", checkpoint_every=10, phases=(phase,),
    )  # fmt: skip


def tiny(epochs: int, mirror: float = 0.0) -> LocatorSettings:
    augment = Augmentation(mirror=mirror, rotation=20, log_scale=0.1, shift=0.1, photometric=())
    return LocatorSettings(
        network=NETWORK,
        augment=augment,
        rotations=(0.0,),
        steps=(
            Step(input=InputSize(height=32, width=32), fit=plan(1)),
            Step(input=InputSize(height=64, width=64), fit=plan(epochs)),
        ),
    )


def spots(n: int, missing: bool) -> Films:
    """Films (80, 64) with three spots of different brightness; some points are not labelled."""
    rng = np.random.default_rng(3)
    points = np.array([(16.0, 20.0), (48.0, 20.0), (32.0, 60.0)]) + rng.uniform(-6, 6, (n, 1, 2))
    rows, columns = np.mgrid[:80, :64]
    images = np.full((n, 80, 64), 40.0)
    for i, film in enumerate(points):
        for k, (x, y) in enumerate(film):
            images[i] += (60 + 50 * k) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    labels = points.copy()
    if missing:
        labels[::2, 1] = np.nan
    return Films(images.clip(0, 255).astype(np.uint8), labels, np.tile([128, 160], (n, 1)))


def test_a_landmark_that_half_the_films_lack_is_learned_from_the_others(tmp_path: Path) -> None:
    schema = LandmarkSchema(lane="thing", names=("a", "b", "c"), pairs=())
    train, val = spots(24, missing=True), spots(24, missing=False)
    wanted = tiny(24, mirror=1.0)
    observe = Observer.quiet(tmp_path / "scratch")
    network, epochs = fit(wanted, schema, train, val, observe, 1, 1, "cpu")
    assert epochs == 25
    assert sorted(observe.history) == list(range(1, 26)), "epochs are counted on over the steps"
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    found = Locator(network, wanted, (64, 64), torch.device("cpu")).locate(val.images, val.sizes_raw)
    off = np.linalg.norm(found.points - val.points, axis=-1).mean(0)
    apart = np.linalg.norm(val.points - val.points.mean(0), axis=-1).mean(0)
    assert (off < 0.8 * apart).all(), "nearer than a mean shape, and without partners no film was mirrored"


def test_a_loss_that_is_not_there_is_named(tmp_path: Path) -> None:
    wanted = tiny(1)
    phase = wanted.steps[1].fit.phases[0].model_copy(update={"weights": {"wing": 1.0}})
    steps = (
        wanted.steps[0],
        wanted.steps[1].model_copy(
            update={"fit": wanted.steps[1].fit.model_copy(update={"phases": (phase,)})}
        ),
    )
    schema = LandmarkSchema(lane="thing", names=("a", "b", "c"), pairs=())
    with pytest.raises(StageError, match="no losses wing; there are cross_entropy, l1_cells"):
        fit(
            wanted.model_copy(update={"steps": steps}),
            schema,
            spots(4, False),
            spots(4, False),
            Observer.quiet(tmp_path),
            1,
            1,
            "cpu",
        )

"""Floors of the lateral films: what is written, that they learn something, and what the real films give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.ceph import convert, floors, split
from stages.ceph.raw.inventory import film_ids
from stages.ceph.schema import CEPH
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import write_split
from stages.core.floors.fitting import METHODS
from stages.core.floors.stage import read_predictions
from stages.core.stage import Observer

from .conftest import Lane, contents, convert_params, floor_params, split_params


@pytest.fixture(scope="module")
def fitted(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("floors")
    observe = Observer.quiet(folder / "s")
    return folder / "floors", floors.run(floor_params(), lane.films, lane.split, folder / "floors", observe)


def test_every_film_that_is_not_trained_on_has_a_prediction_of_each_floor(lane: Lane, fitted):
    labelled = LabelledFilms.open(lane.films, lane.split)
    rows = labelled.rows("val", "gate", "test")
    predicted = read_predictions(fitted[0], labelled, rows)
    assert set(predicted) == set(METHODS)
    for points in predicted.values():
        assert points.shape == (len(rows), CEPH.n_points, 2)
        assert np.isfinite(points).all()


def test_seeing_the_film_beats_the_mean_shape(fitted):
    metrics = fitted[1]
    for role in ("gate", "test"):
        assert metrics[f"hog_kernel_ridge_{role}_raw_px"] < 0.75 * metrics[f"mean_shape_{role}_raw_px"]


def test_mirrored_films_are_not_trained_on(lane: Lane, fitted):
    """A mean over lateral films and their mirror images would lie on the middle of the film."""
    labelled = LabelledFilms.open(lane.films, lane.split)
    train = labelled.landmarks_raw[labelled.trainable()]
    components = fitted[1]["pca_components"]
    flat = (train - train.mean(0)).reshape(len(train), -1)
    variance = np.linalg.svd(flat, compute_uv=False) ** 2
    needed = 1 + np.searchsorted(np.cumsum(variance) / variance.sum(), floor_params().variance)
    assert abs(components - needed) <= 1


def test_same_bytes_twice(lane: Lane, fitted, tmp_path: Path):
    floors.run(floor_params(), lane.films, lane.split, tmp_path / "floors", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "floors") == contents(fitted[0])


@pytest.mark.realdata
@pytest.mark.slow
def test_the_real_floors_are_far_from_the_published_networks(realdata: Path, tmp_path: Path):
    """In mm at 0.25 mm a px of the films; published networks reach 1.1 to 1.7 mm on the same test films."""
    data = tmp_path / "data" / "ceph"
    raw = realdata / "ceph_isbi2015"
    observe = Observer.quiet(tmp_path / "s")
    convert.run(convert_params(size=(240, 192)), raw, data / "films", observe)
    ids = FilmSet.open(data / "films").ids
    numbered = split.isbi_roles([path.stem for path in (raw / "images").glob("*.jpg")])
    assert numbered is not None
    shares = split_params().shares.model_dump()
    roles = split.given_roles(ids, film_ids(numbered), numbered, shares, seed=20)
    table = FilmSet.open(data / "films").table[["id", "patient"]].assign(role=roles)
    write_split(data / "split.parquet", table)
    assert (roles == "test").sum() == 150
    metrics = floors.run(floor_params(), data / "films", data / "split.parquet", data / "floors", observe)
    assert 2.0 < 0.25 * metrics["hog_kernel_ridge_test_raw_px"] < 5.0
    assert metrics["hog_kernel_ridge_test_raw_px"] < metrics["mean_shape_test_raw_px"]

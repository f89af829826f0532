"""Errors say their unit, count labelled points only, and land in tables of one form."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate import errors


def test_a_radial_error_is_a_distance_and_missing_labels_have_none() -> None:
    truth = np.array([[[0.0, 0.0], [10.0, 10.0], [np.nan, np.nan]]])
    predicted = np.array([[[3.0, 4.0], [10.0, 10.0], [7.0, 7.0]]])
    radial = errors.radial_errors(predicted, truth)
    np.testing.assert_array_equal(radial, [[5.0, 0.0, np.nan]])
    np.testing.assert_array_equal(errors.film_errors(radial), [2.5])
    np.testing.assert_array_equal(errors.film_errors(np.full((1, 3), np.nan)), [np.nan])
    assert errors.success_rate(radial, 4.9) == 0.5
    assert errors.success_rate(radial, 5.0) == 1.0
    assert np.isnan(errors.success_rate(np.full((1, 3), np.nan), 5.0))


def test_a_labelled_point_without_a_prediction_is_an_error_not_a_gap() -> None:
    truth, predicted = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    predicted[1, 0, 1] = np.nan
    with pytest.raises(ValueError, match=r"1 labelled points in films \[1\]"):
        errors.radial_errors(predicted, truth)
    with pytest.raises(ValueError, match="two arrays"):
        errors.radial_errors(predicted[:2], truth)


@given(width=st.integers(50, 3000), height=st.integers(50, 3000), side=st.sampled_from([224, 512]))
def test_a_fixed_frame_stretches_each_film_on_its_own(width: int, height: int, side: int) -> None:
    truth = np.array([[[10.0, 20.0]]])
    predicted = truth + np.array([width / 10, 0.0])
    sizes = np.array([[width, height]])
    assert errors.scaled_errors(predicted, truth, sizes, (side, side))[0, 0] == pytest.approx(side / 10)
    predicted = truth + np.array([0.0, height / 4])
    assert errors.scaled_errors(predicted, truth, sizes, (2 * side, side))[0, 0] == pytest.approx(side / 2)


def test_a_summary_is_over_films_and_names_its_unit() -> None:
    radial = np.array([[1.0, 3.0], [4.0, 4.0], [np.nan, 6.0], [np.nan, np.nan]])
    summary = errors.summarise(radial, "px224", thresholds=(3, 4.5))
    assert summary["n_films"] == 3
    assert summary["mean_px224"] == pytest.approx(4.0)
    assert summary["median_px224"] == 4.0
    assert summary["sd_px224"] == pytest.approx(2.0)
    assert summary["sdr_3_px224"] == pytest.approx(2 / 5)
    assert summary["sdr_4.5_px224"] == pytest.approx(4 / 5)
    assert summary["p10_px224"] < summary["p90_px224"]
    assert np.isnan(errors.summarise(radial[3:], "px224")["mean_px224"])
    classes = errors.by_class(radial, ["b", "a", "b", "a"], "px224")
    assert list(classes) == ["a", "b"]
    assert classes["b"]["mean_px224"] == pytest.approx(4.0)


def judged(blob_store, method: str, offset: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    labelled = blob_store.open()
    rows = labelled.rows("gate", "test")
    predicted = labelled.landmarks_raw[rows].astype(np.float64) + np.array([offset, 0.0])
    return (
        errors.film_table(labelled, rows, method, predicted, {"px224": (224, 224)}),
        errors.point_table(labelled, rows, method, predicted),
    )


def test_tables_hold_every_film_and_point_of_each_method(blob_store, tmp_path) -> None:
    films, points = zip(judged(blob_store, "net", 3.0), judged(blob_store, "floor", 5.0), strict=True)
    unit = [tables.column("error_px224", pa.float32(), "px at 224 x 224")]
    for folder in ("a", "b"):
        order = slice(None) if folder == "a" else slice(None, None, -1)
        errors.write_tables(tmp_path / folder, pd.concat(films[order]), pd.concat(points[order]), unit)
    for name in ("per_film.parquet", "per_point.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    per_film = tables.read_table(tmp_path / "a" / "per_film.parquet")
    assert per_film.groupby("method").size().to_dict() == {"floor": 32, "net": 32}
    np.testing.assert_allclose(per_film.loc[per_film["method"] == "net", "error_raw_px"], 3.0, rtol=1e-5)
    assert per_film.loc[per_film["suspect"], "id"].unique().tolist() == ["blobs-090"]
    labelled = blob_store.open()
    widths = dict(zip(labelled.films.ids, labelled.films.sizes_raw[:, 0], strict=True))
    expected = 5.0 * 224 / per_film["id"].map(widths)
    floor = per_film["method"] == "floor"
    np.testing.assert_allclose(per_film.loc[floor, "error_px224"], expected[floor], rtol=1e-5)

    per_point = tables.read_table(tmp_path / "a" / "per_point.parquet")
    assert len(per_point) == 2 * 32 * 5
    one = per_point[(per_point["method"] == "net") & (per_point["id"] == "blobs-064")]
    assert one["point"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(one["x_raw"] - one["x_label_raw"], 3.0, rtol=1e-4)
    np.testing.assert_array_equal(one[["x_label_raw", "y_label_raw"]].to_numpy(), labelled.landmarks_raw[64])


def test_undeclared_columns_and_films_judged_twice_are_refused(blob_store, tmp_path) -> None:
    per_film, per_point = judged(blob_store, "net", 1.0)
    with pytest.raises(StageError, match="error_px224"):
        errors.write_tables(tmp_path, per_film, per_point)
    with pytest.raises(StageError, match="judged twice"):
        errors.write_tables(tmp_path, pd.concat([per_film, per_film]), per_point)

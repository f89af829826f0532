"""Both models on every held-out film of both sets: tables, units, readers and figures agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.ceph.evaluation.calibration import calibration_summary, reliability
from stages.ceph.evaluation.films import SETS, Answers, JudgedFilms
from stages.ceph.evaluation.judge import MM, PERCENT, judge_films, sn_lengths
from stages.ceph.readers import read_readers, reader_points
from stages.ceph.schema import INDEX
from stages.core.data import tables
from stages.core.data.split import read_split, write_split
from stages.core.errors import StageError

from .judged import BOOTSTRAP, EXPECTED, RAW, SHAPE, SHIFTED, SIZE, SPACING_MM, Judged, evaluated, write_lane

METHODS = {"base", "tuned", "mean_shape", "pca_shape", "hog_kernel_ridge"}


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return write_lane(tmp_path_factory.mktemp("lane") / "ceph", lost=[(0, 4)])


@pytest.fixture(scope="module")
def metrics(lane: Judged) -> dict[str, float]:
    return evaluated(lane)


def read(lane: Judged, name: str, table: str = "per_film") -> pd.DataFrame:
    return tables.read_table(lane.evaluation / name / f"{table}.parquet")


@pytest.mark.usefixtures("metrics")
def test_every_held_out_film_is_judged_by_every_method_and_no_other(lane: Judged) -> None:
    for name, split, roles in (
        ("base", lane.split, {"val", "gate", "test"}),
        ("clinic", lane.clinic_split, {"gate", "test"}),
    ):
        expected = read_split(split)
        expected = expected[expected["role"].isin(roles)]
        table = read(lane, name)
        assert set(table["method"]) == (METHODS if name == "base" else METHODS | {"reader_b"})
        for _, own in table.groupby("method"):
            assert sorted(own["id"]) == sorted(expected["id"])


@pytest.mark.usefixtures("metrics")
def test_errors_in_mm_and_in_percent_are_those_of_the_points(lane: Judged) -> None:
    table = read(lane, "base", "radial")
    np.testing.assert_allclose(table[MM], table["error_raw_px"] * SPACING_MM, rtol=1e-5)
    points = read(lane, "base", "per_point").set_index(["id", "method", "point"])
    placed = points[["x_label_raw", "y_label_raw"]]
    ends = [placed.xs(INDEX[name], level="point").to_numpy() for name in ("sella", "nasion")]
    apart = pd.Series(np.hypot(*(ends[1] - ends[0]).T), placed.xs(INDEX["sella"], level="point").index)
    own = apart.loc[list(zip(table["id"], table["method"], strict=True))].to_numpy()
    np.testing.assert_allclose(table[PERCENT], 100 * table["error_raw_px"] / own, rtol=1e-4)
    means = table.groupby(["method", "id"])[PERCENT].mean()
    films = read(lane, "base").set_index(["method", "id"])[PERCENT]
    np.testing.assert_allclose(means.loc[films.index], films, rtol=1e-4)


@pytest.mark.usefixtures("metrics")
def test_without_a_spacing_there_are_no_millimetres_but_percent(lane: Judged) -> None:
    for table in (read(lane, "clinic"), read(lane, "clinic", "radial")):
        assert table[MM].isna().all()
    films = read(lane, "clinic")
    assert films[PERCENT].notna().all()
    compared = pd.read_csv(lane.evaluation / "clinic" / "comparison.csv")
    assert set(compared["error"]) == {PERCENT}
    assert set(pd.read_csv(lane.evaluation / "base" / "comparison.csv")["error"]) == {MM, PERCENT}


def test_sn_is_measured_along_each_axis_and_in_px_where_there_is_no_spacing() -> None:
    truth = np.tile(SHAPE, (2, 1, 1))
    apart = SHAPE[INDEX["nasion"]] - SHAPE[INDEX["sella"]]
    found = sn_lengths(truth, np.array([[0.2, 0.5], [np.nan, np.nan]]))
    np.testing.assert_allclose(found, [np.hypot(*(apart * [0.2, 0.5])), np.hypot(*apart)])


@pytest.mark.usefixtures("metrics")
def test_expected_errors_travel_from_model_px_to_the_units_of_errors(lane: Judged) -> None:
    table = read(lane, "base", "radial")
    own = table[table["method"].isin(["base", "tuned"])]
    scale = np.sqrt(RAW[0] / SIZE[1] * RAW[1] / SIZE[0])
    np.testing.assert_allclose(own["expected_raw_px"], EXPECTED * scale, rtol=1e-5)
    np.testing.assert_allclose(own["expected_mm"], EXPECTED * scale * SPACING_MM, rtol=1e-5)
    ratio = own["expected_percent_sn"] / own[PERCENT]
    np.testing.assert_allclose(ratio, own["expected_mm"] / own[MM], rtol=1e-4)
    floors = table[~table["method"].isin(["base", "tuned"])]
    assert floors["expected_raw_px"].isna().all()


@pytest.mark.usefixtures("metrics")
def test_a_point_that_the_reader_did_not_set_counts_nowhere(lane: Judged) -> None:
    radial = read(lane, "clinic", "radial")
    film = read_split(lane.clinic_split).query("role == 'test'")["id"].iloc[0]
    lost = radial[(radial["id"] == film) & (radial["point"] == 4)]
    assert lost["error_raw_px"].isna().all()
    rest = radial[(radial["id"] == film) & (radial["point"] != 4) & (radial["method"] == "base")]
    films = read(lane, "clinic").set_index(["id", "method"])
    assert films.loc[(film, "base"), PERCENT] == pytest.approx(rest[PERCENT].mean(), rel=1e-5)
    assert np.isnan(films.loc[(film, "base"), "sna_error_deg"])
    assert np.isfinite(films.loc[(film, "base"), "snb_error_deg"])


@pytest.mark.usefixtures("metrics")
def test_the_other_reader_is_judged_like_a_method_and_readers_like_each_other(lane: Judged) -> None:
    table = read(lane, "clinic", "readers")
    assert set(table["reader"]) == {"a", "b"} == set(read_readers(lane.clinic)["reader"])
    a_by_b = table[(table["reader"] == "a") & (table["method"] == "reader_b")].set_index("id")
    b_by_a = table[(table["reader"] == "b") & (table["method"] == "reader_a")].set_index("id")
    np.testing.assert_allclose(a_by_b[PERCENT], b_by_a[PERCENT].loc[a_by_b.index], rtol=0.1)
    films = read(lane, "clinic").query("method == 'reader_b'").set_index("id")
    np.testing.assert_allclose(films[PERCENT], a_by_b[PERCENT].loc[films.index], rtol=1e-6)
    ids = films.index.to_numpy()
    apart = np.linalg.norm(
        reader_points(lane.clinic, "a", ids) - reader_points(lane.clinic, "b", ids), axis=-1
    )
    np.testing.assert_allclose(films["error_raw_px"], np.nanmean(apart, axis=1), rtol=1e-5)


def test_the_tuned_model_is_found_better_where_the_convention_differs(
    lane: Judged, metrics: dict[str, float]
) -> None:
    compared = pd.read_csv(lane.evaluation / "clinic" / "comparison.csv")
    one = compared.query("role == 'test' and method_a == 'tuned' and method_b == 'base'").iloc[0]
    assert one["verdict"] == "better"
    assert metrics["clinic_test_tuned_gonion_percent_sn"] < metrics["clinic_test_base_gonion_percent_sn"]
    assert metrics["clinic_test_tuned_sella_percent_sn"] == pytest.approx(
        metrics["clinic_test_base_sella_percent_sn"]
    )
    assert metrics["test_tuned_mre_mm"] == pytest.approx(metrics["test_base_mre_mm"])


def test_figures_agree_with_the_tables(lane: Judged, metrics: dict[str, float]) -> None:
    films = read(lane, "base").query("method == 'base' and role == 'test'")
    radial = read(lane, "base", "radial").query("method == 'base' and role == 'test'")
    assert metrics["test_base_n_films"] == len(films) == 10
    assert metrics["test_base_mre_mm"] == pytest.approx(films[MM].mean(), rel=1e-5)
    assert metrics["test_base_mre_mm_low"] < metrics["test_base_mre_mm"] < metrics["test_base_mre_mm_high"]
    for limit, name in ((2.0, "sdr2"), (2.5, "sdr25"), (3.0, "sdr3"), (4.0, "sdr4")):
        assert metrics[f"test_base_{name}"] == pytest.approx(100 * (radial[MM] <= limit).mean())
    assert metrics["test_base_sdr2"] < metrics["test_base_sdr4"]
    own = films["anb_error_deg"]
    assert metrics["test_base_anb_mae_deg"] == pytest.approx(own.abs().mean(), rel=1e-5)
    assert metrics["test_base_anb_bias_deg"] == pytest.approx(own.mean(), rel=1e-4)
    assert metrics["test_base_anb_within2"] == pytest.approx(100 * (own.abs() <= 2).mean())
    assert metrics["test_base_worst5_mm"] == pytest.approx(np.percentile(films[MM], 95), rel=1e-5)
    assert "clinic_test_base_mre_mm" not in metrics
    assert metrics["clinic_test_base_mre_percent_sn"] > metrics["clinic_test_tuned_mre_percent_sn"]
    json.dumps({name: float(value) for name, value in metrics.items()})


@pytest.mark.usefixtures("metrics")
def test_same_bytes_twice(lane: Judged, tmp_path: Path) -> None:
    evaluated(lane, tmp_path / "again")
    for name in SETS:
        for file in sorted((lane.evaluation / name).iterdir()):
            assert file.read_bytes() == (tmp_path / "again" / name / file.name).read_bytes(), file.name


def test_a_model_of_another_split_is_refused(lane: Judged, tmp_path: Path) -> None:
    table = read_split(lane.split)
    table["role"] = table["role"].replace({"test": "train", "train": "test"})
    moved = write_lane(tmp_path / "ceph")
    write_split(moved.split, table)
    with pytest.raises(StageError, match=r"base, .*tuned: trained on another split"):
        evaluated(moved)


def test_films_of_both_sets_must_have_names_of_their_own(tmp_path: Path) -> None:
    lane = write_lane(tmp_path / "ceph")
    base = JudgedFilms.of_base(lane.films, lane.split)
    from stages.ceph.evaluate import require_apart

    with pytest.raises(StageError, match="film-000"):
        require_apart((base, base))


def test_a_reader_who_is_not_there_is_named(lane: Judged, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="reader 'z'"):
        evaluated(lane, tmp_path / "out", reader="z")


def test_stores_of_another_size_than_the_model_reads_are_refused(lane: Judged) -> None:
    films = JudgedFilms.of_base(lane.films, lane.split)

    class Larger:
        stored_size = (80, 64)

    with pytest.raises(StageError, match=r"48 x 60 px, models/base reads 64 x 80"):
        films.asked(Larger(), Path("models/base"))  # type: ignore[arg-type]


def test_points_nobody_set_leave_a_film_without_an_error(lane: Judged) -> None:
    films = JudgedFilms.of_base(lane.films, lane.split)
    points = np.full((len(films.rows), 19, 2), np.nan)
    points[1:] = films.truth[1:]
    table = judge_films(films, "nobody", Answers(points))
    assert np.isnan(table["error_raw_px"].iloc[0])
    assert (table["error_raw_px"].iloc[1:] == 0).all()


def radial_rows(expected: np.ndarray, actual: np.ndarray) -> pd.DataFrame:
    ids = np.repeat([f"f{i}" for i in range(len(expected) // 20)], 20)
    return pd.DataFrame(
        {
            "id": ids,
            "patient": ids,
            "role": "test",
            "method": "base",
            "error_mm": actual,
            "expected_mm": expected,
        }
    )


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_groups_by_expected_error_show_whether_it_is_right(factor: float) -> None:
    rng = np.random.default_rng(1)
    expected = rng.uniform(0.5, 4, 8000)
    actual = factor * expected * rng.rayleigh(np.sqrt(2 / np.pi), 8000)
    table = reliability(radial_rows(expected, actual), ["base"], ["mm"], 8, BOOTSTRAP, 1)
    assert len(table) == 8
    assert table["n_points"].sum() == 8000
    assert (np.diff(table["expected"]) > 0).all()
    np.testing.assert_allclose(table["actual"] / table["expected"], factor, rtol=0.1)
    inside = (table["low"] <= factor * table["expected"]) & (factor * table["expected"] <= table["high"])
    assert inside.mean() > 0.6
    summary = calibration_summary(expected, actual, 8)
    assert summary["ratio"] == pytest.approx(factor, rel=0.03)
    assert summary["gap"] == pytest.approx(abs(1 - 1 / factor), abs=0.06)
    assert summary["rank_correlation"] > 0.4


def test_calibration_of_nothing_is_nothing() -> None:
    nothing = calibration_summary(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), 4)
    assert all(np.isnan(value) for value in nothing.values())


def test_the_readers_convention_is_what_the_base_lacks(lane: Judged) -> None:
    """The stand-in lane plants its shift at one landmark alone."""
    radial = read(lane, "clinic", "radial").query("method == 'base' and role == 'test'")
    means = radial.groupby("point")["error_raw_px"].mean()
    assert means.idxmax() == SHIFTED

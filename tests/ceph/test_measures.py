"""Millimetres axis by axis and film by film, detection rates in percent, and what the description counted instead."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.ceph import reference
from stages.ceph.measures import SDR_MM, angle_errors, errors_mm, errors_percent_sn, figures, sdr_name
from stages.ceph.schema import CEPH, INDEX
from stages.core.evaluate.statistics import Bootstrap
from stages.core.model.codecs import GaussianHeatmap

BOOTSTRAP = Bootstrap(resamples=200, level=0.9, method="percentile", minimum_groups=3)


def labels(n: int = 8, seed: int = 0) -> np.ndarray:
    """(n, 19, 2) raw px, sella and nasion 300 px apart."""
    points = np.random.default_rng(seed).uniform(100, 900, (n, CEPH.n_points, 2))
    points[:, INDEX["sella"]] = [300.0, 300.0]
    points[:, INDEX["nasion"]] = [600.0, 300.0]
    return points


def missed_by(truth: np.ndarray, dx: float, dy: float) -> np.ndarray:
    return truth + np.array([dx, dy])


def reported(predicted: np.ndarray, truth: np.ndarray, spacing: np.ndarray) -> dict:
    found = figures(predicted, truth, spacing, np.arange(len(truth)), BOOTSTRAP, 0)
    json.dumps(found, allow_nan=False)
    return found


def test_each_axis_has_its_own_spacing() -> None:
    truth = labels()
    spacing = np.tile([0.1, 0.5], (len(truth), 1))
    found = errors_mm(missed_by(truth, 30, 8), truth, spacing)
    assert found == pytest.approx(5.0)  # 3 mm along x, 4 mm along y


def test_each_film_has_its_own_spacing_and_unknown_ones_have_no_mm() -> None:
    truth = labels(3)
    spacing = np.array([[0.1, 0.1], [0.2, 0.2], [np.nan, np.nan]])
    found = errors_mm(missed_by(truth, 30, 40), truth, spacing)
    assert found[0] == pytest.approx(5.0)
    assert found[1] == pytest.approx(10.0)
    assert np.isnan(found[2]).all()


@given(st.floats(0.05, 2.0))
def test_the_share_of_sn_does_not_depend_on_the_size_of_a_pixel(mm: float) -> None:
    truth = labels(2)
    spacing = np.array([[mm, mm], [np.nan, np.nan]])
    assert errors_percent_sn(missed_by(truth, 0, 3), truth, spacing) == pytest.approx(1.0)


def test_rates_are_percent_of_all_points_within_each_distance() -> None:
    truth = labels()
    predicted = truth.copy()
    predicted[:, 0] += [22.0, 0.0]  # 2.2 mm
    predicted[:, 1] += [0.0, 35.0]  # 3.5 mm
    predicted[:, 2] += [50.0, 0.0]  # 5 mm
    found = reported(predicted, truth, np.full((len(truth), 2), 0.1))
    shares = [100 * within / CEPH.n_points for within in (16, 17, 17, 18)]
    assert [found[sdr_name(t)] for t in SDR_MM] == pytest.approx(shares)
    assert found["mre_mm"] == pytest.approx((2.2 + 3.5 + 5.0) / CEPH.n_points)
    assert found["by_landmark"][CEPH.names[2]] == pytest.approx({"mre_mm": 5.0, "mre_px": 50.0, "sdr2": 0.0})


def test_without_a_spacing_there_are_pixels_and_shares_but_no_mm() -> None:
    truth = labels()
    found = reported(missed_by(truth, 3, 4), truth, np.full((len(truth), 2), np.nan))
    assert found["mre_px"] == pytest.approx(5.0)
    assert found["mre_percent_sn"] == pytest.approx(100 * 5 / 300)
    assert found["intervals"]["mre_px"] == pytest.approx([5.0, 5.0])
    assert [found[name] for name in ("mre_mm", "median_mm", "sdr2", "sdr4")] == [None] * 4
    assert found["intervals"]["mre_mm"] is None


def test_an_interval_holds_its_mean() -> None:
    truth = labels(20)
    predicted = truth + np.random.default_rng(1).normal(0, 12, truth.shape)
    found = reported(predicted, truth, np.full((len(truth), 2), 0.1))
    low, high = found["intervals"]["mre_mm"]
    assert low < found["mre_mm"] < high
    low, high = found["intervals"]["sdr2"]
    assert low < found["sdr2"] < high


def test_missing_labels_count_nowhere() -> None:
    truth = labels()
    predicted = missed_by(truth, 3, 4)
    truth[0, 5:] = np.nan
    truth[1, 7] = np.nan
    found = reported(predicted, truth, np.full((len(truth), 2), 0.1))
    assert found["mre_px"] == pytest.approx(5.0)
    assert found["sdr2"] == pytest.approx(100.0)


def test_angles_are_those_of_the_patient_where_pixels_are_not_square() -> None:
    """The same points on a film squeezed to half its width have the same angles once the spacing is told."""
    truth = labels()
    predicted = truth + np.random.default_rng(2).normal(0, 8, truth.shape)
    square = angle_errors(predicted, truth, np.full((len(truth), 2), 0.1))
    squeezed = angle_errors(predicted * [0.5, 1.0], truth * [0.5, 1.0], np.tile([0.2, 0.1], (len(truth), 1)))
    for name, errors in square.items():
        assert squeezed[name] == pytest.approx(errors)
        assert np.abs(errors).max() > 0.1


def test_pixels_of_a_stretched_map_taken_for_mm_make_another_rate() -> None:
    """A miss of 1.5 mm counts as a success at 2 mm, and as a failure at "2 mm" in px of a 512 x 512 map."""
    truth = labels()
    spacing = np.full((len(truth), 2), 0.1)
    predicted = missed_by(truth, 0, 15)
    assert reported(predicted, truth, spacing)["sdr2"] == 100.0
    to_map = np.array([512 / 1935, 512 / 2400])
    told = reference.sdr_percent_of_pixels(
        torch.from_numpy(predicted * to_map), torch.from_numpy(truth * to_map), 2.0
    )
    assert told == 0.0


def test_the_highest_pixel_of_the_described_map_costs_a_sixth_of_a_millimetre() -> None:
    """On perfect maps, at the films' 0.378 x 0.469 mm a px of a 512 x 512 map."""
    points = torch.from_numpy(np.random.default_rng(3).uniform(100, 400, (20, 2, 2))).float()
    codec = GaussianHeatmap(sigma=reference.SIGMA, stride=1, window=15, sharpness=10.0)
    maps = codec.encode(points, reference.SIZE)
    per_px = np.array([0.1 * 1935 / 512, 0.1 * 2400 / 512])
    lost = {
        name: float(np.linalg.norm((found - points).numpy() * per_px, axis=-1).mean())
        for name, found in (("highest", reference.decode_highest(maps)), ("ours", codec.locate(maps)))
    }
    assert lost["highest"] == pytest.approx(0.16, abs=0.03)
    assert lost["ours"] < 0.03


def test_the_described_loss_calls_an_empty_answer_nearly_perfect() -> None:
    codec = GaussianHeatmap(sigma=reference.SIGMA, stride=1, window=15, sharpness=10.0)
    target = codec.encode(torch.full((1, 1, 2), 256.0), reference.SIZE)
    assert reference.plain_mse(torch.zeros_like(target), target).item() == pytest.approx(7.5e-5, rel=0.02)

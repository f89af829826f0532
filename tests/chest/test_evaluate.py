"""Every held-out film by every method; tables, comparisons and metrics agree; nobody judges a film that it saw."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.chest import evaluate
from stages.chest.curriculum import last_phase
from stages.chest.measures import QUALITY_BINS
from stages.chest.raw.layout import read_raw
from stages.core.data import tables
from stages.core.data.films import FilmSet, pseudonym
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, write_split
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.stage import Observer

from .conftest import Lane, contents
from .stand_ins import COVERAGE, PARENTS, RADIUS_PX224, StandIn, standing_in, write_phases, write_system

PARAMS = evaluate.Params(
    seed=3,
    threads=1,
    pairs=(("full_wing", "full_mse"),),
    discs_px224=(4.0, 7.0, 10.0),
    bootstrap=Bootstrap(resamples=300, level=0.9, method="percentile", minimum_groups=3),
)


@dataclass(frozen=True)
class Evaluated:
    inputs: dict[str, Path]
    output: Path
    metrics: dict[str, float]

    def table(self, name: str) -> pd.DataFrame:
        return tables.read_table(self.output / f"{name}.parquet")

    def again(self, output: Path, params: evaluate.Params = PARAMS, **changes: Path) -> dict[str, float]:
        with standing_in():
            observe = Observer.quiet(output.parent / "scratch")
            return evaluate.run(params, **{**self.inputs, **changes}, output=output, observe=observe)


@pytest.fixture(scope="module")
def found(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    root = tmp_path_factory.mktemp("evaluation")
    inputs = {
        "films": lane.films,
        "split": lane.split,
        "floors": lane.floors,
        "phases": write_phases(root / "phases", lane.films, lane.split),
        "model": write_system(root / "system", lane.films, lane.split),
    }
    output = root / "evaluation"
    return Evaluated(inputs, output, Evaluated(inputs, output, {}).again(output))


def test_every_held_out_film_is_judged_by_every_method(lane: Lane, found: Evaluated) -> None:
    table = found.table("per_film")
    roles = read_split(lane.split)
    held_out = roles[roles["role"] != "train"]
    for _, own in table.groupby("method"):
        assert sorted(own["id"]) == sorted(held_out["id"])
    assert {"system", *PARENTS, "mean_shape", "pca_shape", "hog_kernel_ridge"} <= set(table["method"])
    groups = FilmSet.open(lane.films).table.set_index("id")["group"]
    assert (table.set_index("id")["group"] == groups.loc[table["id"]].to_numpy()).all()


def test_errors_are_px_at_224_of_raw_errors(found: Evaluated) -> None:
    table = found.table("per_film")
    np.testing.assert_allclose(table["error_px224"], table["error_raw_px"] * 224 / 299, rtol=1e-5)
    means = found.table("per_point").groupby(["method", "id"])["error_raw_px"].mean()
    expected = table.set_index(["method", "id"])["error_raw_px"]
    np.testing.assert_allclose(means.loc[expected.index], expected, rtol=1e-5)


def test_development_films_are_judged_out_of_fold(found: Evaluated) -> None:
    system = StandIn.open(found.inputs["model"])
    own = found.table("per_point").query("method == 'system' and role == 'val'").set_index(["id", "point"])
    for name, points in system.out_of_fold.set_index("id")["landmarks"].items():
        if name in own.index:
            placed = own.loc[name][["x_raw", "y_raw"]].to_numpy()
            np.testing.assert_allclose(placed, points.reshape(15, 2), rtol=1e-6)
    radii = found.table("radius")
    assert (radii.query("role == 'val'")["radius_px224"] == 7.5).all()
    tested = radii.query("role == 'test'")["radius_px224"].to_numpy().reshape(-1, 15)
    np.testing.assert_allclose(tested, np.tile(RADIUS_PX224, (len(tested), 1)), rtol=1e-6)


def test_a_system_that_cannot_judge_what_it_saw_is_refused(found: Evaluated, tmp_path: Path) -> None:
    model = tmp_path / "system"
    shutil.copytree(found.inputs["model"], model)
    val = found.table("per_film").query("method == 'system' and role == 'val'")["id"].iloc[0]
    table = pd.read_parquet(model / "out_of_fold.parquet")
    table[table["id"] != val].to_parquet(model / "out_of_fold.parquet")
    with pytest.raises(StageError, match=f"no out-of-fold points of 1 films .*: {val}"):
        found.again(tmp_path / "out", model=model)


def test_metrics_agree_with_the_tables(found: Evaluated) -> None:
    metrics = found.metrics
    table = found.table("per_film")
    test = table[(table["method"] == "system") & (table["role"] == "test")]
    assert metrics["n_films"] == len(test) == sum(metrics[f"n_films_{name}_px224"] for name in QUALITY_BINS)
    assert metrics["mean_px224"] == pytest.approx(test["error_px224"].mean(), rel=1e-6)
    assert metrics["mean_px224_low"] < metrics["mean_px224"] < metrics["mean_px224_high"]
    for name, own in test.groupby("group"):
        assert metrics[f"{name}_mean_px224"] == pytest.approx(own["error_px224"].mean(), rel=1e-6)
        assert metrics[f"{name}_n_films"] == len(own)
    by_landmark = [metrics[f"mean_L{i}_px224"] for i in range(1, 16)]
    assert np.mean(by_landmark) == pytest.approx(metrics["mean_px224"], rel=1e-5)
    for phase in PARENTS:
        own = table[(table["method"] == phase) & (table["role"] == "test")]["error_px224"]
        assert metrics[f"{phase}_mean_px224"] == pytest.approx(own.mean(), rel=1e-6)
        assert metrics[f"{phase}_mean_px224_low"] <= own.mean() <= metrics[f"{phase}_mean_px224_high"]
    errors = found.table("per_point").query("method == 'system' and role == 'test'")["error_raw_px"]
    assert metrics["sdr_10_px224"] == pytest.approx((errors * 224 / 299 <= 10).mean())
    assert metrics["asymmetry_px224"] > 0
    assert metrics["mean_shape_distances_px224"] > 0
    json.dumps({name: float(value) for name, value in metrics.items()})


def test_comparisons_are_paired_and_follow_the_cards(found: Evaluated) -> None:
    table = pd.read_csv(found.output / "comparison.csv")
    wide = (
        found.table("per_film")
        .query("role == 'test'")
        .pivot(index="id", columns="method", values="error_px224")
    )
    for row in table[table["role"] == "test"].itertuples():
        expected = (wide[row.method_a] - wide[row.method_b]).mean()
        assert row.mean_difference == pytest.approx(expected, rel=1e-4)
        assert row.low <= row.mean_difference <= row.high
    pairs = set(zip(table["method_a"], table["method_b"], strict=True))
    floors = set(wide.columns) - {"system", *PARENTS}
    assert pairs == {
        *(("system", other) for other in {"complete", *floors}),
        *((phase, parent) for phase, parent in PARENTS.items() if parent != "start"),
        *(("complete", floor) for floor in floors),
        ("full_wing", "full_mse"),
    }
    assert (table.groupby(["method_a", "method_b"])["role"].nunique() == 3).all()


def test_phases_are_listed_after_their_parents(found: Evaluated) -> None:
    listed = pd.read_csv(found.output / "phases.csv")
    assert dict(zip(listed["phase"], listed["parent"], strict=True)) == PARENTS
    names = ["start", *listed["phase"]]
    assert all(names.index(p) < names.index(n) for n, p in PARENTS.items())
    assert set(listed["begun"]) == {"random"}


@pytest.mark.parametrize(
    ("parents", "last"),
    [
        (PARENTS, ["complete"]),
        ({"one": "start"}, ["one"]),
        ({"b": "a", "a": "start", "c": "start"}, ["b"]),
        ({}, []),
    ],
)
def test_the_last_phase_has_the_longest_way_from_the_start(parents: dict[str, str], last: list[str]) -> None:
    assert last_phase(parents) == last


def test_phases_that_cannot_be_judged_are_all_named(found: Evaluated, tmp_path: Path) -> None:
    phases = tmp_path / "phases"
    shutil.copytree(found.inputs["phases"], phases)
    shutil.rmtree(phases / "head_mse")
    file = phases / "complete" / "predictions.parquet"
    pd.read_parquet(file).iloc[1:].to_parquet(file)
    card = phases / "symmetry" / "card.json"
    card.write_text(card.read_text().replace(json.loads(card.read_text())["split_sha256"], "0" * 64))
    with pytest.raises(StageError) as error:
        found.again(tmp_path / "out", phases=phases)
    for said in (
        "full_mse: its parent head_mse is not there",
        "complete: no points of 1 films",
        "symmetry: trained on another split",
    ):
        assert said in str(error.value)


def test_pairs_of_methods_that_are_not_there_are_named(found: Evaluated, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"pairs": (("full_wing", "best"), ("worst", "system"))})
    with pytest.raises(StageError, match="best, worst"):
        found.again(tmp_path / "out", params)


def test_a_lane_without_phases_is_evaluated(found: Evaluated, tmp_path: Path) -> None:
    (tmp_path / "phases").mkdir()
    params = PARAMS.model_copy(update={"pairs": ()})
    metrics = found.again(tmp_path / "out", params, phases=tmp_path / "phases")
    assert metrics["mean_px224"] == found.metrics["mean_px224"]


def discs(radius: float, n: int = 400) -> pd.DataFrame:
    """Points of n films whose errors are Rayleigh-distributed with scale 3, evenly so, in any order."""
    shares = np.random.default_rng(5).permutation((np.arange(n * 15) + 0.5) / (n * 15))
    errors = 3 * np.sqrt(-2 * np.log(1 - shares))
    ids = np.repeat([f"film-{i}" for i in range(n)], 15)
    columns = {"id": ids, "patient": ids, "role": "test", "error_px224": errors, "radius_px224": radius}
    return pd.DataFrame(columns)


def test_discs_of_the_right_size_hold_what_they_claim() -> None:
    right = 3 * np.sqrt(-2 * np.log(1 - COVERAGE))
    for radius, verdict in ((right, 0), (0.7 * right, -1), (1.5 * right, 1)):
        table = evaluate.calibrate(discs(radius), COVERAGE, PARAMS)
        own = table[table["limit_px224"].isna()].iloc[0]
        assert own["n_points"] == 6000
        assert int(own["low"] > COVERAGE) - int(own["high"] < COVERAGE) == verdict
        said = table[table["limit_px224"] == 10.0].iloc[0]
        assert said["n_points"] == (6000 if radius <= 10 else 0)
        assert table[table["limit_px224"] == 4.0].iloc[0]["n_points"] == 0


def test_statements_within_a_limit_hold_more_often_than_claimed() -> None:
    """Discs of at most that radius: the label is within the limit at least as often as within the disc."""
    table = evaluate.calibrate(discs(3 * np.sqrt(-2 * np.log(1 - COVERAGE))), COVERAGE, PARAMS)
    own, within = (table[at].iloc[0] for at in (table["limit_px224"].isna(), table["limit_px224"] == 7.0))
    assert within["n_points"] == 6000
    assert within["held"] > own["held"] - 1e-9


def test_calibration_of_the_run_is_in_table_and_metrics(found: Evaluated) -> None:
    table = pd.read_csv(found.output / "calibration.csv")
    assert len(table) == 3 * (1 + len(PARAMS.discs_px224))
    points = found.table("radius").query("role == 'test'")
    expected = (points["error_px224"] <= points["radius_px224"]).mean()
    assert found.metrics["coverage"] == pytest.approx(expected)
    assert found.metrics["coverage_claimed"] == COVERAGE
    said = points[points["radius_px224"] <= 10]
    assert found.metrics["n_said_within_10_px224"] == len(said)
    assert found.metrics["held_within_10_px224"] == pytest.approx((said["error_px224"] <= 10).mean())


def test_same_bytes_twice(found: Evaluated, tmp_path: Path) -> None:
    again = found.again(tmp_path / "again")
    assert json.dumps(again) == json.dumps(found.metrics)  # a NaN equals itself here
    assert contents(tmp_path / "again") == contents(found.output)


def test_a_model_of_another_split_is_refused(lane: Lane, found: Evaluated, tmp_path: Path) -> None:
    table = read_split(lane.split)
    table["role"] = table["role"].replace({"test": "train", "train": "test"})
    write_split(tmp_path / "split.parquet", table)
    with pytest.raises(StageError, match="trained on another split"):
        found.again(tmp_path / "out", split=tmp_path / "split.parquet")


def test_prediction_of_a_file_is_that_of_the_evaluation(lane: Lane, found: Evaluated, tmp_path: Path) -> None:
    """Through the file or through the store: the same points to a hundredth of a pixel."""
    from stages.chest.predict import predict_files

    raw = read_raw(lane.raw)
    data = LabelledFilms.open(lane.films, lane.split)
    held_out = set(data.films.ids[data.rows("test")])
    files = [files[0] for name, files in raw.films.items() if pseudonym("chest", name) in held_out][:4]
    points = (
        found.table("per_point").query("method == 'system'").set_index(["id", "point"])[["x_raw", "y_raw"]]
    )
    with standing_in():
        answers = predict_files(found.inputs["model"], files, tmp_path)
    for file, answer in zip(files, answers, strict=True):
        placed = [[mark["x"], mark["y"]] for mark in answer["landmarks"]]
        np.testing.assert_allclose(placed, points.loc[pseudonym("chest", file.stem)], atol=0.011)

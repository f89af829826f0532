"""Stage ceph-scores: picks the scorer that knows where the model errs, from val films alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stages.ceph import scores
from stages.ceph.schema import CEPH
from stages.ceph.scoring import described
from stages.ceph.scoring.choice import Choice
from stages.ceph.scoring.evidence import gather
from stages.ceph.scoring.measures import Estimate, Resampling
from stages.ceph.scoring.scorers import MEASURES, PICKABLE
from stages.ceph.scoring.shape import fit_shape_prior
from stages.ceph.scoring.worth import Worth, pick
from stages.core.data import tables
from stages.core.data.films import FilmSet, film_schema
from stages.core.errors import StageError
from stages.core.stage import Observer
from tests.ceph.unsure import DRAWS, Set, UnsureModel, write_set

ROLES = {"train": 12, "val": 24, "gate": 6, "test": 6}
SEED = 40


def params(**changes: object) -> scores.Params:
    values: dict[str, object] = {
        "seed": 1,
        "threads": 1,
        "candidates": PICKABLE,
        "rank_mean": ("peak", "tta"),
        "draws": DRAWS,
        "wrong_mm": 3.0,
        "wrong_model_px": 3.0,
        "precision_at": 30,
        "bins": 8,
        "folds": 4,
        "bootstrap": Resampling(resamples=100, level=0.95),
    }
    return scores.Params.model_validate(values | changes)


@dataclass(frozen=True)
class Made:
    data: Set
    model: UnsureModel
    folder: Path
    metrics: dict[str, float]


def run(data: Set, output: Path, **changes: object) -> dict[str, float]:
    return scores.run(
        params(**changes), data.films, data.split, Path("model"), output, Observer.quiet(output)
    )


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    monkeypatch.setattr(scores, "open_model", lambda *_: made.model)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("scores")
    data = write_set(folder, "base", ROLES, SEED, spacing_mm=0.1)
    model = UnsureModel({SEED: data})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "open_model", lambda *_: model)
        metrics = run(data, folder / "scores")
    return Made(data, model, folder / "scores", metrics)


def test_a_second_run_writes_the_same_bytes(made: Made, stand_in: None, tmp_path: Path) -> None:
    again = run(made.data, tmp_path / "scores")
    np.testing.assert_equal(again, made.metrics)
    for name in ("choice.json", "per_point.parquet"):
        assert (tmp_path / "scores" / name).read_bytes() == (made.folder / name).read_bytes()


def test_the_scorer_that_knows_of_the_errors_is_picked_and_the_ignorant_are_at_chance(made: Made) -> None:
    found = made.metrics
    assert found["picked_tta"] == 1
    assert sum(value for name, value in found.items() if name.startswith("picked_")) == 1
    assert found["auroc_tta"] > found["auroc_peak"] > 0.55
    for ignorant in ("spread", "ensemble"):
        assert found[f"auroc_{ignorant}_low"] < 0.56
        assert found[f"auroc_{ignorant}_high"] > 0.44
    assert found["aurc_tta_px"] < found["aurc_spread_px"]
    assert found["precision_tta"] > found["precision_spread"]
    assert found["calibration_tta_px"] < 0.5
    assert found["auroc_gain_tta_low"] > 0, "better than the described formula"


def test_the_described_formula_is_measured_and_never_picked(made: Made) -> None:
    assert f"auroc_{described.NAME}" in made.metrics
    assert f"picked_{described.NAME}" not in made.metrics
    with pytest.raises(ValidationError, match="no scorers .'described'. to pick from"):
        params(candidates=(described.NAME,))
    with pytest.raises(ValidationError, match="rank_mean: no parts .'gut'"):
        params(rank_mean=("peak", "gut"))


def test_only_val_films_decide(made: Made, stand_in: None, tmp_path: Path) -> None:
    table = tables.read_table(made.folder / "per_point.parquet")
    assert set(table["id"]) == set(made.data.ids[made.data.roles == "val"])
    store = FilmSet.open(made.data.films)
    labels = store.landmarks_raw.copy()
    labels[np.isin(made.data.roles, ("gate", "test"))] += 50
    (tmp_path / "films").mkdir()
    for name in ("images.npy", "dataset.json", "spacing.parquet"):
        (tmp_path / "films" / name).write_bytes((made.data.films / name).read_bytes())
    tables.write_table(
        tmp_path / "films" / "films.parquet",
        store.table.assign(landmarks=list(labels)),
        film_schema(CEPH.n_points),
    )
    run(replace(made.data, films=tmp_path / "films"), tmp_path / "scores")
    for name in ("choice.json", "per_point.parquet"):
        assert (tmp_path / "scores" / name).read_bytes() == (made.folder / name).read_bytes()


def test_expected_errors_come_from_other_films(made: Made) -> None:
    table = tables.read_table(made.folder / "per_point.parquet")
    tta = table[table["scorer"] == "tta"]
    choice = Choice.open(made.folder)
    told = choice.expected.curve(tta["score"].to_numpy())
    assert not np.allclose(told, tta["expected_model_px"]), "the curve of all films would be its own judge"
    assert np.corrcoef(told, tta["expected_model_px"])[0, 1] > 0.95


def test_the_table_holds_every_scorer_and_point_in_both_units(made: Made) -> None:
    table = tables.read_table(made.folder / "per_point.parquet")
    assert set(table["scorer"]) == {*MEASURES, "rank_mean"}
    assert len(table) == 24 * CEPH.n_points * len(set(table["scorer"]))
    np.testing.assert_allclose(table["error_mm"], table["error_model_px"] * 10 * 0.1, rtol=1e-4)
    assert (table["wrong"] == (table["error_mm"] > 3.0)).all()


def test_without_a_spacing_pixels_decide_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_set(tmp_path, "base", ROLES, SEED)
    monkeypatch.setattr(scores, "open_model", lambda *_: UnsureModel({SEED: data}))
    run(data, tmp_path / "scores", wrong_mm=1e-3)
    table = tables.read_table(tmp_path / "scores" / "per_point.parquet")
    assert table["error_mm"].isna().all()
    assert (table["wrong"] == (table["error_model_px"] > 3.0)).all()
    assert table["wrong"].any()


def test_missing_labels_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_set(tmp_path, "base", ROLES, SEED, spacing_mm=0.1, missing=4)
    monkeypatch.setattr(scores, "open_model", lambda *_: UnsureModel({SEED: data}))
    metrics = run(data, tmp_path / "scores")
    assert metrics["n_points"] == 24 * (CEPH.n_points - 1)
    table = tables.read_table(tmp_path / "scores" / "per_point.parquet")
    assert table["error_model_px"].isna().sum() == 24 * len(set(table["scorer"]))
    assert table["expected_model_px"].notna().all()


@pytest.mark.parametrize("threshold", [1e-6, 1e6])
def test_where_all_points_are_right_or_wrong_the_risk_decides(
    made: Made, stand_in: None, tmp_path: Path, threshold: float
) -> None:
    metrics = run(made.data, tmp_path / "scores", wrong_mm=threshold)
    assert np.isnan(metrics["auroc_tta"])
    aurc = {name: metrics[f"aurc_{name}_px"] for name in PICKABLE}
    assert metrics[f"picked_{min(aurc, key=aurc.__getitem__)}"] == 1
    json.loads((tmp_path / "scores" / "choice.json").read_text(), parse_constant=pytest.fail)


def test_of_equal_scorers_the_first_is_picked() -> None:
    same = Estimate(0.8, 0.7, 0.9)
    worth = {name: Worth(same, same, same, same, 0.5, 0.1, []) for name in ("tta", "peak", "spread")}
    worth["spread"] = replace(worth["spread"], auroc=Estimate(0.7, 0.6, 0.8))
    for order in (("tta", "peak", "spread"), ("spread", "peak", "tta")):
        assert pick(order, worth) == next(name for name in order if name != "spread")


def test_a_choice_comes_back_and_scores_other_films_alike(made: Made) -> None:
    choice = Choice.open(made.folder)
    store = FilmSet.open(made.data.films)
    prior = fit_shape_prior(made.data.truth[made.data.roles == "train"])
    rows = np.flatnonzero(made.data.roles == "val")
    together = choice.unusual(gather(made.model, store, rows, choice.draws, prior, 1))
    alone = choice.unusual(gather(made.model, store, rows[3:4], choice.draws, prior, 1))
    np.testing.assert_allclose(alone[0], together[3], rtol=1e-9)
    assert together.mean() == pytest.approx(1, abs=0.1), "val films are typical of themselves"


def test_a_folder_without_a_choice_or_with_a_strange_one_is_an_error(made: Made, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="does not exist"):
        Choice.open(tmp_path)
    content = json.loads((made.folder / "choice.json").read_text())
    (tmp_path / "choice.json").write_text(json.dumps(content | {"typical": [1.0]}))
    with pytest.raises(StageError, match="of 1 landmarks, not 19"):
        Choice.open(tmp_path)
    del content["scorer"]
    (tmp_path / "choice.json").write_text(json.dumps(content))
    with pytest.raises(StageError, match="scorer: Field required"):
        Choice.open(tmp_path)


def test_films_of_another_size_than_the_model_reads_are_an_error(made: Made) -> None:
    store = FilmSet.open(made.data.films)
    prior = fit_shape_prior(made.data.truth[:12])
    with pytest.raises(StageError, match="40 x 48 px, the model reads 80 x 96"):
        gather(replace(made.model, stored_size=(96, 80)), store, np.arange(2), DRAWS, prior, 1)

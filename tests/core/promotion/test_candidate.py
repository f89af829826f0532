"""A candidate is judged on the locked gate set against its best floor, or not at all."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from stages.chest.candidate import Params as ChestParams
from stages.core.data import tables
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate import errors
from stages.core.model.card import ModelCard, folder_digest, save_model
from stages.core.params import load_params
from stages.core.promotion.candidate import Candidate, film_gate_digest, gate_digest, read_candidate
from stages.core.promotion.stage import CandidateParams, run_film_candidate
from stages.spine.candidate import Params as SpineParams

PARAMS = CandidateParams.model_validate(
    {
        "seed": 3,
        "method": "net",
        "floors": ["mean_shape", "ridge"],
        "error": "error_px224",
        "bootstrap": {"resamples": 500, "level": 0.95, "method": "bca", "minimum_groups": 6},
    }
)
OFFSETS = {"net": 2.0, "mean_shape": 9.0, "ridge": 4.0}


@pytest.fixture
def evaluated(blob_store, tmp_path):
    """A model folder and the evaluation of it and of two floors; each is off by a known distance."""
    labelled = blob_store.open()
    rows = labelled.rows("val", "gate", "test")
    noise = np.random.default_rng(0)
    films, points = [], []
    for method, offset in OFFSETS.items():
        predicted = labelled.landmarks_raw[rows] + noise.normal(offset, 0.5, (len(rows), 1, 1)) * [1.0, 0.0]
        films.append(errors.film_table(labelled, rows, method, predicted, {"px224": (224, 224)}))
        points.append(errors.point_table(labelled, rows, method, predicted))
    unit = [tables.column("error_px224", pa.float32(), "px at 224 x 224")]
    errors.write_tables(tmp_path / "evaluation", pd.concat(films), pd.concat(points), unit)
    card = ModelCard(
        lane="blobs",
        dataset="phantom",
        architecture="none",
        key="k" * 64,
        params={},
        input=None,
        landmarks=blob_store.schema.names,
        n_train=47,
        split_sha256=split_digest(read_split(blob_store.split)),
    )
    save_model(tmp_path / "model", {"weight": torch.zeros(2)}, card)
    return tmp_path / "model", tmp_path / "evaluation", blob_store.split


def test_a_candidate_says_which_model_was_how_wrong_on_which_films(evaluated, blob_store, tmp_path) -> None:
    metrics = run_film_candidate(PARAMS, *evaluated, tmp_path / "candidate.json")
    candidate = read_candidate(tmp_path / "candidate.json")
    labelled = blob_store.open()
    gate = labelled.rows("gate")

    assert candidate.registry_name == "blobs-phantom"
    assert candidate.key == "k" * 64
    assert candidate.model_sha256 == folder_digest(evaluated[0])
    assert candidate.gate_sha256 == gate_digest(labelled.films.ids[gate], labelled.landmarks_raw[gate])
    assert candidate.n_gate == len(candidate.errors) == 16
    assert set(candidate.errors) == set(labelled.films.ids[gate])
    assert candidate.groups == dict(zip(labelled.films.ids[gate], labelled.patients[gate], strict=True))
    assert candidate.unit == "px224"
    assert candidate.against_floor.floor == "ridge"
    assert candidate.against_floor.n_groups == 8
    assert candidate.beats_floor
    assert metrics["beats_floor"] == 1
    assert metrics["gate_mean_px224"] == pytest.approx(np.mean(list(candidate.errors.values())), rel=1e-4)
    assert metrics["difference_px224"] == pytest.approx(
        metrics["gate_mean_px224"] - metrics["floor_gate_mean_px224"], abs=1e-4
    )


def test_the_same_inputs_give_the_same_bytes(evaluated, tmp_path) -> None:
    for name in ("a.json", "b.json"):
        run_film_candidate(PARAMS, *evaluated, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()


def test_a_model_that_is_worse_than_its_floor_is_reported_as_such(evaluated, tmp_path) -> None:
    params = PARAMS.model_copy(update={"method": "mean_shape", "floors": ("ridge",)})
    metrics = run_film_candidate(params, *evaluated, tmp_path / "candidate.json")
    candidate = read_candidate(tmp_path / "candidate.json")
    assert candidate.against_floor.verdict == "worse"
    assert metrics["beats_floor"] == 0


def test_test_films_do_not_reach_the_candidate(evaluated, tmp_path) -> None:
    model, evaluation, split = evaluated
    run_film_candidate(PARAMS, model, evaluation, split, tmp_path / "before.json")
    for name in ("per_film.parquet", "per_point.parquet"):
        table = tables.read_table(evaluation / name)
        table.loc[table["role"] == "test", "error_raw_px"] += 99
        if "error_px224" in table:
            table.loc[table["role"] == "test", "error_px224"] += 99
        tables.write_table(evaluation / name, table, tables.pq.read_schema(evaluation / name))
    run_film_candidate(PARAMS, model, evaluation, split, tmp_path / "after.json")
    assert (tmp_path / "before.json").read_bytes() == (tmp_path / "after.json").read_bytes()


def test_a_model_of_another_split_is_refused(evaluated, tmp_path) -> None:
    model, evaluation, split = evaluated
    moved = read_split(split)
    moved.loc[moved["patient"] == "patient-000", "role"] = "gate"
    tables.write_table(tmp_path / "moved.parquet", moved, tables.pq.read_schema(split))
    with pytest.raises(StageError, match="trained on the split"):
        run_film_candidate(PARAMS, model, evaluation, tmp_path / "moved.parquet", tmp_path / "c.json")


def test_an_evaluation_of_other_films_is_refused(evaluated, tmp_path) -> None:
    model, evaluation, split = evaluated
    path = evaluation / "per_film.parquet"
    whole, schema = tables.read_table(path), tables.pq.read_schema(path)
    tables.write_table(path, whole[whole["id"] != "blobs-064"], schema)
    with pytest.raises(StageError, match=r"15 gate films, the split has 16.*blobs-064"):
        run_film_candidate(PARAMS, model, evaluation, split, tmp_path / "c.json")
    partly = whole[(whole["id"] != "blobs-064") | (whole["method"] != "ridge")]
    tables.write_table(path, partly, schema)
    with pytest.raises(StageError, match=r"\['ridge'\] did not judge all 16"):
        run_film_candidate(PARAMS, model, evaluation, split, tmp_path / "c.json")
    unknown = PARAMS.model_copy(update={"floors": ("flat",)})
    tables.write_table(path, whole, schema)
    with pytest.raises(StageError, match="flat"):
        run_film_candidate(unknown, model, evaluation, split, tmp_path / "c.json")


def test_a_corrected_gate_label_makes_another_gate_set(evaluated) -> None:
    per_point = tables.read_table(evaluated[1] / "per_point.parquet")
    before = film_gate_digest(per_point, "net")
    assert film_gate_digest(per_point.sample(frac=1, random_state=1), "ridge") == before
    per_point.loc[per_point["id"] == "blobs-020", "x_label_raw"] += 1  # not a gate film
    assert film_gate_digest(per_point, "net") == before
    per_point.loc[per_point["id"] == "blobs-064", "x_label_raw"] += 1
    assert film_gate_digest(per_point, "net") != before
    ids, labels = ["b", "a"], np.arange(8.0).reshape(2, 2, 2)
    assert gate_digest(ids, labels) == gate_digest(ids[::-1], labels[::-1])
    assert gate_digest(ids, labels) != gate_digest(ids[::-1], labels)


def test_a_candidate_file_that_contradicts_itself_is_refused(evaluated, tmp_path) -> None:
    run_film_candidate(PARAMS, *evaluated, tmp_path / "c.json")
    good = json.loads((tmp_path / "c.json").read_text())
    contradictions: list[tuple[dict[str, object], str]] = [
        ({"registry_name": "blobs-real"}, "registry_name must be"),
        ({"groups": {}}, "different films"),
        ({"n_gate": 3}, "16 errors for 3 gate films"),
        ({"extra": 1}, "extra"),
        ({"gate_sha256": "short"}, "gate_sha256"),
    ]
    for change, message in contradictions:
        (tmp_path / "c.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(StageError, match=message):
            read_candidate(tmp_path / "c.json")
    with pytest.raises(StageError, match="does not exist"):
        read_candidate(tmp_path / "absent.json")
    assert Candidate.model_validate(good).errors == good["errors"]


@pytest.mark.parametrize("params", [SpineParams, ChestParams], ids=lambda p: p.section)
def test_the_lanes_parameters_are_complete(params) -> None:
    assert load_params(params).method not in load_params(params).floors

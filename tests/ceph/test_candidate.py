"""Both models face one gate set of both sets of films; what the comparison holds against the tuned one travels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.ceph import base_candidate, candidate
from stages.ceph.evaluation.judge import PERCENT
from stages.core.data import tables
from stages.core.data.split import read_split
from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.promotion.candidate import Candidate, read_candidate

from .judged import BOOTSTRAP, Judged, evaluated, write_lane

SETTINGS = {
    "seed": 3,
    "floors": ("mean_shape", "pca_shape", "hog_kernel_ridge"),
    "error": PERCENT,
    "bootstrap": BOOTSTRAP,
}


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    lane = write_lane(tmp_path_factory.mktemp("lane") / "ceph")
    evaluated(lane)
    return lane


def of_tuned(lane: Judged, output: Path, verdict: Path | None = None) -> dict[str, float]:
    return candidate.run(
        candidate.Params.model_validate(SETTINGS),
        lane.tuned,
        lane.evaluation,
        lane.split,
        lane.clinic_split,
        verdict or lane.verdict,
        output,
        lane.observe,
    )


def of_base(lane: Judged, output: Path, evaluation: Path | None = None) -> dict[str, float]:
    return base_candidate.run(
        base_candidate.Params.model_validate(SETTINGS),
        lane.base,
        evaluation or lane.evaluation,
        lane.split,
        lane.clinic_split,
        output,
        lane.observe,
    )


def both(lane: Judged, folder: Path) -> tuple[Candidate, Candidate]:
    of_base(lane, folder / "base_candidate.json")
    of_tuned(lane, folder / "candidate.json")
    return read_candidate(folder / "base_candidate.json"), read_candidate(folder / "candidate.json")


def test_both_candidates_face_the_gate_films_of_both_sets(lane: Judged, tmp_path: Path) -> None:
    base, tuned = both(lane, tmp_path)
    gate = {i for s in (lane.split, lane.clinic_split) for i in read_split(s).query("role == 'gate'")["id"]}
    assert set(base.errors) == set(tuned.errors) == gate
    assert base.n_gate == tuned.n_gate == len(gate) == 13
    assert base.gate_sha256 == tuned.gate_sha256
    assert base.key != tuned.key
    assert base.model_sha256 != tuned.model_sha256
    assert (
        (base.unit, base.registry_name) == (tuned.unit, tuned.registry_name) == ("percent_sn", "ceph-phantom")
    )


def test_errors_are_those_of_the_evaluation_in_a_unit_that_every_film_has(
    lane: Judged, tmp_path: Path
) -> None:
    _, tuned = both(lane, tmp_path)
    for name in ("base", "clinic"):
        films = tables.read_table(lane.evaluation / name / "per_film.parquet")
        own = films[(films["method"] == "tuned") & (films["role"] == "gate")].set_index("id")[PERCENT]
        np.testing.assert_allclose([tuned.errors[i] for i in own.index], own, atol=1e-5)
        assert tuned.metrics[f"gate_{name}_mean_percent_sn"] == pytest.approx(own.mean(), rel=1e-5)


def test_another_label_of_the_clinic_makes_another_gate_set(lane: Judged, tmp_path: Path) -> None:
    base, _ = both(lane, tmp_path)
    moved = tmp_path / "evaluation"
    for name in ("base", "clinic"):
        for table in ("per_film", "per_point"):
            path = lane.evaluation / name / f"{table}.parquet"
            found = tables.read_table(path)
            if (name, table) == ("clinic", "per_point"):
                found.loc[(found["role"] == "gate") & (found["point"] == 3), "x_label_raw"] += 1
            tables.write_table(moved / name / f"{table}.parquet", found, tables.pq.read_schema(path))
    of_base(lane, tmp_path / "moved.json", moved)
    assert read_candidate(tmp_path / "moved.json").gate_sha256 != base.gate_sha256


def test_reasons_of_a_verdict_against_it_are_objections(lane: Judged, tmp_path: Path) -> None:
    verdict = tmp_path / "verdict.json"
    verdict.write_text(json.dumps({"verdict": "keep", "reasons": ["gonion is worse", "ANB"], "more": 1}))
    metrics = of_tuned(lane, tmp_path / "candidate.json", verdict)
    assert read_candidate(tmp_path / "candidate.json").objections == ("gonion is worse", "ANB")
    assert metrics["n_objections"] == 2
    verdict.write_text(json.dumps({"verdict": "promote", "reasons": []}))
    of_tuned(lane, tmp_path / "candidate.json", verdict)
    assert read_candidate(tmp_path / "candidate.json").objections == ()


@pytest.mark.parametrize("content", ["{", "[]", '{"reasons": []}', '{"verdict": "promote"}'])
def test_what_is_no_verdict_is_no_promotion(lane: Judged, tmp_path: Path, content: str) -> None:
    (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(StageError, match=r"verdict\.json: expected"):
        of_tuned(lane, tmp_path / "candidate.json", tmp_path / "verdict.json")
    assert not (tmp_path / "candidate.json").exists()


def test_gate_films_that_were_not_judged_are_named(lane: Judged, tmp_path: Path) -> None:
    roles = read_split(lane.clinic_split)
    stray = roles.query("role == 'test'")["id"].iloc[0]
    roles.loc[roles["id"] == stray, "role"] = "gate"
    tables.write_table(tmp_path / "split.parquet", roles, tables.pq.read_schema(lane.clinic_split))
    with pytest.raises(StageError, match=f"clinic set .*{stray}"):
        base_candidate.run(
            base_candidate.Params.model_validate(SETTINGS),
            lane.base,
            lane.evaluation,
            lane.split,
            tmp_path / "split.parquet",
            tmp_path / "candidate.json",
            lane.observe,
        )


def test_same_bytes_twice(lane: Judged, tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        of_tuned(lane, tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.parametrize("stage", [candidate, base_candidate])
def test_params_are_complete_and_shared(stage: object) -> None:
    assert load_params(stage.Params).error == PERCENT  # type: ignore[attr-defined]

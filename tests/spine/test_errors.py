"""The error set: the mix as asked, errors against the label, only films that may be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.spine import errors
from stages.spine.error_set import ErrorSet, error_schema
from stages.spine.schema import SCHEMA, vertebral_schema
from tests.spine.drawn import write_store
from tests.spine.erring import MIX, folds_of, write_folds

FOUR = vertebral_schema(("T1", "T2", "T3", "T4"))


def params(**changes: object) -> errors.Params:
    return errors.Params.model_validate({"seed": 1, "mix": MIX, "draws": 3} | changes)


def made(tmp_path: Path, schema: LandmarkSchema, **changes: object) -> tuple[LabelledFilms, pd.DataFrame]:
    data = write_store(tmp_path / "store", schema, n=32).open()
    return data, errors.make_errors(data, schema, folds_of(data), params(**changes))


def test_weights_add_up_to_the_shares(tmp_path: Path) -> None:
    mix = {"out_of_fold": 0.7, "shift": 0.2, "neighbours": 0.0, "sides": 0.1, "clean": 0.0}
    data, table = made(tmp_path, FOUR, mix=mix)
    assert table.groupby("source")["weight"].sum().to_dict() == pytest.approx(
        {source: share for source, share in mix.items() if share}
    )
    n = len(data.trainable())
    assert table["source"].value_counts().to_dict() == {"out_of_fold": 2 * n, "shift": 3 * n, "sides": 3 * n}


def test_errors_are_distances_from_the_label_in_raw_px(tmp_path: Path) -> None:
    data, table = made(tmp_path, FOUR)
    assert set(table["id"]) == set(data.films.ids[data.trainable()])
    rows = data.films.rows(table["id"])
    raw = data.films.to_raw(np.stack(list(table["landmarks"])), rows)
    expected = np.linalg.norm(raw - data.landmarks_raw[rows], axis=-1)
    stored = np.stack(list(table["error_raw_px"]))
    np.testing.assert_allclose(stored, expected, atol=1e-6)
    clean = stored[table["source"] == "clean"]
    assert clean.max() < 1e-6
    assert all(stored[table["source"] == source].max() > 1 for source in ("shift", "sides", "out_of_fold"))


def test_hinted_points_stand_at_their_label(tmp_path: Path) -> None:
    data, table = made(tmp_path, FOUR)
    folds = folds_of(data).sort_values(["id", "clicks"])
    table = table[table["source"] == "out_of_fold"]
    assert (table["id"].to_numpy() == folds["id"].to_numpy()).all()
    hinted, stored = (np.stack(list(c)) for c in (folds["hinted"], table["error_raw_px"]))
    assert hinted.any()
    assert stored[hinted].max() < 1e-3
    assert stored[~hinted].min() > 1e-3


def test_another_film_leaves_the_corruptions_of_the_others_alone(tmp_path: Path) -> None:
    data, table = made(tmp_path, FOUR)
    use = data.use.copy()
    use[data.trainable()[0]] = False
    fewer = LabelledFilms(data.films, data.landmarks_raw, data.roles, data.patients, use, data.suspect)
    again = errors.make_errors(fewer, FOUR, folds_of(fewer), params())
    table = table[table["id"].isin(again["id"]) & (table["source"] != "out_of_fold")]
    again = again[again["source"] != "out_of_fold"]
    np.testing.assert_array_equal(np.stack(list(table["landmarks"])), np.stack(list(again["landmarks"])))


def test_run_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    write_folds(tmp_path / "folds.parquet", folds_of(store.open()))
    outputs = []
    for name in ("a", "b"):
        output = tmp_path / f"{name}.parquet"
        metrics = errors.run(
            params(), store.films, store.audit, store.split, tmp_path / "folds.parquet", output,
            Observer.quiet(tmp_path / "scratch"),
        )  # fmt: skip
        outputs.append((metrics, output.read_bytes()))
    assert outputs[0] == outputs[1]
    metrics = outputs[0][0]
    assert (metrics["n_films"], metrics["n_shift"], metrics["n_clean"]) == (7, 21, 7)
    assert metrics["share_beyond_half_vertebra_clean"] == 0 < metrics["share_beyond_half_vertebra_sides"]


def test_predictions_of_other_films_are_named(tmp_path: Path) -> None:
    data = write_store(tmp_path / "store", FOUR).open()
    folds = folds_of(data)
    without = folds[folds["id"] != "spine-000"]
    with pytest.raises(StageError, match=r"\['spine-000'\] have none, \[\] should have none"):
        errors.make_errors(data, FOUR, without, params())
    strange = pd.concat([folds, folds.iloc[:1].assign(id="spine-004")])
    with pytest.raises(StageError, match=r"\[\] have none, \['spine-004'\] should have none"):
        errors.make_errors(data, FOUR, strange, params())


def test_a_mix_of_other_sources_or_shares_is_refused() -> None:
    with pytest.raises(ValueError, match="shares of out_of_fold, shift, neighbours, sides, clean expected"):
        params(mix={"out_of_fold": 1.0})
    with pytest.raises(ValueError, match="add up to 1"):
        params(mix=MIX | {"clean": 0.5})


def opened(tmp_path: Path) -> tuple[LabelledFilms, ErrorSet]:
    data, table = made(tmp_path, FOUR)
    tables.write_table(tmp_path / "errors.parquet", table, error_schema(FOUR.n_points))
    return data, ErrorSet.open(tmp_path / "errors.parquet", data)


def test_no_patient_is_both_trained_on_and_held_out(tmp_path: Path) -> None:
    _, examples = opened(tmp_path)
    train, held = examples.hold_out(seed=3)
    assert len(train) + len(held) == len(examples)
    assert not set(train.patients) & set(held.patients)
    assert len(set(held.patients)) == 2, "15 % of the 15 patients"
    assert (train.weights.sum(), held.weights.sum()) == pytest.approx((1, 1))
    assert {tuple(sorted(set(examples.hold_out(seed)[1].patients))) for seed in range(8)} != {
        tuple(sorted(set(held.patients)))
    }, "another seed holds others out"


def test_unassisted_examples_are_predictions_without_clicks(tmp_path: Path) -> None:
    _, examples = opened(tmp_path)
    alone = examples.unassisted()
    assert set(alone.sources) == {"out_of_fold"}
    assert set(alone.clicks) == {0}
    assert set(alone.rows) == set(examples.rows)
    synthetic = examples[examples.sources != "out_of_fold"]
    assert len(synthetic.unassisted()) == len(synthetic)


def test_examples_are_drawn_by_weight(tmp_path: Path) -> None:
    _, examples = opened(tmp_path)
    drawn = examples.draw(np.random.default_rng(0), 20_000)
    shares = {s: np.mean(examples.sources[drawn] == s) for s in MIX}
    assert shares == pytest.approx(MIX, abs=0.02)


def test_an_error_set_of_another_split_is_refused(tmp_path: Path) -> None:
    data, _ = opened(tmp_path)
    use = data.use.copy()
    use[0] = False
    fewer = LabelledFilms(data.films, data.landmarks_raw, data.roles, data.patients, use, data.suspect)
    with pytest.raises(StageError, match="films that may not be trained on: spine-000; run `dvc repro`"):
        ErrorSet.open(tmp_path / "errors.parquet", fewer)

"""Folds: nobody predicts a film whose patient it has seen, and the outputs say who predicted what."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.pool import DASK
from stages.core.data.split import read_split, write_split
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_weights, save_model
from stages.core.stage import Observer
from stages.core.train import checkpoint
from stages.spine import folds
from stages.spine.refining import crossfit, inference, training
from stages.spine.schema import SCHEMA
from tests.spine.drawn import SpineStore, small, write_store


def params(**changes: Any) -> folds.Params:
    values = {
        "seed": 3,
        "threads": 1,
        "device": "cpu",
        "world_size": 1,
        "folds": 2,
        "epochs": 0.5,
        "clicks": 2,
    }
    return folds.Params.model_validate(values | changes)


def run(
    folder: Path, store: SpineStore, name: str = "folds", observe: Observer | None = None, **changes: Any
) -> dict[str, float]:
    return folds.run(
        params(**changes), store.films, store.audit, store.split, folder / "no-pairs.json", folder / "refiner",
        folder / f"{name}.parquet", folder / name,
        observe or Observer.quiet(folder / f"scratch-{name}", key="c" * 64),
    )  # fmt: skip


def write_lane(folder: Path) -> SpineStore:
    """A store whose patients have two films or three, and the card of a Refiner."""
    store = write_store(folder / "store", SCHEMA, n=24)
    split = read_split(store.split)
    train = np.flatnonzero(split["role"] == "train")
    patients = split["patient"].to_numpy(object)
    patients[train] = [f"patient-{i % 5}" for i in range(len(train))]
    write_split(store.split, split.assign(patient=patients))
    card = ModelCard(
        lane="spine", dataset="phantom", architecture="refiner-softmax", key="untracked",
        params=small(epochs=2).model_dump(mode="json"), input=None, schema=SCHEMA.names, n_train=1,
        split_sha256="0" * 64,
    )  # fmt: skip
    save_model(folder / "refiner", {}, card)
    return store


@dataclass(frozen=True)
class Made:
    """A run's outputs, and the row numbers that each fold's Refiner was trained on."""

    folder: Path
    data: LabelledFilms
    metrics: dict[str, float]
    table: pd.DataFrame
    learnt: list[np.ndarray]
    epochs: list[int]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("folds")
    store = write_lane(folder)
    learnt, epochs, train = [], [], training.train_refiner

    def watched(data: Any, rows: np.ndarray, *others: Any, **named: Any) -> Any:
        trained, fitted = train(data, rows, *others, **named)
        learnt.append(rows)
        epochs.append(fitted.epochs)
        return trained, fitted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_refiner", watched)
        metrics = run(folder, store)
    return Made(folder, store.open(), metrics, tables.read_table(folder / "folds.parquet"), learnt, epochs)


def test_no_film_is_predicted_by_a_refiner_that_saw_its_patient(made: Made) -> None:
    data, table = made.data, made.table
    assert len(made.learnt) == 2
    for fold, rows in enumerate(made.learnt):
        predicted = data.films.rows(table.loc[table["fold"] == fold, "id"])
        assert not set(data.patients[predicted]) & set(data.patients[rows])
        assert set(predicted) | set(rows) == set(data.trainable()), "and no other film is kept from it"
    assert made.epochs == [1, 1], "half of the Refiner's"


def test_every_training_film_is_predicted_after_every_number_of_clicks(made: Made) -> None:
    ids = made.data.films.ids[made.data.trainable()]
    assert made.table[["id", "clicks"]].to_numpy().tolist() == [
        [i, c] for i in sorted(ids) for c in (0, 1, 2)
    ]
    hinted = np.stack(list(made.table["hinted"]))
    assert (hinted.sum(1) == made.table["clicks"]).all()
    assert made.metrics.keys() == {"n_films", "folds", "error_raw_px@0", "error_raw_px@1", "error_raw_px@2"}
    for clicks, part in made.table.groupby("clicks"):
        rows = made.data.films.rows(part["id"])
        raw = made.data.films.to_raw(tables.stack_points(part["landmarks"]), rows)
        error = np.linalg.norm(raw - made.data.landmarks_raw[rows], axis=-1).mean()
        assert made.metrics[f"error_raw_px@{clicks}"] == pytest.approx(error, rel=1e-4)


def test_the_weights_are_those_that_predicted_each_click_told_of_the_pass_before(made: Made) -> None:
    settings = small().model_dump(mode="json")
    weights = load_weights(made.folder / "folds")
    for fold in (0, 1):
        own = {k.removeprefix(f"{fold}."): v for k, v in weights.items() if k.startswith(f"{fold}.")}
        refining = inference.build(settings, [own], SCHEMA)
        maps = None
        for clicks in (0, 1, 2):
            part = made.table[(made.table["fold"] == fold) & (made.table["clicks"] == clicks)]
            rows = made.data.films.rows(part["id"])
            hinted = np.stack(list(part["hinted"])).astype(bool)
            hints = np.where(hinted[..., None], made.data.landmarks_model[rows], np.nan)
            seen = refining.run(made.data.films.images[rows], hints, maps)
            np.testing.assert_allclose(seen.points, tables.stack_points(part["landmarks"]), atol=1e-4)
            maps = seen.maps


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_lane(tmp_path)
    train: Callable[..., Any] = training.train_refiner

    def dying(*given: Any, name: str, **named: Any) -> Any:
        if name == "fold-1":
            raise KeyboardInterrupt
        return train(*given, name=name, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_refiner", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, store)
    assert not (tmp_path / "folds").exists()
    assert run(tmp_path, store) == made.metrics
    for output in ("folds.parquet", "folds/weights.pt"):
        assert (tmp_path / output).read_bytes() == (made.folder / output).read_bytes()


def test_more_folds_than_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no patients in the folds \[5, 6\]: ask for fewer than 7 folds"):
        run(tmp_path, write_lane(tmp_path), folds=7)


def test_a_shortened_plan_keeps_an_epoch_of_every_phase() -> None:
    phase = small(epochs=10).fit.phases[0]
    settings = small(phases=(phase, phase.model_copy(update={"epochs": 1})), clicks=3)
    short = folds.shortened(settings, 0.3)
    assert [p.epochs for p in short.fit.phases] == [3, 1]
    assert short.val_clicks == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_folds_on_dask_workers_give_the_bytes_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    store = write_lane(tmp_path)
    here, there = (Observer.quiet(tmp_path / f"scratch-{n}", key="c" * 64) for n in ("here", "there"))
    metrics = run(tmp_path, store, "here", here, threads=threads)
    monkeypatch.setenv(DASK, "local:2")
    assert run(tmp_path, store, "there", there, threads=threads) == metrics
    assert there.history == here.history
    for output in (".parquet", "/weights.pt"):
        assert (tmp_path / f"there{output}").read_bytes() == (tmp_path / f"here{output}").read_bytes()


def test_a_fold_goes_on_where_its_killed_worker_stopped(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_lane(tmp_path)
    mark = tmp_path / "ended"
    monkeypatch.setenv(DASK, "local:2")
    monkeypatch.setattr(crossfit, "train_fold", partial(_ending_once, crossfit.train_fold, mark))
    assert run(tmp_path, store) == made.metrics
    assert mark.exists()
    for output in ("folds.parquet", "folds/weights.pt"):
        assert (tmp_path / output).read_bytes() == (made.folder / output).read_bytes()


def _ending_once(train: Callable[[Any], Any], mark: Path, fold: crossfit.Fold) -> Any:
    """Train; end the worker between two saved epochs, the first time."""
    if not mark.exists() and fold.number == 1:
        save = checkpoint.Store.save

        def saved(store: checkpoint.Store, progress: Any) -> None:
            save(store, progress)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.Store.save = saved  # type: ignore[method-assign]
    return train(fold)

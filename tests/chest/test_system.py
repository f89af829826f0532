"""Coarse and fine networks by folds, and the system that is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.chest import coarse, fine, system
from stages.chest.locating.crossfit import development, read_out_of_fold
from stages.chest.locating.frames import Aligned, WholeFilm
from stages.chest.locating.inference import TrainedLocator, variance
from stages.chest.locating.network import Locator
from stages.chest.locating.settings import LocatorSettings
from stages.chest.schema import CHEST
from stages.chest.system_model import Rule, TrainedSystem
from stages.core.data import geometry, tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.pool import DASK
from stages.core.errors import StageError
from stages.core.evaluate.errors import radial_errors
from stages.core.params import load_params
from stages.core.stage import Observer
from tests.chest.conftest import Lane, contents


def small(params: coarse.Params | fine.Params) -> dict[str, object]:
    """An epoch of a small network from random weights, without photometry."""
    network = params.network.model_copy(update={"weights": "random", "channels": 8, "mixer_layers": 1})
    phases = tuple(phase.model_copy(update={"epochs": 1}) for phase in params.fit.phases)
    return {
        "threads": 1,
        "device": "cpu",
        "input": 64,
        "network": network,
        "augment": params.augment.model_copy(update={"photometric": ()}),
        "fit": params.fit.model_copy(update={"phases": phases}),
    }


def coarse_params() -> coarse.Params:
    params = load_params(coarse.Params, profile="demo")
    return params.model_copy(update=small(params))


def fine_params() -> fine.Params:
    params = load_params(fine.Params, profile="demo")
    return params.model_copy(update=small(params))


def run_all(lane: Lane, folder: Path) -> dict[str, dict[str, float]]:
    observe = Observer.quiet(folder / "scratch")
    metrics = {
        "coarse": coarse.run(
            coarse_params(), lane.films, lane.split, folder / "coarse.parquet", folder / "coarse", observe
        ),
        "fine": fine.run(
            fine_params(), lane.films, lane.split, folder / "coarse.parquet", folder / "fine.parquet",
            folder / "fine", observe,
        ),
    }  # fmt: skip
    metrics["system"] = system.run(
        load_params(system.Params, profile="demo"), lane.films, lane.split, folder / "coarse", folder / "fine",
        folder / "coarse.parquet", folder / "fine.parquet", folder / "system", observe,
    )  # fmt: skip
    return metrics


@dataclass(frozen=True)
class Made:
    folder: Path
    metrics: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def made(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("system")
    return Made(folder, run_all(lane, folder))


def test_a_second_run_writes_the_same_bytes(lane: Lane, made: Made, tmp_path: Path) -> None:
    again = run_all(lane, tmp_path)
    assert again == made.metrics
    for name in ("coarse", "fine", "system"):
        assert contents(tmp_path / name) == contents(made.folder / name)
    for name in ("coarse.parquet", "fine.parquet"):
        assert (tmp_path / name).read_bytes() == (made.folder / name).read_bytes()


def test_folds_in_processes_of_their_own_give_the_same_bytes(lane: Lane, made: Made, tmp_path: Path) -> None:
    params = coarse_params().model_copy(update={"threads": 2})
    observe = Observer.quiet(tmp_path / "scratch")
    coarse.run(params, lane.films, lane.split, tmp_path / "coarse.parquet", tmp_path / "coarse", observe)
    assert (tmp_path / "coarse.parquet").read_bytes() == (made.folder / "coarse.parquet").read_bytes()


def test_folds_on_dask_workers_give_the_same_bytes(
    made: Made, lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DASK, "local:2")
    observe = Observer.quiet(tmp_path / "scratch")
    found = coarse.run(
        coarse_params(), lane.films, lane.split, tmp_path / "coarse.parquet", tmp_path / "coarse", observe
    )
    assert found == made.metrics["coarse"]
    for output in ("coarse.parquet", "coarse/weights.pt"):
        assert (tmp_path / output).read_bytes() == (made.folder / output).read_bytes()


def test_only_development_films_are_used_and_each_by_a_network_that_has_not_seen_it(
    lane: Lane, made: Made
) -> None:
    data = LabelledFilms.open(lane.films, lane.split)
    own = development(data)
    assert set(data.roles[own]) == {"train", "val"}
    for name in ("coarse", "fine"):
        table = tables.read_table(made.folder / f"{name}.parquet")
        assert sorted(table["id"]) == sorted(data.films.ids[own])
    # The network of a fold is not moved by that fold's labels.
    labels = data.landmarks_raw.copy()
    folds, before, _ = read_out_of_fold(made.folder / "coarse.parquet", data)
    held = own[folds == 0]
    labels[held] += 40
    seen = trained_points(replace(data, landmarks_raw=labels), own, folds, held)
    np.testing.assert_allclose(seen, before[folds == 0], atol=1e-3)
    labels[own[folds == 1]] += 40
    assert np.abs(trained_points(replace(data, landmarks_raw=labels), own, folds, held) - seen).max() > 0.1


def trained_points(data: LabelledFilms, own: np.ndarray, folds: np.ndarray, held: np.ndarray) -> np.ndarray:
    from stages.chest.locating.training import train_locator

    params = coarse_params()
    frames = WholeFilm(data.films.model_size, params.settings.size)
    observe = Observer.quiet(Path("unused"))
    trained = train_locator(
        data, own[folds != 0], held, frames, params.settings, params.seed + 1, 1, "cpu", observe, "fold-0"
    )
    return trained.locate(data.films.images[held], frames.fixed(held)).points


def test_out_of_fold_tables_of_another_split_are_refused(lane: Lane, made: Made, tmp_path: Path) -> None:
    data = LabelledFilms.open(lane.films, lane.split)
    other = replace(data, roles=np.where(data.roles == "test", "train", data.roles))
    with pytest.raises(StageError, match="other films than the split's train and val"):
        read_out_of_fold(made.folder / "coarse.parquet", other)


def test_a_mirrored_film_gives_mirrored_points_with_names_exchanged(lane: Lane, made: Made) -> None:
    opened = TrainedSystem.open(made.folder / "system")
    images = LabelledFilms.open(lane.films, lane.split).films.images[:3]
    plain, mirrored = opened.predict(images), opened.predict(images[:, :, ::-1])
    flip = geometry.mirror_matrix(images.shape[2])
    np.testing.assert_allclose(
        geometry.apply(flip, mirrored.points)[:, CHEST.swap], plain.points, atol=0.3
    )  # resampling of 8-bit films is not quite symmetrical


def test_one_film_and_a_batch_are_read_alike(lane: Lane, made: Made) -> None:
    opened = TrainedSystem.open(made.folder / "system")
    images = LabelledFilms.open(lane.films, lane.split).films.images[:5]
    together = opened.predict(images)
    for i, image in enumerate(images):
        alone = opened.predict_film(np.asarray(image))
        np.testing.assert_allclose(alone.points[0], together.points[i], atol=1e-3)
        np.testing.assert_allclose(alone.radius[0], together.radius[i], rtol=1e-3)
    assert together.radius.shape == (5, 15)
    assert (together.radius > 0).all()


def test_the_rule_is_the_best_of_those_tried_and_the_table_holds_its_points(lane: Lane, made: Made) -> None:
    found = made.metrics["system"]
    tried = {k: v for k, v in found.items() if k.startswith("oof_")}
    assert len(tried) == 6
    assert found["out_of_fold_px224"] == min(tried.values())
    opened = TrainedSystem.open(made.folder / "system")
    data = LabelledFilms.open(lane.films, lane.split)
    table = opened.out_of_fold.set_index("id").loc[data.films.ids[development(data)]]
    errors = radial_errors(
        tables.stack_points(table["landmarks"]), data.landmarks_raw[development(data)]
    ).mean(1)
    assert errors.mean() * 224 / 299 == pytest.approx(found["out_of_fold_px224"], rel=0.01)


def test_rules_join_as_they_say() -> None:
    first, second = np.zeros((2, 15, 2)), np.ones((2, 15, 2))
    assert Rule(answer="coarse", project=False).join(first, second).max() == 0
    assert Rule(answer="fine", project=False).join(first, second).min() == 1
    np.testing.assert_array_equal(Rule(answer="mean", project=False).join(first, second), 0.5)


def test_a_model_of_another_kind_is_refused(made: Made) -> None:
    with pytest.raises(StageError, match="expected 'align-and-refine'"):
        TrainedSystem.open(made.folder / "coarse")


def test_spread_of_a_map_is_the_deviation_of_its_gaussian() -> None:
    settings = coarse_params().settings
    codec = TrainedLocator((), settings, torch.device("cpu")).codec
    maps = codec.encode(torch.tensor([[[31.5, 31.5]]]), (64, 64))
    assert float(variance(maps, settings.network.stride)) ** 0.5 == pytest.approx(
        settings.network.sigma, rel=0.05
    )


def test_guesses_of_training_are_moved_by_other_films_errors_only() -> None:
    rng = np.random.default_rng(0)
    from tests.chest.test_alignment import canonical, shapes

    guesses, errors = shapes(6), rng.normal(0, 3, (6, 15, 2))
    still = Aligned(canonical(), guesses, errors, share=0.0, strength=1.0)
    rows = np.arange(6)
    np.testing.assert_array_equal(still.drawn(np.random.default_rng(1), rows), still.fixed(rows))
    moved = replace(still, share=1.0)
    drawn = moved.drawn(np.random.default_rng(1), rows)
    assert (np.abs(drawn - still.fixed(rows)).max((1, 2)) > 0).all()
    candidates = [canonical().maps(guesses + sign * error) for error in errors for sign in (-1, 1)]
    for i in rows:
        assert any(np.allclose(drawn[i], maps[i]) for maps in candidates)


def test_a_plan_without_a_known_loss_names_the_known_ones() -> None:
    params = coarse_params()
    phase = params.fit.phases[0].model_copy(update={"weights": {"wing": 1.0}})
    wrong = {**vars(params), "fit": params.fit.model_copy(update={"phases": (phase,)})}
    with pytest.raises(ValueError, match="there are cross_entropy, l1_cells"):
        LocatorSettings.of(wrong)


def test_pictures_that_do_not_divide_into_the_backbones_cells_are_an_error() -> None:
    with pytest.raises(StageError, match="do not divide into the cells of 32 px"):
        Locator(coarse_params().network, CHEST.n_points, 72)

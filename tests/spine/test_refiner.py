"""Training a Refiner: any vertebral schema, the same bytes twice and after a kill, only films that may be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.model.card import load_card
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.core.train import trainer
from stages.spine import refiner
from stages.spine.refining.heads import build_head
from stages.spine.refining.inference import Refiner, build, open_refiner
from stages.spine.refining.pairs import choose_pairs
from stages.spine.refining.sampling_plan import HintPlan
from stages.spine.refining.training import train_refiner
from stages.spine.schema import SCHEMA, vertebral_schema
from tests.spine.drawn import SpineStore, small, write_store

FOUR = vertebral_schema(("T1", "T2", "T3", "T4"))
CPU = torch.device("cpu")


def train(
    data: LabelledFilms, settings: refiner.Params, schema: LandmarkSchema = FOUR
) -> tuple[Refiner, trainer.Fitted, Observer]:
    observe = Observer.quiet(Path("unused"))
    chosen = choose_pairs(np.empty((0, 0, 2)), schema, "anatomical", 1)
    found = train_refiner(
        data, data.trainable(), data.trainable("val"), schema, settings, 1, 1, "cpu", chosen, observe
    )
    return *found, observe


def untrained(form: str = "softmax", **changes: Any) -> Refiner:
    """A Refiner of four vertebrae with random weights."""
    torch.manual_seed(0)
    built = small().network.model_copy(update={"form": form, **changes})
    head = build_head(built, FOUR.n_points, (64, 32), None)
    head.network.eval()
    return Refiner((head,), built, FOUR, (64, 32), CPU)


def run(
    store: SpineStore, folder: Path, name: str, params: refiner.Params
) -> tuple[dict[str, float], Observer]:
    observe = Observer.quiet(folder / f"scratch-{name}", key="c" * 64)
    pairs = folder / "pairs.json"
    choose_pairs(np.empty((0, 0, 2)), SCHEMA, "anatomical", 1).save(pairs)
    return refiner.run(params, store.films, store.audit, store.split, pairs, folder / name, observe), observe


def test_a_four_vertebra_schema_trains_and_beats_the_mean_shape(tmp_path: Path) -> None:
    data = write_store(tmp_path / "store", FOUR, n=64).open()
    alone = HintPlan(counts=(1.0,), passes=(1.0,), slips=0.0)
    trained, fitted, _ = train(data, small(epochs=14).model_copy(update={"hints": alone}))
    mean = data.landmarks_model[data.trainable()].mean(0)
    val = data.rows("val")
    truth = data.landmarks_raw[val]
    floor = np.linalg.norm(data.films.to_raw(np.repeat(mean[None], len(val), 0), val) - truth, axis=-1).mean()
    assert fitted.best_value < 0.6 * floor
    seen = data.films.to_raw(trained.run(data.films.images[val]).points, val)
    assert np.linalg.norm(seen - truth, axis=-1).mean() == pytest.approx(fitted.best_value, rel=1e-5)


def test_run_twice_writes_the_same_bytes_and_a_card(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    outputs = []
    for name in ("a", "b"):
        metrics, observe = run(store, tmp_path, name, small(clicks=1))
        files = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        outputs.append((metrics, files, observe.history))
    assert outputs[0] == outputs[1]
    assert outputs[0][0]["n_train"] == 7, "8 films have the role train, and the audit drops one"
    card = load_card(tmp_path / "a")
    assert (card.registry_name, card.n_train, card.landmarks) == ("spine-phantom", 7, SCHEMA.names)
    assert card.architecture == "refiner-softmax"
    assert outputs[0][2][1].keys() == {
        "train_loss",
        "train_cross_entropy",
        "train_l1_cells",
        "val_error_raw_px",
        "val_error_raw_px@1",
    }


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "store", SCHEMA)

    def weights(name: str) -> tuple[dict[str, float], bytes]:
        metrics, _ = run(store, tmp_path, name, small(epochs=3))
        return metrics, (tmp_path / name / "weights.pt").read_bytes()

    whole = weights("whole")
    step, steps = trainer._Loop._step, iter(range(100))

    def dying(*arguments: Any) -> Any:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Loop, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            weights("torn")
    assert not (tmp_path / "torn").exists()
    assert weights("torn") == whole


def test_films_that_may_not_be_used_change_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", FOUR)
    states = []
    for spoil in (False, True):
        data = store.open()
        if spoil:
            seen = np.concatenate([data.trainable(), data.trainable("val")])
            images = np.array(data.films.images)
            hidden = np.setdiff1d(np.arange(len(images)), seen)
            images[hidden] = 255 - images[hidden]
            data = replace(data, films=replace(data.films, images=images))
        states.append(train(data, small())[0].members[0].network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("form", ["softmax", "keybot"])
def test_either_form_learns_from_all_its_losses_and_opens_again(tmp_path: Path, form: str) -> None:
    data = write_store(tmp_path / "store", FOUR).open()
    weights = {"softmax": ("cross_entropy", "l1_cells"), "keybot": ("bce", "bce_aux")}[form]
    phase = small().fit.phases[0]
    rates = phase.rates if form == "softmax" else {"all": 0.002}
    phase = phase.model_copy(
        update={"rates": rates, "weights": dict.fromkeys((*weights, "distance", "angle"), 1.0)}
    )
    settings = small(phases=(phase,))
    settings = settings.model_copy(update={"network": settings.network.model_copy(update={"form": form})})
    trained, _, observe = train(data, refiner.Params.model_validate(settings.model_dump()))
    told = observe.history[1]
    parts = [told[f"train_{name}"] for name in (*weights, "distance", "angle")]
    assert min(parts) > 0
    assert told["train_loss"] == pytest.approx(sum(parts), rel=1e-4)
    again = build(settings.model_dump(), [trained.members[0].network.state_dict()], FOUR)
    images, hints = data.films.images[:3], data.landmarks_model[:3].copy()
    hints[:, 2:] = np.nan
    first, second = (r.run(images, hints, r.run(images).maps) for r in (trained, again))
    np.testing.assert_allclose(first.points, second.points, atol=1e-3)
    assert np.abs(first.points - trained.run(images).points).max() > 1e-4, "hints make a difference"


def test_losses_without_a_weight_are_not_computed_into_the_sum(tmp_path: Path) -> None:
    data = write_store(tmp_path / "store", FOUR).open()
    phase = small().fit.phases[0].model_copy(update={"weights": {"cross_entropy": 2.0, "distance": 0.0}})
    told = train(data, small(phases=(phase,)))[2].history[1]
    assert told.keys() == {"train_loss", "train_cross_entropy", "val_error_raw_px"}
    assert told["train_loss"] == pytest.approx(2 * told["train_cross_entropy"], rel=1e-5)


@pytest.mark.parametrize(
    ("form", "weights"),
    [("softmax", {"bce": 1.0}), ("keybot", {"cross_entropy": 1.0}), ("softmax", {"cross_entropy": 0.0})],
)
def test_weights_that_are_not_the_forms_or_all_zero_are_refused(form: str, weights: dict[str, float]) -> None:
    params = load_params(refiner.Params, profile="demo").model_dump()
    params["network"]["form"] = form
    params["fit"]["phases"] = [params["fit"]["phases"][0] | {"weights": weights}]
    with pytest.raises(
        ValueError, match=f"weights of some of .*distance, angle expected for the form '{form}'"
    ):
        refiner.Params.model_validate(params)


def test_swapping_left_and_right_is_a_matter_of_mirrored_films(tmp_path: Path) -> None:
    data = write_store(tmp_path / "store", FOUR).open()
    losses = {}
    for mirror in (0.0, 1.0):
        for swap in (False, True):
            settings = small()
            augment = settings.augment.model_copy(update={"mirror": mirror})
            settings = settings.model_copy(update={"augment": augment, "swap_on_mirror": swap})
            losses[mirror, swap] = train(data, settings)[2].history[1]["train_loss"]
    assert losses[0.0, False] == losses[0.0, True]
    assert losses[1.0, False] != losses[1.0, True]


@pytest.mark.parametrize("form", ["softmax", "keybot"])
def test_a_mirrored_film_gives_the_mirrored_answer(form: str) -> None:
    """Averaging over the mirror makes the network symmetric, whatever its weights, hints and last maps."""
    refining = untrained(form, average_mirror=True)
    rng = np.random.default_rng(0)
    film = rng.integers(0, 256, (1, 64, 32), dtype=np.uint8)
    hints = np.full((1, 16, 2), np.nan)
    hints[0, [2, 7]] = rng.uniform(3, 28, (2, 2))
    turned = (hints * [-1, 1] + [31, 0])[:, FOUR.swap]
    maps, turned_maps = (refining.run(film[:, :, ::step]).maps for step in (1, -1))
    plain = refining.run(film, hints, maps).points[0]
    mirrored = refining.run(film[:, :, ::-1], turned, turned_maps).points[0]
    np.testing.assert_allclose(mirrored[FOUR.swap, 0], 31 - plain[:, 0], atol=1e-3)
    np.testing.assert_allclose(mirrored[FOUR.swap, 1], plain[:, 1], atol=1e-3)


def test_averaging_over_the_mirror_is_what_makes_it_so() -> None:
    film = np.random.default_rng(0).integers(0, 256, (1, 64, 32), dtype=np.uint8)
    averaged, one_sided = (untrained(average_mirror=on).run(film).points for on in (True, False))
    assert np.abs(one_sided - averaged).max() > 1e-3


def test_members_answer_with_the_mean_of_their_maps() -> None:
    film = np.random.default_rng(0).integers(0, 256, (2, 64, 32), dtype=np.uint8)
    one = untrained()
    torch.manual_seed(1)
    other = build_head(one.built, FOUR.n_points, (64, 32), None)
    other.network.eval()
    both = replace(one, members=(*one.members, other)).run(film)
    alone = [one.run(film).maps, replace(one, members=(other,)).run(film).maps]
    torch.testing.assert_close(both.maps, (alone[0] + alone[1]) / 2)
    assert (alone[0] - alone[1]).abs().max() > 1e-4


def test_no_films_give_no_points() -> None:
    refining = untrained()
    for size in ((64, 32), (128, 64)):
        assert refining.run(np.empty((0, *size), np.uint8)).points.shape == (0, 16, 2)


def test_a_model_folder_opens_only_for_its_own_landmarks(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", SCHEMA)
    run(store, tmp_path, "m", small())
    card, trained = open_refiner(tmp_path / "m", SCHEMA)
    assert card == load_card(tmp_path / "m")
    data = store.open()
    films = data.films.images
    hints = np.where(np.arange(68)[:, None] == 5, data.landmarks_model, np.nan)
    whole, twice = trained.run(films, hints), trained.run(films.repeat(2, 1).repeat(2, 2), hints * 2 + 0.5)
    np.testing.assert_allclose(twice.points, whole.points * 2 + 0.5, atol=1e-3)
    with pytest.raises(
        StageError, match=r"holds a spine model of 68 points, expected .* 16 points T1 TL to T4 BR"
    ):
        open_refiner(tmp_path / "m", FOUR)
    with pytest.raises(StageError, match="the weights do not fit the Refiner in card.json"):
        build(card.params, [untrained().members[0].network.state_dict()], SCHEMA)

"""The whole system, its evaluation, evaluation of a raw folder, and prediction of files, all barely trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.io import loadmat, savemat

from stages.core.data import tables
from stages.core.data.decode import PHANTOM_MARK
from stages.core.data.split import read_split, write_split
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.floors.stage import PREDICTED_ROLES
from stages.core.model.card import load_card, load_weights, save_model
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine import corrector, detector, errors, evaluate, floors, folds, pairs, refiner, system
from stages.spine.cobb import cobb_angles
from stages.spine.folder import evaluate_folder
from stages.spine.looping.session import wrong_points
from stages.spine.looping.system import System
from stages.spine.overlay import write_overlay
from stages.spine.predict import WARNINGS, predict_files
from stages.spine.schema import SCHEMA, vertebral_schema
from tests.spine import test_corrector, test_detector
from tests.spine.drawn import SpineStore, draw_spines, small, write_store
from tests.spine.erring import MIX

ROLES = ("val", "gate", "test")
CLICKS = 2


@dataclass(frozen=True)
class Lane:
    """A drawn store with the lane's floors and a system whose networks were trained for one epoch each."""

    store: SpineStore
    folder: Path
    floors: Path
    model: Path


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Lane:
    folder = tmp_path_factory.mktemp("lane")
    store = write_store(folder / "store", SCHEMA, n=24)
    made = Lane(store, folder, folder / "floors", folder / "system")
    observe = Observer.quiet(folder / "scratch")
    inputs = (store.films, store.audit, store.split)
    chosen = pairs.Params(criterion="anatomical", count=1)
    pairs.run(chosen, *inputs, folder / "pairs.json", observe)
    refiner.run(small(), *inputs, folder / "pairs.json", folder / "refiner", observe)
    dealt = folds.Params(seed=1, threads=1, device="cpu", world_size=1, folds=2, epochs=1.0, clicks=1)
    folds.run(
        dealt, *inputs, folder / "pairs.json", folder / "refiner", folder / "folds.parquet", folder / "folds",
        observe,
    )  # fmt: skip
    mixed = errors.Params(seed=1, mix=MIX, draws=2)
    errors.run(mixed, *inputs, folder / "folds.parquet", folder / "errors.parquet", observe)
    for stage, params in (
        (detector, test_detector.params("global")),
        (corrector, test_corrector.params("heatmap")),
    ):
        name = stage.__name__.rpartition(".")[2]
        stage.run(params, *inputs, folder / "errors.parquet", folder / name, observe)
    assemble(made, made.model)
    floored = load_params(floors.Params, profile="demo")
    floors.run(floored, *inputs, made.floors, observe)
    return made


def assemble(lane: Lane, output: Path, **changes: Any) -> dict[str, float]:
    """Run spine-system on the lane's networks."""
    demo = load_params(system.Params, profile="demo").model_dump()
    few = {"threads": 1, "ensemble": True, "propagate": True, "updates": ("hint", "replace")}
    few |= {"rounds": 2, "thresholds": (0.5,), "accepts": (0.0, 0.5)}
    params = system.Params.model_validate(demo | few | changes)
    parts = ("folds", "predictions", "refiner", "detector", "corrector")
    files = {part: lane.folder / (part if part != "predictions" else "folds.parquet") for part in parts}
    inputs = {"films": lane.store.films, "audit": lane.store.audit, "split": lane.store.split, **files}
    observe = Observer.quiet(lane.folder / "scratch-system")
    return system.run(params, **inputs, output=output, observe=observe)


def run(lane: Lane, output: Path, split: Path | None = None, model: Path | None = None) -> dict[str, float]:
    bootstrap = Bootstrap(resamples=200, level=0.95, method="percentile", minimum_groups=3)
    params = evaluate.Params(
        seed=1, threads=1, clicks=CLICKS, targets_raw_px=(20.0, 60.0), bootstrap=bootstrap
    )
    split = split or lane.store.split
    observe = Observer.quiet(output.parent / "scratch")
    return evaluate.run(
        params, lane.store.films, lane.store.audit, split, lane.floors, model or lane.model, output, observe
    )


@pytest.fixture(scope="module")
def judged(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The lane's evaluation folder and metrics."""
    folder = tmp_path_factory.mktemp("judged") / "evaluation"
    return folder, run(lane, folder)


def test_the_system_is_the_same_bytes_twice_and_no_worse_on_val_than_the_refiner(
    lane: Lane, tmp_path: Path
) -> None:
    metrics = assemble(lane, tmp_path / "again")
    for name in ("card.json", "weights.pt"):
        assert (tmp_path / "again" / name).read_bytes() == (lane.model / name).read_bytes()
    by_team = {members: metrics[f"val_error_raw_px_of_{members}"] for members in (1, 3)}
    assert metrics["members"] == min(by_team, key=lambda members: by_team[members])
    assert metrics["val_error_raw_px"] == min(by_team.values())
    assert metrics["val_error_raw_px_loop"] <= metrics["val_error_raw_px"]
    assert metrics["val_expected_error_heights"] == pytest.approx(metrics["val_error_heights"], rel=0.05)
    card = load_card(lane.model)
    assert card.n_train == 11
    assert card.params["rule"]["rounds"] == metrics["rule_rounds"]
    assert {"refiner", "detector", "corrector", "rule", "expected_error"} == card.params.keys()


def test_members_and_propagation_are_left_out_on_demand(lane: Lane, tmp_path: Path) -> None:
    metrics = assemble(lane, tmp_path / "plain", ensemble=False, propagate=False)
    assert metrics["members"] == 1
    assert len(System.open(tmp_path / "plain", SCHEMA).loop.refiner.members) == 1
    weights = load_weights(tmp_path / "plain")
    assert not any(name.startswith(("propagation.", "refiner.1.")) for name in weights)


def test_a_loop_that_does_not_help_on_val_is_switched_off(lane: Lane, tmp_path: Path) -> None:
    """Rounds are taken back unless suspicion vanishes, which it never does."""
    metrics = assemble(lane, tmp_path / "off", accepts=(1.0,))
    assert metrics["rule_rounds"] == 0
    assert metrics["val_error_raw_px_loop"] == metrics["val_error_raw_px"]
    answer = System.open(tmp_path / "off", SCHEMA).predict(np.asarray(lane.store.open().films.images[:2]))
    np.testing.assert_allclose(answer.points, answer.first)


def test_parts_of_another_split_are_refused(lane: Lane, tmp_path: Path) -> None:
    torn = replace(lane, folder=tmp_path)
    for name in ("folds", "folds.parquet", "refiner", "corrector"):
        (tmp_path / name).symlink_to(lane.folder / name)
    other = load_card(lane.folder / "detector").model_copy(update={"split_sha256": "0" * 64})
    save_model(tmp_path / "detector", load_weights(lane.folder / "detector"), other)
    with pytest.raises(StageError, match="^detector and the Refiner were trained on different splits"):
        assemble(torn, tmp_path / "system")


def test_a_system_opens_only_for_its_own_landmarks_and_only_a_system_does(lane: Lane) -> None:
    with pytest.raises(StageError, match=r"of 68 points, expected .* 16 points T1 TL to T4 BR"):
        System.open(lane.model, vertebral_schema(("T1", "T2", "T3", "T4")))
    with pytest.raises(StageError, match="holds a spine model 'refiner-softmax'"):
        System.open(lane.folder / "refiner", SCHEMA)


def test_hinted_points_come_back_where_they_were_put_in_any_frame(lane: Lane) -> None:
    opened = System.open(lane.model, SCHEMA)
    films = np.asarray(lane.store.open().films.images[:3])
    hints = np.full((3, 68, 2), np.nan)
    hints[0, 5], hints[2, 60] = (10.0, 20.0), (12.5, 50.25)
    given = np.isfinite(hints).all(-1)
    answer = opened.predict(films, hints)
    np.testing.assert_allclose(answer.points[given], hints[given])
    assert (answer.expected_error[given] == 0).all()
    assert (answer.wrong[given] == 0).all()
    assert (answer.expected_error[~given] > 0).all()
    plain = opened.predict(films)
    np.testing.assert_allclose(answer.points[1], plain.points[1], atol=1e-4)
    assert (np.abs(answer.points - plain.points).max(-1)[[0, 2]] > 1e-3).sum() > 100, "the others follow"
    twice = opened.predict(films.repeat(2, 1).repeat(2, 2), hints * 2 + 0.5)
    np.testing.assert_allclose(twice.points, answer.points * 2 + 0.5, atol=1e-3)
    np.testing.assert_allclose(twice.expected_error, 2 * answer.expected_error, rtol=1e-3)


def test_run_twice_writes_the_same_bytes_with_every_film_of_every_role(
    lane: Lane, judged: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder, metrics = judged
    assert run(lane, tmp_path / "b") == metrics
    names = {"per_film.parquet", "per_point.parquet", "comparison.csv"}
    names |= {"clicks.parquet", "rounds.csv", "risk.csv"}
    assert {p.name for p in (folder).iterdir()} == names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    per_film = tables.read_table(folder / "per_film.parquet")
    split = read_split(lane.store.split)
    for _, by_method in per_film.groupby("method"):
        assert set(by_method["id"]) == set(split.loc[split["role"].isin(ROLES), "id"])
    assert set(per_film["method"]) == {"system", "refiner", "mean_shape", "pca_shape", "hog_kernel_ridge"}

    test = per_film[(per_film["method"] == "system") & (per_film["role"] == "test")]
    assert metrics["mre_raw_px"] == pytest.approx(test["error_raw_px"].mean())
    assert metrics["n_films"] == len(test) == 6
    assert metrics["n_suspect"] == 1
    assert metrics["mre_suspects_raw_px"] == pytest.approx(test.loc[test["suspect"], "error_raw_px"].mean())
    assert metrics["mre_raw_px_low"] < metrics["mre_raw_px"] < metrics["mre_raw_px_high"]
    vertebrae = [metrics[f"mre_{level}_raw_px"] for level in SCHEMA.groups]
    assert np.mean(vertebrae) == pytest.approx(metrics["mre_raw_px"], rel=1e-5)
    assert {f"{role}_mre_raw_px" for role in ("val", "gate")} <= metrics.keys()
    compared = pd.read_csv(folder / "comparison.csv")
    assert len(compared) == 12, "system against four others in three roles"
    row = compared[(compared["role"] == "test") & (compared["method_b"] == "mean_shape")].iloc[0]
    difference = metrics["mre_raw_px"] - metrics["mean_shape_mre_raw_px"]
    assert row["mean_difference"] == pytest.approx(difference, rel=1e-4)


def test_clicks_are_counted_for_every_method_and_agree_with_the_plain_answers(
    judged: tuple[Path, dict[str, float]],
) -> None:
    folder, metrics = judged
    clicks = tables.read_table(folder / "clicks.parquet")
    oracles = {"oracle_detector", "oracle_corrector", "oracle_both"}
    counted = {(m, int(c)) for m, c in zip(clicks["method"], clicks["clicks"], strict=True)}
    courses = {(m, c) for m in ("refiner", "loop", "manual") for c in range(CLICKS + 1)}
    assert counted == courses | {(m, 0) for m in oracles}
    means = clicks.groupby(["method", "clicks"])["error_raw_px"].mean()
    assert means["loop", 0] == pytest.approx(metrics["mre_raw_px"], rel=1e-5)
    assert metrics["mre_raw_px_loop@0"] == pytest.approx(metrics["mre_raw_px"], rel=1e-6)
    assert metrics["mre_raw_px@0"] == pytest.approx(metrics["refiner_mre_raw_px"], rel=1e-6)
    assert metrics["mre_raw_px_manual@0"] == metrics["mre_raw_px@0"]
    for count in range(CLICKS + 1):
        assert means["refiner", count] == pytest.approx(metrics[f"mre_raw_px@{count}"], rel=1e-5)
        assert metrics[f"mre_raw_px@{count}"] <= metrics[f"mre_unpasted_raw_px@{count}"]
    manual = [metrics[f"mre_raw_px_manual@{count}"] for count in range(CLICKS + 1)]
    assert (np.diff(manual) < 0).all()
    assert metrics["mre_raw_px_oracle_both@0"] < metrics["mre_raw_px@0"], "who knows all can only help"
    for course in ("", "_loop", "_manual"):
        assert 0 <= metrics[f"noc{course}@60_raw_px"] <= metrics[f"noc{course}@20_raw_px"] <= CLICKS
        assert 0 <= metrics[f"fr{course}@60_raw_px"] <= metrics[f"fr{course}@20_raw_px"] <= 1
    risk = pd.read_csv(folder / "risk.csv").set_index("name")["value"]
    assert {"prevalence", "pr_auc_detector", "pr_auc_spread", "pr_auc_peak"} <= set(risk.index)
    assert risk["pr_auc_detector"] == pytest.approx(metrics["risk_pr_auc_detector"])


def test_rounds_say_what_they_fixed_and_broke(lane: Lane, tmp_path: Path) -> None:
    """With a rule that acts on everything and takes nothing back."""
    daring = {"update": "replace", "rounds": 2, "threshold": 0.0, "accept": -99.0}
    card = load_card(lane.model)
    card = card.model_copy(update={"params": card.params | {"rule": daring}})
    save_model(tmp_path / "daring", load_weights(lane.model), card)
    metrics = run(lane, tmp_path / "a", model=tmp_path / "daring")
    rounds = pd.read_csv(tmp_path / "a" / "rounds.csv")
    assert rounds["round"].tolist() == [1, 2]
    assert (rounds["flagged"] == 6 * 68).all()
    assert (rounds["films_changed"] == 6).all()
    assert (rounds["net"] == rounds["fixed"] - rounds["broken"]).all()
    assert metrics["loop_net_points"] == rounds["net"].sum()
    data = lane.store.open()
    test = data.rows("test")
    opened = System.open(tmp_path / "daring", SCHEMA)
    seen = opened.predict(np.asarray(data.films.images[test])).rounds
    for number, (_, row) in enumerate(rounds.iterrows()):
        before, after = (
            wrong_points(opened, data, test, points) for points in (seen[number].before, seen[number].after)
        )
        assert row["net"] == before.sum() - after.sum()
        assert row["fixed"] == before.sum() - (before & after).sum()
    assert rounds["error_before_raw_px"][0] == pytest.approx(metrics["mre_raw_px@0"])
    assert rounds["error_before_raw_px"][1] == pytest.approx(rounds["error_after_raw_px"][0])
    assert rounds["error_after_raw_px"][1] == pytest.approx(metrics["mre_raw_px"])
    assert metrics["mre_raw_px"] != pytest.approx(metrics["mre_raw_px@0"])
    assert metrics["mre_raw_px_oracle_corrector@0"] < 1e-3, (
        "every point is flagged, and no oracle is taken back"
    )


def test_a_perfect_prediction_has_no_error_and_a_shifted_one_a_slip(lane: Lane) -> None:
    data = lane.store.open()
    rows = data.rows(*PREDICTED_ROLES)
    truth = data.landmarks_raw[rows].astype(float)
    perfect = evaluate.judge(data, rows, "system", truth)
    assert perfect[["error_raw_px", "error_model_px", "dy_raw_px", "slip_vertebrae"]].abs().max().max() == 0
    assert evaluate.summarise_films(perfect)["cobb_smape"] == 0
    pitch = np.median(np.diff(truth.reshape(len(rows), 17, 4, 2)[..., 1].mean(-1), axis=1), axis=1)
    shifted = truth + np.stack([np.zeros_like(pitch), -pitch], -1)[:, None]
    table = evaluate.judge(data, rows, "system", shifted)
    np.testing.assert_allclose(table["slip_vertebrae"], -1, rtol=1e-6)
    np.testing.assert_allclose(table["error_raw_px"], pitch, rtol=1e-6)
    summary = evaluate.summarise_films(table)
    assert (summary["slipped_share"], summary["dx_raw_px"]) == (1.0, 0.0)


def test_a_model_of_another_split_is_refused(lane: Lane, tmp_path: Path) -> None:
    moved = read_split(lane.store.split)
    moved["role"] = moved["role"].replace({"val": "test", "test": "val"})
    write_split(tmp_path / "split.parquet", moved)
    with pytest.raises(StageError, match="was trained on another split"):
        run(lane, tmp_path / "out", tmp_path / "split.parquet")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six drawn films in the AASCE layout's test part; one is no picture, one has no label."""
    folder = tmp_path / "raw"
    data, labels = folder / "data" / "test", folder / "labels" / "test"
    data.mkdir(parents=True)
    labels.mkdir(parents=True)
    films, points = draw_spines(np.random.default_rng(9), 6, 17)
    for i, (film, corners) in enumerate(zip(films, points, strict=True)):
        name = f"film {i} (a).jpg"
        cv2.imwrite(str(data / name), cv2.resize(film, (320, 640), interpolation=cv2.INTER_AREA))
        savemat(labels / f"{name}.mat", {"p2": np.rint(corners * 10 + 4.5).astype(np.uint16)})
    (data / "film 1 (a).jpg").write_bytes(b"not a film")
    (labels / "film 2 (a).jpg.mat").unlink()
    return folder


def test_a_folder_is_judged_with_its_bad_films_listed(lane: Lane, raw: Path, tmp_path: Path) -> None:
    result = evaluate_folder(lane.model, raw, tmp_path / "scratch", threads=1, clicks=1)
    json.dumps(result, allow_nan=False)
    assert (result["n_films"], result["n_quarantined"]) == (4, 2)
    assert {q["reason"] for q in result["quarantined"]} == {"film_format", "label_missing"}
    assert (result["n_repaired"], result["n_not_trusted"]) == (0, 0)
    assert result["audited_mre_raw_px"] == pytest.approx(result["mre_raw_px"])
    assert result["cobb_reference"] == "labels"
    assert result["cobb_smape"] == result["cobb_smape_of_labels"] > 0
    assert result["seconds_per_film"] > 0
    assert (result["trained_on"], result["data"]) == ("phantom", "aasce")
    assert result["mre_raw_px_loop@0"] == pytest.approx(result["mre_raw_px"], rel=1e-6)
    assert {"mre_raw_px@1", "mre_raw_px_manual@1", "noc@20_raw_px", "fr_loop@40_raw_px"} <= result.keys()

    files = [raw / "data" / "test" / f"film {i} (a).jpg" for i in (0, 3, 4, 5)]
    answers = predict_files(lane.model, files, tmp_path / "out", allow_phantom=True)
    points = np.array([[(p["x"], p["y"]) for p in a["landmarks"]] for a in answers])
    _, truth = draw_spines(np.random.default_rng(9), 6, 17)
    truth = np.rint(truth[[0, 3, 4, 5]] * 10 + 4.5)
    error = np.linalg.norm(points - truth, axis=-1).mean()
    assert error == pytest.approx(result["mre_raw_px"], abs=0.1), "one path for folders and for files"


def test_rolled_labels_count_as_they_came_and_apart_after_the_audit(
    lane: Lane, raw: Path, tmp_path: Path
) -> None:
    plain = evaluate_folder(lane.model, raw, tmp_path / "plain", threads=1, clicks=1)
    label = raw / "labels" / "test" / "film 3 (a).jpg.mat"
    savemat(label, {"p2": np.roll(loadmat(label)["p2"], -4, axis=0)})
    rolled = evaluate_folder(lane.model, raw, tmp_path / "rolled", threads=1, clicks=1)
    assert (rolled["n_repaired"], rolled["n_not_trusted"]) == (1, 0)
    assert abs(rolled["mre_raw_px"] - plain["mre_raw_px"]) > 0.01
    assert rolled["audited_mre_raw_px"] == pytest.approx(plain["mre_raw_px"])


def test_published_angles_are_the_reference_where_the_folder_has_them(
    lane: Lane, raw: Path, tmp_path: Path
) -> None:
    labels = raw / "labels" / "test"
    (labels / "filenames.csv").write_text("".join(f"film {i} (a).jpg\n" for i in range(6)))
    (labels / "angles.csv").write_text("50,20,10\n" * 6)
    published = evaluate_folder(lane.model, raw, tmp_path / "one", threads=1, clicks=1)
    assert published["cobb_reference"] == "angles.csv"
    assert published["cobb_smape"] != published["cobb_smape_of_labels"]
    (labels / "angles.csv").write_text("50,20,10\n" * 5)
    short = evaluate_folder(lane.model, raw, tmp_path / "two", threads=1, clicks=1)
    assert short["cobb_reference"] == "labels", "rows that cannot be matched to films are not used"


def write_film(path: Path, phantom: bool, deep: bool = False, colour: bool = False) -> np.ndarray:
    """A drawn film of 300 x 700 px as PNG; returns what was drawn."""
    film = cv2.resize(draw_spines(np.random.default_rng(1), 1, 17)[0][0], (300, 700))
    picture = Image.fromarray(film.astype(np.uint16) * 257 if deep else film)
    if colour:
        picture = picture.convert("RGB")
    info = PngInfo()
    if phantom:
        info.add_text("Comment", PHANTOM_MARK)
    picture.save(path, pnginfo=info)
    return film


def test_answers_name_points_angles_overlay_and_source(lane: Lane, tmp_path: Path) -> None:
    write_film(tmp_path / "a.png", phantom=True)
    (tmp_path / "sub").mkdir()
    write_film(tmp_path / "sub" / "a.png", phantom=True, colour=True)
    (tmp_path / "b.png").write_bytes(b"\x89PNG broken")
    files = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "sub" / "a.png"]
    first, broken, second = predict_files(lane.model, files, tmp_path / "out")
    json.dumps([first, broken, second], allow_nan=False)
    assert broken["error"]["reason"] == "film_format"
    assert [p["name"] for p in first["landmarks"]] == list(SCHEMA.names)
    assert (first["width"], first["height"]) == (300, 700)
    points = np.array([(p["x"], p["y"]) for p in first["landmarks"]])
    assert (points.min(0) > -1).all()
    assert (points.max(0) < (300, 700)).all()
    assert points.max() > 100, "px of the file, not of the network's input"
    np.testing.assert_allclose(list(first["cobb_degrees"].values()), cobb_angles(points, 700), atol=2.0)
    assert first["model"] == {
        "lane": "spine",
        "trained_on": "phantom",
        "model_key": "untracked",
        "notice": "research use only",
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.overlay.png", "a-2.overlay.png"}
    assert (first["overlay"], second["overlay"]) == ("a.overlay.png", "a-2.overlay.png")
    assert first["landmarks"] == second["landmarks"], "grey and colour copies of a film"


def test_the_overlay_shows_outlines_where_the_points_are(tmp_path: Path) -> None:
    film, points = (part[0] for part in draw_spines(np.random.default_rng(2), 1, 17))
    film, points = cv2.resize(film, (320, 640)), points * 10 + 4.5
    write_overlay(tmp_path / "a.png", film, points, 12.3)
    write_overlay(tmp_path / "b.png", film, points, 12.3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    drawn = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert drawn.shape == (1280, 640, 3)
    for a, b in SCHEMA.edges:
        x, y = np.rint((points[a] + points[b]) / 2 * 2 + 0.5).astype(int)
        around = drawn[y - 1 : y + 2, x - 1 : x + 2]
        assert np.ptp(around, axis=-1).max() > 90, "the middle of every edge is coloured"


def test_sixteen_bits_give_the_same_points(lane: Lane, tmp_path: Path) -> None:
    write_film(tmp_path / "eight.png", phantom=True)
    write_film(tmp_path / "sixteen.png", phantom=True, deep=True)
    answers = predict_files(lane.model, [tmp_path / "eight.png", tmp_path / "sixteen.png"], tmp_path / "out")
    points = np.array([[(p["x"], p["y"]) for p in a["landmarks"]] for a in answers])
    assert np.abs(points[0] - points[1]).max() < 20, "windowing changes contrast, not the frame"


def test_a_phantoms_model_refuses_persons_films_unless_told(lane: Lane, tmp_path: Path) -> None:
    write_film(tmp_path / "phantom.png", phantom=True)
    write_film(tmp_path / "person.png", phantom=False)
    files = [tmp_path / "phantom.png", tmp_path / "person.png"]
    with pytest.raises(StageError, match=r"must not read a person's film.*\n.*person\.png$"):
        predict_files(lane.model, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(predict_files(lane.model, files, tmp_path / "out", allow_phantom=True)) == 2
    real = load_card(lane.model).model_copy(update={"dataset": "aasce"})
    save_model(tmp_path / "real", load_weights(lane.model), real)
    assert len(predict_files(tmp_path / "real", files, tmp_path / "out")) == 2


def test_a_folder_stands_for_its_pictures(lane: Lane, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "b.png", phantom=True)
    write_film(tmp_path / "films" / "a.png", phantom=True)
    (tmp_path / "films" / "notes.txt").write_text("no film")
    answers = predict_files(lane.model, [tmp_path / "films"], tmp_path / "out")
    assert [Path(a["file"]).name for a in answers] == ["a.png", "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageError, match=r"empty holds no pictures"):
        predict_files(lane.model, [tmp_path / "empty"], tmp_path / "out")


def test_files_of_which_none_is_a_film_are_an_error_that_names_them(lane: Lane, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(
        StageError, match=r"none of 2 files.*\n.*a\.png: film_format.*\n.*b\.png: film_missing"
    ):
        predict_files(lane.model, [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")


def test_a_hint_for_one_film_is_heeded_and_marked(lane: Lane, tmp_path: Path) -> None:
    write_film(tmp_path / "a.png", phantom=True)
    (plain,) = predict_files(lane.model, [tmp_path / "a.png"], tmp_path / "out")
    told = ["T1-BL=100.25,200.5", "67=150,650"]
    (answer,) = predict_files(lane.model, [tmp_path / "a.png"], tmp_path / "out", hints=told)
    json.dumps(answer, allow_nan=False)
    marked = {p["name"]: (p["x"], p["y"]) for p in answer["landmarks"] if p.get("hint")}
    assert marked == {"T1 BL": (100.25, 200.5), "L5 BR": (150.0, 650.0)}
    assert all(
        p["expected_error_raw_px"] == p["probability_wrong"] == 0
        for p in answer["landmarks"]
        if p.get("hint")
    )
    assert answer["expected_error_raw_px"] > 0
    assert answer["landmarks"][10] != plain["landmarks"][10], "the others follow"
    assert not any("hint" in p for p in plain["landmarks"])


def test_hints_need_one_film_and_points_that_exist(lane: Lane, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_film(tmp_path / name, phantom=True)
    with pytest.raises(StageError, match="hints belong to one film, but there are 2"):
        predict_files(lane.model, [tmp_path], tmp_path / "out", hints=["0=1,2"])
    with pytest.raises(StageError, match="there is no point 'T13 TL'"):
        predict_files(lane.model, [tmp_path / "a.png"], tmp_path / "out", hints=["T13 TL=1,2"])


def test_a_film_unlike_the_training_set_gets_a_warning(lane: Lane, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 700), dtype=np.uint8)
    info = PngInfo()
    info.add_text("Comment", PHANTOM_MARK)
    Image.fromarray(noise).save(tmp_path / "noise.png", pnginfo=info)
    (answer,) = predict_files(lane.model, [tmp_path / "noise.png"], tmp_path / "out")
    assert answer["warnings"] == [WARNINGS["unlike"]]
    data = lane.store.open()
    width, height = data.films.sizes_raw[0]
    film = cv2.resize(np.asarray(data.films.images[0]), (int(width), int(height)))
    Image.fromarray(film).save(tmp_path / "film.png", pnginfo=info)
    (answer,) = predict_files(lane.model, [tmp_path / "film.png"], tmp_path / "out")
    assert answer["warnings"] == []

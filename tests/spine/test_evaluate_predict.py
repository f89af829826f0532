"""Evaluation, evaluation of a raw folder, and prediction of files, all with one barely trained network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
from stages.spine import evaluate, floors, train
from stages.spine.cobb import cobb_angles
from stages.spine.folder import evaluate_folder
from stages.spine.overlay import write_overlay
from stages.spine.predict import predict_files
from stages.spine.schema import SCHEMA
from tests.spine.drawn import SpineStore, draw_spines, small, write_store

ROLES = ("val", "gate", "test")


@dataclass(frozen=True)
class Lane:
    """A drawn store with the lane's floors and a network trained for one epoch."""

    store: SpineStore
    floors: Path
    model: Path


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Lane:
    folder = tmp_path_factory.mktemp("lane")
    store = write_store(folder / "store", SCHEMA, n=24)
    made = Lane(store, folder / "floors", folder / "model")
    observe = Observer.quiet(folder / "scratch")
    train.run(small(), store.films, store.audit, store.split, made.model, observe)
    params = load_params(floors.Params, profile="demo")
    floors.run(params, store.films, store.audit, store.split, made.floors, observe)
    return made


def run(lane: Lane, output: Path, split: Path | None = None) -> dict[str, float]:
    bootstrap = Bootstrap(resamples=200, level=0.95, method="percentile", minimum_groups=3)
    params = evaluate.Params(seed=1, threads=1, bootstrap=bootstrap)
    split = split or lane.store.split
    observe = Observer.quiet(output.parent / "scratch")
    return evaluate.run(
        params, lane.store.films, lane.store.audit, split, lane.floors, lane.model, output, observe
    )


def test_run_twice_writes_the_same_bytes_with_every_film_of_every_role(lane: Lane, tmp_path: Path) -> None:
    metrics = run(lane, tmp_path / "a")
    assert run(lane, tmp_path / "b") == metrics
    names = {"per_film.parquet", "per_point.parquet", "comparison.csv"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    per_film = tables.read_table(tmp_path / "a" / "per_film.parquet")
    split = read_split(lane.store.split)
    for _, judged in per_film.groupby("method"):
        assert set(judged["id"]) == set(split.loc[split["role"].isin(ROLES), "id"])
    assert set(per_film["method"]) == {"heatmap", "mean_shape", "pca_shape", "hog_kernel_ridge"}

    test = per_film[(per_film["method"] == "heatmap") & (per_film["role"] == "test")]
    assert metrics["mre_raw_px@0"] == pytest.approx(test["error_raw_px"].mean())
    assert metrics["n_films"] == len(test) == 6
    assert metrics["n_suspect"] == 1
    assert metrics["mre_suspects_raw_px"] == pytest.approx(test.loc[test["suspect"], "error_raw_px"].mean())
    assert metrics["mre_raw_px_low"] < metrics["mre_raw_px@0"] < metrics["mre_raw_px_high"]
    vertebrae = [metrics[f"mre_{level}_raw_px"] for level in SCHEMA.groups]
    assert np.mean(vertebrae) == pytest.approx(metrics["mre_raw_px@0"], rel=1e-5)
    assert {f"{role}_mre_raw_px@0" for role in ("val", "gate")} <= metrics.keys()
    compared = pd.read_csv(tmp_path / "a" / "comparison.csv")
    assert len(compared) == 9
    row = compared[(compared["role"] == "test") & (compared["method_b"] == "mean_shape")].iloc[0]
    difference = metrics["mre_raw_px@0"] - metrics["mean_shape_mre_raw_px"]
    assert row["mean_difference"] == pytest.approx(difference, rel=1e-4)


def test_a_perfect_prediction_has_no_error_and_a_shifted_one_a_slip(lane: Lane) -> None:
    data = lane.store.open()
    rows = data.rows(*PREDICTED_ROLES)
    truth = data.landmarks_raw[rows].astype(float)
    perfect = evaluate.judge(data, rows, "heatmap", truth)
    assert perfect[["error_raw_px", "error_model_px", "dy_raw_px", "slip_vertebrae"]].abs().max().max() == 0
    assert evaluate.summarise_films(perfect)["cobb_smape"] == 0
    pitch = np.median(np.diff(truth.reshape(len(rows), 17, 4, 2)[..., 1].mean(-1), axis=1), axis=1)
    shifted = truth + np.stack([np.zeros_like(pitch), -pitch], -1)[:, None]
    table = evaluate.judge(data, rows, "heatmap", shifted)
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
    result = evaluate_folder(lane.model, raw, tmp_path / "scratch", threads=1)
    json.dumps(result, allow_nan=False)
    assert (result["n_films"], result["n_quarantined"]) == (4, 2)
    assert {q["reason"] for q in result["quarantined"]} == {"film_format", "label_missing"}
    assert (result["n_repaired"], result["n_not_trusted"]) == (0, 0)
    assert result["audited_mre_raw_px@0"] == pytest.approx(result["mre_raw_px@0"])
    assert result["cobb_reference"] == "labels"
    assert result["cobb_smape"] == result["cobb_smape_of_labels"] > 0
    assert result["seconds_per_film"] > 0
    assert (result["trained_on"], result["data"]) == ("phantom", "aasce")

    files = [raw / "data" / "test" / f"film {i} (a).jpg" for i in (0, 3, 4, 5)]
    answers = predict_files(lane.model, files, tmp_path / "out", allow_phantom=True)
    points = np.array([[(p["x"], p["y"]) for p in a["landmarks"]] for a in answers])
    _, truth = draw_spines(np.random.default_rng(9), 6, 17)
    truth = np.rint(truth[[0, 3, 4, 5]] * 10 + 4.5)
    error = np.linalg.norm(points - truth, axis=-1).mean()
    assert error == pytest.approx(result["mre_raw_px@0"], abs=0.1), "one path for folders and for files"


def test_rolled_labels_count_as_they_came_and_apart_after_the_audit(
    lane: Lane, raw: Path, tmp_path: Path
) -> None:
    plain = evaluate_folder(lane.model, raw, tmp_path / "plain", threads=1)
    label = raw / "labels" / "test" / "film 3 (a).jpg.mat"
    savemat(label, {"p2": np.roll(loadmat(label)["p2"], -4, axis=0)})
    rolled = evaluate_folder(lane.model, raw, tmp_path / "rolled", threads=1)
    assert (rolled["n_repaired"], rolled["n_not_trusted"]) == (1, 0)
    assert abs(rolled["mre_raw_px@0"] - plain["mre_raw_px@0"]) > 0.01
    assert rolled["audited_mre_raw_px@0"] == pytest.approx(plain["mre_raw_px@0"])


def test_published_angles_are_the_reference_where_the_folder_has_them(
    lane: Lane, raw: Path, tmp_path: Path
) -> None:
    labels = raw / "labels" / "test"
    (labels / "filenames.csv").write_text("".join(f"film {i} (a).jpg\n" for i in range(6)))
    (labels / "angles.csv").write_text("50,20,10\n" * 6)
    published = evaluate_folder(lane.model, raw, tmp_path / "one", threads=1)
    assert published["cobb_reference"] == "angles.csv"
    assert published["cobb_smape"] != published["cobb_smape_of_labels"]
    (labels / "angles.csv").write_text("50,20,10\n" * 5)
    short = evaluate_folder(lane.model, raw, tmp_path / "two", threads=1)
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
    np.testing.assert_allclose(list(first["cobb_degrees"].values()), cobb_angles(points, 700), atol=0.5)
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

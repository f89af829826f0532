"""Points, expected errors, angles and overlays of single films, and the figures of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stages.ceph import base
from stages.ceph.folder import evaluate_folder
from stages.ceph.overlay import write_overlay
from stages.ceph.predict import describe, predict_files
from stages.ceph.schema import CEPH
from stages.core.data.decode import PHANTOM_MARK, Film
from stages.core.errors import StageError
from stages.core.overlay import HEIGHT, POINT
from stages.core.stage import Observer

from .stored import RAW, base_params, draw_film, write_store


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained: what is measured here is how its answers are told, not how good they are."""
    root = tmp_path_factory.mktemp("model")
    base.run(base_params(), *write_store(root), root / "base", Observer.quiet(root / "s"))
    return root / "base"


def write_phantom(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, comment=PHANTOM_MARK)
    return path


def write_folder(
    root: Path, n: int, described: dict | None = None, factor: float = 1.0
) -> dict[str, np.ndarray]:
    """A raw folder of n films with labels in a frame `factor` times as large; its points in film px by name."""
    rng, truth = np.random.default_rng(3), {}
    (root / "labels").mkdir(parents=True)
    for i in range(n):
        pixels, points = draw_film(rng)
        name = f"film{i}"
        write_phantom(root / "images" / f"{name}.jpg", pixels)
        written = np.round((points + 0.5) * factor - 0.5, 3)
        lines = [f"{x},{y}" for x, y in written]
        (root / "labels" / f"{name}.txt").write_text("\n".join([*lines, "1", "2"]) + "\n")
        truth[name] = points
    if described is not None:
        (root / "dataset.json").write_text(json.dumps({"name": "phantom", **described}))
    return truth


def test_an_answer_says_points_errors_angles_and_where_they_come_from(model: Path, tmp_path: Path) -> None:
    pixels, _ = draw_film(np.random.default_rng(1))
    film = write_phantom(tmp_path / "film.jpg", pixels)
    answer = predict_files(model, [film], tmp_path / "out")[0]
    marks = answer["landmarks"]
    assert tuple(mark["name"] for mark in marks) == CEPH.names
    assert (answer["width"], answer["height"]) == RAW
    assert all(-0.5 <= mark["x"] <= RAW[0] and -0.5 <= mark["y"] <= RAW[1] for mark in marks)
    assert all(mark["expected_error_px"] > 0 for mark in marks)
    assert [mark["expected_error_mm"] for mark in marks] == [None] * CEPH.n_points
    assert answer["angles_deg"]["ANB"] == pytest.approx(
        answer["angles_deg"]["SNA"] - answer["angles_deg"]["SNB"], abs=0.02
    )
    assert answer["model"]["trained_on"] == "phantom"
    assert answer["model"]["notice"] == "research use only"
    assert cv2.imread(str(tmp_path / "out" / answer["overlay"])).shape == (1080, 864, 3)
    json.dumps(answer)


def test_a_known_spacing_gives_mm_and_the_angles_of_square_pixels() -> None:
    points = np.random.default_rng(0).uniform(50, 500, (CEPH.n_points, 2))
    pixels = np.zeros((600, 600), np.uint8)
    # Decoders give the spacing down a column first: pixels of this film are twice as high as wide.
    told = describe(points * [2.0, 1.0], np.full(19, 3.0), Film(pixels, False, (0.2, 0.1), "PixelSpacing"))
    assert told["spacing_mm"] == [0.1, 0.2]
    assert told["landmarks"][0]["expected_error_mm"] == pytest.approx(3.0 * np.sqrt(0.02), abs=0.01)
    plain = describe(points, np.full(19, 3.0), Film(pixels, False))
    assert told["angles_deg"] == pytest.approx(plain["angles_deg"])


def test_a_phantom_model_refuses_a_persons_film(model: Path, tmp_path: Path) -> None:
    person = tmp_path / "person.png"
    cv2.imwrite(str(person), draw_film(np.random.default_rng(0))[0])
    with pytest.raises(StageError, match="person.png"):
        predict_files(model, [person], tmp_path / "out")
    answer = predict_files(model, [person], tmp_path / "out", allow_phantom=True)[0]
    assert answer["phantom"] is False
    assert len(answer["landmarks"]) == CEPH.n_points


def test_a_file_that_is_no_film_is_answered_with_its_reason(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    film = write_phantom(tmp_path / "film.jpg", draw_film(np.random.default_rng(1))[0])
    answers = predict_files(model, [broken, film], tmp_path / "out")
    assert answers[0]["error"]["reason"] == "film_format"
    assert len(answers[1]["landmarks"]) == CEPH.n_points


def test_the_overlay_shows_a_larger_circle_for_a_larger_expected_error(tmp_path: Path) -> None:
    film, points = np.zeros((540, 432), np.uint8), np.full((CEPH.n_points, 2), 270.0)
    points[:, 0] = 216.0
    for radius in (40.0, 90.0):
        write_overlay(tmp_path / "film.png", film, points, np.full(CEPH.n_points, radius), {"SNA": 82.0})
        drawn = cv2.imread(str(tmp_path / "film.png"))[:, :, ::-1]
        coloured = np.argwhere(np.abs(drawn.astype(int) - POINT).sum(2) < 120)
        below = coloured[coloured[:, 0] > (270.5 * 2 - 0.5) + 20]  # no name is written down there
        assert (below[:, 0].max() - (270.5 * 2 - 0.5)) / (HEIGHT / 540) == pytest.approx(radius, abs=2)


def test_folder_evaluation_agrees_with_single_predictions(model: Path, tmp_path: Path) -> None:
    """Labels in a frame twice as large, at 0.1 mm a px of that frame: the film's px are 0.2 mm."""
    frame = {"label_frame": [2 * RAW[0], 2 * RAW[1]], "spacing_mm": 0.1}
    truth = write_folder(tmp_path / "raw", 7, frame, factor=2.0)
    (tmp_path / "raw" / "images" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "raw" / "labels" / "broken.txt").write_text(
        (tmp_path / "raw" / "labels" / "film0.txt").read_text()
    )
    answer = evaluate_folder(model, tmp_path / "raw", tmp_path / "scratch", threads=1)
    assert (answer["n_films"], answer["n_films_with_spacing"], answer["n_quarantined"]) == (7, 7, 1)

    files = [tmp_path / "raw" / "images" / f"{name}.jpg" for name in truth]
    told = predict_files(model, files, tmp_path / "out")
    points = np.array([[[mark["x"], mark["y"]] for mark in one["landmarks"]] for one in told])
    errors = np.linalg.norm(points - np.stack(list(truth.values())), axis=2)
    assert answer["mre_px"] == pytest.approx(errors.mean(), rel=1e-2)
    assert answer["mre_mm"] == pytest.approx(0.2 * errors.mean(), rel=1e-2)
    assert answer["sdr4"] == pytest.approx(100 * (0.2 * errors <= 4).mean(), abs=1.0)
    expected = np.mean([[m["expected_error_px"] for m in one["landmarks"]] for one in told])
    groups = answer["expected_error"]["groups_px"]
    assert np.average([g["expected"] for g in groups], weights=[g["n"] for g in groups]) == pytest.approx(
        expected, rel=1e-2
    )
    assert answer["seconds_per_film"] > 0
    json.dumps(answer, allow_nan=False)


def test_without_a_spacing_a_folder_has_pixels_alone(model: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", 3, {"label_frame": list(RAW)})
    answer = evaluate_folder(model, tmp_path / "raw", tmp_path / "scratch", threads=1)
    assert [answer[name] for name in ("mre_mm", "sdr2", "sdr25", "sdr3", "sdr4")] == [None] * 5
    assert answer["mre_px"] > 0
    assert answer["mre_percent_sn"] > 0
    assert answer["angles_deg"]["SNA"]["mean_absolute"] >= 0


@pytest.mark.realdata
def test_the_isbi_films_are_read_as_they_lie(model: Path, realdata: Path, tmp_path: Path) -> None:
    """Labels in the original frame beside films at 0.4 of it, and nothing that says so."""
    raw = tmp_path / "raw"
    for folder, ending in (("images", ".jpg"), ("labels", ".txt")):
        (raw / folder).mkdir(parents=True)
        for i in range(151, 159):
            source = realdata / "ceph_isbi2015" / folder / f"{i:03d}{ending}"
            (raw / folder / source.name).symlink_to(source)
    answer = evaluate_folder(model, raw, tmp_path / "scratch", threads=1)
    assert (answer["n_films"], answer["n_films_with_spacing"]) == (8, 8)
    assert answer["mre_mm"] == pytest.approx(0.25 * answer["mre_px"], rel=0.01)

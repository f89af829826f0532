"""The phantom: the raw layout to the letter, spines like real ones, the same bytes every time."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from stages.core.data.decode import PHANTOM_MARK
from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.spine import phantom
from stages.spine.cobb import cobb_angles
from stages.spine.drawing.anatomy import GAP, HEIGHT, WIDTH, build_spine, draw_curves
from stages.spine.drawing.defects import LABEL_DEFECTS
from stages.spine.drawing.film import Range
from tests.spine.conftest import phantom_params


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def planted_of(raw: Path) -> dict[str, str]:
    header, *rows = rows_of(raw / "planted.csv")
    assert header == ["file", "defect", "detail"]
    return {Path(file).name: defect for file, defect, _ in rows}


def test_layout_is_that_of_aasce(spine_raw: Path) -> None:
    labels = spine_raw / "labels" / "training"
    names = [row[0] for row in rows_of(labels / "filenames.csv")]
    films = sorted(p.name for p in (spine_raw / "data" / "training").iterdir())
    assert sorted(names) == films
    assert len(names) == 40
    planted = planted_of(spine_raw)
    unlabelled = {name for name, defect in planted.items() if defect == "label_missing"}
    assert {p.name for p in labels.glob("*.mat")} == {f"{n}.mat" for n in set(names) - unlabelled}
    landmarks, angles = (np.array(rows_of(labels / t), float) for t in ("landmarks.csv", "angles.csv"))
    assert landmarks.shape == (40, 136)
    assert angles.shape == (40, 3)
    for name, row, angle in zip(names, landmarks, angles, strict=True):
        if name in planted:
            continue
        points = loadmat(labels / f"{name}.mat")["p2"]
        assert points.dtype == np.uint16
        assert points.shape == (68, 2)
        with Image.open(spine_raw / "data" / "training" / name) as film:
            assert film.mode == "L"
            assert film.info["comment"].decode() == PHANTOM_MARK
            width, height = film.size
        assert (points < [width, height]).all()
        np.testing.assert_allclose(
            row, np.concatenate([points[:, 0] / width, points[:, 1] / height]), atol=1e-5
        )
        np.testing.assert_allclose(angle, cobb_angles(points, height), atol=1e-3)
    assert json.loads((spine_raw / "dataset.json").read_text())["name"] == "phantom"


def test_every_planted_defect_is_in_the_files(tmp_path: Path) -> None:
    defects = dict.fromkeys([*LABEL_DEFECTS, "label_missing", "label_shape", "film_truncated"], 1)
    params = phantom_params(films=14, patients=14, defects=defects)
    phantom.run(params, tmp_path / "raw", Observer.quiet(tmp_path / "s"))
    clean = phantom_params(films=14, patients=14, defects={})
    phantom.run(clean, tmp_path / "clean", Observer.quiet(tmp_path / "s"))
    planted = planted_of(tmp_path / "raw")
    assert sorted(planted.values()) == sorted(defects)

    def label(folder: str, name: str) -> np.ndarray:
        return loadmat(tmp_path / folder / "labels" / "training" / f"{name}.mat")["p2"]

    for film in (tmp_path / "clean" / "data" / "training").iterdir():
        defect, name = planted.get(film.name), film.name
        same_film = film.read_bytes() == (tmp_path / "raw" / "data" / "training" / name).read_bytes()
        assert same_film == (defect != "film_truncated"), defect
        if defect == "label_missing":
            assert not (tmp_path / "raw" / "labels" / "training" / f"{name}.mat").exists()
            continue
        changed = not np.array_equal(label("raw", name), label("clean", name))
        assert changed == (defect in LABEL_DEFECTS or defect == "label_shape"), defect
        if defect == "rolled":
            np.testing.assert_array_equal(np.roll(label("raw", name), 4, axis=0), label("clean", name))


def test_bytes_depend_on_the_seed_but_not_on_the_number_of_processes(tmp_path: Path) -> None:
    def made(name: str, **changes: object) -> dict[str, bytes]:
        params = phantom_params(films=5, patients=4, defects={"rolled": 1, "corners_swapped": 1}, **changes)
        phantom.run(params, tmp_path / name, Observer.quiet(tmp_path / "s"))
        files = [p for p in sorted((tmp_path / name).rglob("*")) if p.is_file()]
        return {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files}

    alone = made("alone", workers=1)
    assert alone == made("together", workers=3)
    assert alone != made("other", workers=1, seed=21)


def test_a_test_part_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    phantom.run(phantom_params(films=3, test_films=2, patients=4, defects={}), tmp_path / "raw",
                Observer.quiet(tmp_path / "s"))  # fmt: skip
    assert len(list((tmp_path / "raw" / "data" / "test").iterdir())) == 2
    assert len(rows_of(tmp_path / "raw" / "labels" / "test" / "angles.csv")) == 2
    assert len(list((tmp_path / "raw" / "labels" / "training").glob("*.mat"))) == 3


def test_wrong_defects_are_errors_that_name_them() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(StageError, match="mirrored"):
        phantom.choose_defects(rng, {"mirrored": 1, "rolled": 1}, ["a.jpg", "b.jpg"])
    with pytest.raises(StageError, match="3 defects for 2 films"):
        phantom.choose_defects(rng, {"rolled": 3}, ["a.jpg", "b.jpg"])


def test_names_have_the_forms_of_the_real_ones() -> None:
    names, patients = phantom.film_names(np.random.default_rng(2), 200, 110)
    assert len(set(names)) == 200
    assert names == sorted(names)
    assert sum("coronal" in n for n in names) > 0
    assert sum(n.endswith(("AP2.jpg", "AP (2).jpg")) for n in names) > 0
    assert np.bincount(patients).min() >= 1
    assert np.bincount(patients).max() >= 3


@pytest.fixture(scope="module")
def spines() -> tuple[np.ndarray, np.ndarray]:
    """Corners (60, 17, 4, 2) and the Cobb angles that were asked for."""
    corners, wanted = [], []
    for i in range(60):
        rng = np.random.default_rng(i)
        cobb = float(rng.uniform(10, 80))
        corners.append(build_spine(rng, draw_curves(rng, cobb), cobb, float(rng.normal(0, 2)), 1.0).labelled)
        wanted.append(cobb)
    return np.array(corners), np.array(wanted)


def test_spines_have_real_proportions(spines: tuple[np.ndarray, np.ndarray]) -> None:
    corners, _ = spines
    length = np.linalg.norm(np.diff(corners.mean(2), axis=1), axis=-1).sum(1)[:, None]
    height = np.linalg.norm(corners[:, :, 2:].mean(2) - corners[:, :, :2].mean(2), axis=-1)
    width = np.linalg.norm(corners[:, :, 1] - corners[:, :, 0], axis=-1)
    gap = np.linalg.norm(corners[:, 1:, :2].mean(2) - corners[:, :-1, 2:].mean(2), axis=-1)
    np.testing.assert_allclose(np.median(height / length, 0), HEIGHT, rtol=0.08)
    np.testing.assert_allclose(np.median(width / length, 0), WIDTH, rtol=0.08)
    np.testing.assert_allclose(np.median(gap / length, 0), GAP, rtol=0.12)


def test_spines_bend_as_much_as_asked_for(spines: tuple[np.ndarray, np.ndarray]) -> None:
    corners, wanted = spines
    major = cobb_angles(corners.reshape(60, 68, 2), 1.0)[:, 0]
    assert np.median(np.abs(major - wanted)) < 4
    assert np.corrcoef(major, wanted)[0, 1] > 0.97


def test_most_thoracic_curves_point_to_the_patients_right(spines: tuple[np.ndarray, np.ndarray]) -> None:
    corners, _ = spines
    centres = corners.mean(2)
    chord = np.linspace(0, 1, 17)
    straight = centres[:, :1, 0] + chord * (centres[:, -1:, 0] - centres[:, :1, 0])
    offset = (centres[..., 0] - straight)[:, 4:10].mean(1)
    assert (offset < 0).mean() > 0.6  # the image's left


def test_vertebrae_stand_across_the_line_and_do_not_touch(spines: tuple[np.ndarray, np.ndarray]) -> None:
    corners, _ = spines
    down = np.gradient(corners.mean(2), axis=1)
    across = corners[:, :, 1] - corners[:, :, 0]
    cosine = (down * across).sum(-1) / np.linalg.norm(down, axis=-1) / np.linalg.norm(across, axis=-1)
    assert np.abs(np.degrees(np.arcsin(cosine))).max() < 20
    between = corners[:, 1:, :2] - corners[:, :-1, 2:]
    assert (between[..., 1] > 0).mean() > 0.995


def test_a_range_is_never_left_and_halved_by_its_median() -> None:
    drawn = np.array([Range(973, 2360, 3755).draw(np.random.default_rng(i)) for i in range(2000)])
    assert drawn.min() >= 973
    assert drawn.max() <= 3755
    assert np.median(drawn) == pytest.approx(2360, rel=0.02)
    assert drawn.min() < 1100
    assert drawn.max() > 3500


def test_bone_is_brighter_than_discs_and_lungs_darker_than_the_spine(spine_raw: Path) -> None:
    """A network can only learn from the phantom if its labels lie on what is drawn."""
    planted = planted_of(spine_raw)
    contrast, lung = [], []
    for path in sorted((spine_raw / "data" / "training").iterdir()):
        if path.name in planted:
            continue
        film = np.asarray(Image.open(path)).astype(float)
        label = loadmat(spine_raw / "labels" / "training" / f"{path.name}.mat")["p2"]
        corners = label.reshape(17, 4, 2).astype(float)
        bodies, discs = corners.mean(1)[:-1], (corners[1:, :2].mean(1) + corners[:-1, 2:].mean(1)) / 2
        contrast.append(mean_grey(film, bodies) - mean_grey(film, discs))
        chest = corners[4:8].mean(1)
        beside = chest + np.array([1.6 * np.ptp(corners[5, :, 0]), 0])
        if (beside[:, 0] < film.shape[1]).all():
            lung.append(mean_grey(film, chest) - mean_grey(film, beside))
    assert np.mean(np.array(contrast) > 0) > 0.95
    assert np.mean(np.array(lung) > 20) > 0.9


def mean_grey(film: np.ndarray, points: np.ndarray) -> float:
    column, row = np.rint(points).astype(int).T
    return float(film[row, column].mean())

"""Conversion of the AASCE layout: what is read, what is refused, and that nothing is lost."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from stages.core.data.films import FilmSet, pseudonym
from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.spine import convert, layout
from stages.spine.layout import LabelError, film_id, list_films, patient_id, read_label
from stages.spine.phantom import mat_bytes
from tests.spine.conftest import convert_params

POINTS = np.random.default_rng(0).integers(1, 60, (68, 2))


def make_raw(folder: Path, names: list[str], part: str = "training") -> Path:
    """A raw folder of small films with correct labels."""
    data, labels = folder / "data" / part, folder / "labels" / part
    data.mkdir(parents=True)
    labels.mkdir(parents=True)
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (90, 70), np.uint8)
        Image.fromarray(pixels).save(data / name, quality=90)
        (labels / f"{name}.mat").write_bytes(mat_bytes(POINTS + i))
    return folder


def run(raw: Path, tmp_path: Path, **changes: object) -> tuple[FilmSet, pd.DataFrame, dict[str, float]]:
    output = tmp_path / "data" / "spine" / "films"
    metrics = convert.run(convert_params(**changes), raw, output, Observer.quiet(tmp_path / "scratch"))
    return FilmSet.open(output), pd.read_csv(output / "quarantine.csv"), metrics


def reason_of(path: Path) -> str:
    with pytest.raises(LabelError) as caught:
        read_label(path)
    return caught.value.reason


def test_labels_are_found_by_the_films_name_with_spaces_and_brackets(tmp_path: Path) -> None:
    names = ["sunhl-1th-02-Jan-2017-162 A AP.jpg", "sunhl-1th-22-Nov-2016-142 A AP (2).jpg"]
    store, quarantine, _ = run(make_raw(tmp_path / "raw", names), tmp_path)
    for i, name in enumerate(names):
        row = store.rows([film_id(name)])[0]
        np.testing.assert_array_equal(store.landmarks_raw[row], POINTS + i)
    assert quarantine.empty
    assert store.info.name == "aasce"
    assert not store.table["phantom"].any()


def test_films_of_one_number_are_one_patient(tmp_path: Path) -> None:
    same = [patient_id(f"sunhl-1th-{rest}.jpg") for rest in
            ("04-Jan-2017-165 B AP", "03-Jan-2017-165 A AP2", "05-Jul-2016-165 C AP (2)")]  # fmt: skip
    assert len(set(same)) == 1
    assert patient_id("sunhl-1th-03-Jan-2017-16 A AP.jpg") != same[0]
    assert patient_id("sunhl-1th-20-Jul-2016-coronal7.jpg") == film_id("sunhl-1th-20-Jul-2016-coronal7.jpg")
    assert same[0] == pseudonym("spine", "patient 165")


def test_a_transposed_label_is_turned_and_listed(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", ["a.jpg", "b.jpg"])
    savemat(raw / "labels" / "training" / "a.jpg.mat", {"p2": (POINTS + 0).T.astype(np.uint16)})
    store, quarantine, metrics = run(raw, tmp_path)
    np.testing.assert_array_equal(store.landmarks_raw[store.rows([film_id("a.jpg")])[0]], POINTS)
    assert quarantine.values.tolist() == [
        [film_id("a.jpg"), "label_transposed", "kept", "p2 was (2, 68) and was turned"]
    ]
    assert (metrics["n_films"], metrics["n_left_out"], metrics["n_noted"]) == (2, 0, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"p3": POINTS}, "label_variable"),
        ({"p2": POINTS[:-1]}, "label_shape"),
        ({"p2": POINTS.reshape(17, 8)}, "label_shape"),
        ({"p2": np.zeros((0, 0))}, "label_shape"),
        ({"p2": np.where(np.arange(136).reshape(68, 2) == 7, np.nan, 5.0)}, "label_not_finite"),
        ({"p2": np.where(np.arange(136).reshape(68, 2) == 7, np.inf, 5.0)}, "label_not_finite"),
        ({"p2": "sixty-eight points"}, "label_type"),
        ({"p2": np.array([["a", 1]], object)}, "label_type"),
        ({"p2": POINTS * 1j}, "label_type"),
    ],
)
def test_wrong_labels_are_refused_with_a_reason(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    savemat(tmp_path / "a.mat", content)
    assert reason_of(tmp_path / "a.mat") == reason


def test_the_message_about_missing_coordinates_names_the_points(tmp_path: Path) -> None:
    points = POINTS.astype(float)
    points[5], points[67, 1] = np.nan, np.nan
    savemat(tmp_path / "a.mat", {"p2": points})
    with pytest.raises(LabelError, match="T2 TR, L5 BR"):
        read_label(tmp_path / "a.mat")


class _Bomb:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.proof),))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_disguised_as_mat_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "executed"
    (tmp_path / "a.mat").write_bytes(pickle.dumps(_Bomb(proof), protocol=protocol))
    assert reason_of(tmp_path / "a.mat") == "label_damaged"
    assert not proof.exists()


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file", mat_bytes(POINTS)[:300], b"\0" * 2_000_000])
def test_files_that_only_look_like_mat_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(data)
    assert reason_of(tmp_path / "a.mat") in {"label_damaged", "label_variable"}


def test_a_label_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.mat").write_bytes(mat_bytes(POINTS))
    monkeypatch.setattr("scipy.io.loadmat", refuse)  # tests may run as root, who may read everything
    assert reason_of(tmp_path / "a.mat") == "label_unreadable"


def bad_raw(folder: Path) -> Path:
    """Ten films; one is fine, one only odd, and eight are each broken in another way."""
    raw = make_raw(folder, [f"film {i}.jpg" for i in range(9)])
    data, labels = raw / "data" / "training", raw / "labels" / "training"
    truncated = (data / "film 1.jpg").read_bytes()
    (data / "film 1.jpg").write_bytes(truncated[: len(truncated) // 2])
    (labels / "film 2.jpg.mat").unlink()
    savemat(labels / "film 3.jpg.mat", {"points": POINTS})
    savemat(labels / "film 4.jpg.mat", {"p2": np.full((68, 2), np.nan)})
    Image.new("L", (1, 1)).save(data / "film 5.jpg")
    (labels / "film 6.jpg.mat").write_bytes(pickle.dumps({"p2": POINTS}))
    (data / "film 7.jpg").unlink()
    colour = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    Image.fromarray(colour).save(data / "film 8.jpg")
    (data / "film 9.jpg").mkdir()
    (data / "Thumbs.db").write_bytes(b"not a film")
    deep = np.linspace(0, 60000, 90 * 70).reshape(90, 70).astype(np.uint16)
    Image.fromarray(deep).save(data / "film A.png")
    (labels / "film A.png.mat").write_bytes(mat_bytes(POINTS))
    return raw


def test_every_bad_file_is_named_and_loses_no_other(tmp_path: Path) -> None:
    store, quarantine, metrics = run(bad_raw(tmp_path / "raw"), tmp_path)
    assert set(store.ids) == {film_id(n) for n in ("film 0.jpg", "film 8.jpg", "film A.png")}
    assert dict(zip(quarantine["file"], quarantine["reason"], strict=True)) == {
        film_id("film 1.jpg"): "film_truncated",
        film_id("film 2.jpg"): "label_missing",
        film_id("film 3.jpg"): "label_variable",
        film_id("film 4.jpg"): "label_not_finite",
        film_id("film 5.jpg"): "film_tiny",
        film_id("film 6.jpg"): "label_damaged",
        film_id("film 7.jpg"): "film_missing",
    }
    assert metrics["n_files"] == 10
    assert metrics["n_left_out"] == 7
    names = pd.read_csv(tmp_path / "data" / "raw" / "names" / "spine-aasce.csv")
    assert set(quarantine["file"]) | set(store.ids) == set(names["id"])


def test_policy_stop_names_all_files_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        run(bad_raw(tmp_path / "raw"), tmp_path, on_error="stop")
    assert [i for i in range(10) if f"film {i}.jpg: " in str(caught.value)] == [1, 2, 3, 4, 5, 6, 7]
    assert not (tmp_path / "data" / "spine" / "films").exists()


def test_the_parent_folder_does_as_well_and_other_folders_are_explained(tmp_path: Path) -> None:
    make_raw(tmp_path / "raw" / "boostnet_labeldata", ["a.jpg"])
    assert [f.name for f in list_films(tmp_path / "raw")] == ["a.jpg"]
    with pytest.raises(StageError, match="is not in the AASCE layout: none of .*training.*raw.spine"):
        list_films(tmp_path)


def test_training_and_test_films_are_taken_and_a_second_name_is_not(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", ["a.jpg", "b.jpg"])
    make_raw(tmp_path / "other", ["b.jpg", "c.jpg"], part="test")
    for kind in ("data", "labels"):
        shutil.move(tmp_path / "other" / kind / "test", raw / kind / "test")
    store, quarantine, _ = run(raw, tmp_path)
    assert set(store.ids) == {film_id(n) for n in ("a.jpg", "b.jpg", "c.jpg")}
    assert quarantine[["file", "reason"]].values.tolist() == [[film_id("b.jpg"), "name_repeated"]]


def test_tables_beside_the_labels_do_not_matter(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", ["a.jpg"])
    (raw / "labels" / "training" / "landmarks.csv").write_text("0.1,0.2,extra\nnonsense\n")
    assert len(run(raw, tmp_path)[0]) == 1


def test_no_name_of_a_film_gets_into_the_store(spine_films: Path, spine_raw: Path) -> None:
    names = [f.name.removesuffix(".jpg").encode() for f in list_films(spine_raw)]
    for file in spine_films.iterdir():
        content = file.read_bytes()
        assert not [name for name in names if name in content], file.name


def test_phantoms_are_marked_in_store_and_table(spine_films: Path) -> None:
    store = FilmSet.open(spine_films)
    assert store.info.is_phantom
    assert store.table["phantom"].all()


def test_running_twice_gives_the_same_bytes_on_any_number_of_processes(
    spine_raw: Path, tmp_path: Path
) -> None:
    for name, workers in (("a", 1), ("b", 3)):
        observe = Observer.quiet(tmp_path / f"scratch {name}")
        convert.run(convert_params(workers=workers), spine_raw, tmp_path / name / "x" / "films", observe)
    first, second = tmp_path / "a" / "x" / "films", tmp_path / "b" / "x" / "films"
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


@pytest.mark.realdata
def test_all_481_real_films_are_taken(realdata: Path, tmp_path: Path) -> None:
    raw = realdata / "spine_aasce" / "boostnet_labeldata"
    store, quarantine, metrics = run(raw, tmp_path, workers=0)
    assert len(store) == 481 == metrics["n_labelled"]
    assert quarantine.empty
    assert store.table["patient"].nunique() == 237
    names = (raw / "labels" / "training" / "filenames.csv").read_text().split("\n")[:481]
    rows = store.rows([film_id(name) for name in names])
    points = store.landmarks_raw[rows] / store.sizes_raw[rows][:, None]
    published = np.loadtxt(raw / "labels" / "training" / "landmarks.csv", delimiter=",")
    np.testing.assert_allclose(points.transpose(0, 2, 1).reshape(481, 136), published, rtol=6e-5)
    assert layout.find_root(realdata / "spine_aasce") == raw

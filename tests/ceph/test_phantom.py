"""Made-up lateral films: the raw layouts, the measures of the heads, and where labels lie on the pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.ceph import phantom
from stages.ceph.phantom_film import draw_film, place_head
from stages.ceph.phantom_shape import READER_SD_MM, read_points, sample_head, shift_convention
from stages.ceph.raw.inventory import read_raw
from stages.ceph.raw.points import order_problem, outside, read_text_label
from stages.ceph.schema import CEPH, INDEX, ISBI_FRAME, NAMES
from stages.core.data import geometry
from stages.core.data.decode import FilmLimits, decode_film
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import contents, phantom_params, sound_params


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """(400, 19, 2) mm."""
    measures = phantom_params().measures
    return np.stack([sample_head(measures, np.random.default_rng([5, i])) for i in range(400)])


def angle_at_nasion(heads: np.ndarray, name: str) -> np.ndarray:
    """Degrees between the lines from nasion to sella and to a landmark."""
    nasion = heads[:, INDEX["nasion"]]
    rays = [heads[:, INDEX[other]] - nasion for other in ("sella", name)]
    cosine = (rays[0] * rays[1]).sum(1) / np.prod([np.hypot(*ray.T) for ray in rays], axis=0)
    return np.degrees(np.arccos(cosine))


def planted(raw: Path) -> list[dict[str, str]]:
    with (raw / "planted.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_heads_vary_as_adults_do(heads):
    sna, snb = angle_at_nasion(heads, "subspinale"), angle_at_nasion(heads, "supramentale")
    assert abs(sna.mean() - 82) < 0.7
    assert abs(snb.mean() - 79) < 0.7
    assert 3 < sna.std() < 4.5
    assert 2.5 < snb.std() < 4.5
    assert np.corrcoef(sna, snb)[0, 1] > 0.6
    sn = np.linalg.norm(heads[:, INDEX["nasion"]] - heads[:, INDEX["sella"]], axis=1)
    assert sn.min() >= 70
    assert sn.max() <= 78


def test_every_head_is_in_order_and_on_its_film(heads):
    params = phantom_params()
    for look in (params.look, params.clinic.look):
        for i, head in enumerate(heads):
            points = geometry.apply(place_head(head, look, np.random.default_rng(i)), head)
            assert order_problem(points) is None
            assert not outside(points, (look.width, look.height)).any()


def test_tips_lie_on_edges_of_the_picture(heads):
    """Going outwards through a point of the profile the film gets dark; so it does under the chin's bone."""
    params = phantom_params()
    look = params.look.model_copy(update={"ruler": 0.0, "grain": (0.0, 0.0)})
    outward = {
        "upper_lip": (1, 0),
        "lower_lip": (1, 0),
        "soft_pogonion": (1, 0),
        "menton": (0, 1),
        "nasion": (1, 0),
    }
    steps = np.arange(-6.0, 6.5, 0.5)
    near = dict.fromkeys(outward, 0)
    for i, head in enumerate(heads[:20]):
        rng = np.random.default_rng([9, i])
        placed = place_head(head, look, rng)
        film = draw_film(head, placed, look, rng).astype(float)
        for name, direction in outward.items():
            walk = geometry.apply(placed, head[INDEX[name]] + steps[:, None] * np.array(direction))
            x, y = np.clip(np.rint(walk).astype(int), 0, np.array([look.width, look.height]) - 1).T
            fall = np.convolve(film[y, x], [-1, -1, 0, 1, 1], "valid")
            near[name] += abs(steps[2 + np.argmax(fall)]) <= 1.5
    assert min(near.values()) >= 15, near


def test_porion_is_the_top_of_the_ear_rod(heads):
    """A column through porion gets bright there, going down."""
    look = phantom_params().look.model_copy(update={"grain": (0.0, 0.0)})
    found = []
    for i, head in enumerate(heads[:20]):
        rng = np.random.default_rng([9, i])
        placed = place_head(head, look, rng)
        film = draw_film(head, placed, look, rng).astype(float)
        steps = np.arange(-3.0, 3.5, 0.5)
        walk = geometry.apply(placed, head[INDEX["porion"]] + np.column_stack([0 * steps, steps]))
        x, y = np.rint(walk).astype(int).T
        found.append(steps[np.argmax(np.gradient(film[y, x]))])
    assert abs(np.median(found)) <= 0.5


def test_raw_layout_of_the_base_set(raw: Path):
    described = json.loads((raw / "dataset.json").read_text())
    assert (described["name"], described["label_frame"], described["spacing_mm"]) == (
        "phantom",
        [1935, 2400],
        0.1,
    )
    films = sorted((raw / "images").glob("*.jpg"))
    broken = {row["file"] for row in planted(raw) if row["defect"] == "broken_film"}
    for path in films:
        if path.stem not in broken:
            assert decode_film(path, FilmLimits(64, 10**8)).phantom
    labels = [read_text_label(path) for path in sorted((raw / "labels").glob("*.txt"))]
    points = np.stack([label for label in labels if isinstance(label, np.ndarray)])
    assert (points == np.rint(points)).all()
    assert points.max(axis=(0, 1)).max() > 1600  # far beyond the films: in ISBI's frame


def test_raw_layout_of_the_clinic(clinic_raw: Path):
    described = json.loads((clinic_raw / "dataset.json").read_text())
    assert described["spacing_mm"] is None
    names = {path.stem for path in (clinic_raw / "images").glob("*.jpg")}
    assert {path.stem for path in (clinic_raw / "reader_a").glob("*.json")} == names
    with Image.open(clinic_raw / "images" / "001.jpg") as picture:
        width, height = picture.size
    label = json.loads((clinic_raw / "reader_a" / "001.json").read_text())
    assert (label["imageWidth"], label["imageHeight"]) == (width, height)
    assert decode_film(clinic_raw / "images" / "001.jpg", FilmLimits(64, 10**8)).phantom


def test_base_labels_are_the_heads_points(tmp_path: Path):
    """Without noise, a label differs from the drawn point by the rounding of its frame."""
    params = sound_params().model_copy(update={"label_noise": 0.0})
    phantom.run(params, tmp_path / "raw", tmp_path / "clinic", Observer.quiet(tmp_path / "s"))
    jobs = sorted(read_raw(tmp_path / "raw").jobs, key=lambda job: job.path.name)
    for i, job in enumerate(jobs):
        rng = np.random.default_rng([params.seed, 1, i, 0])
        head = sample_head(params.measures, rng)
        expected = geometry.apply(place_head(head, params.look, rng), head)
        rounding = 0.5 * params.look.width / ISBI_FRAME[0]
        assert np.abs(job.landmarks - expected).max() <= rounding + 1e-6


def test_readers_scatter_as_stated_and_share_the_clinics_convention(tmp_path: Path):
    params = sound_params(films=1, clinic_films=60)
    phantom.run(params, tmp_path / "raw", tmp_path / "clinic", Observer.quiet(tmp_path / "s"))
    readers = read_raw(tmp_path / "clinic", clinic=True).readers
    a, b = (np.stack(readers[readers["reader"] == r]["landmarks"].to_list()) for r in "ab")
    apart = (a - b).std(axis=(0, 2)) * params.clinic.look.spacing_mm
    expected = np.sqrt(2) * np.array([READER_SD_MM[name] for name in NAMES]) * params.clinic.reader_noise
    assert np.abs(apart / expected - 1).max() < 0.35
    assert np.argmax(apart) in (INDEX["gonion"], INDEX["orbitale"], INDEX["porion"])

    def offset(name: str) -> np.ndarray:
        """Mean (x, y) mm, in the frame of the head, of both readers' points from the drawn one."""
        away = []
        for i in range(60):
            rng = np.random.default_rng([params.seed, 2, i, 0])
            head = sample_head(params.measures, rng)
            back = geometry.invert(place_head(head, params.clinic.look, rng))
            away += [
                geometry.apply(back, points[order[i], INDEX[name]]) - head[INDEX[name]] for points in (a, b)
            ]
        return np.mean(away, axis=0)

    ids = sorted(set(readers["id"]))
    by_name = {job.path.stem: job.id for job in read_raw(tmp_path / "clinic", clinic=True).jobs}
    order = [ids.index(by_name[f"{i + 1:03d}"]) for i in range(60)]
    assert len(params.clinic.convention) >= 2
    for name, move in params.clinic.convention.items():
        assert 2 <= np.hypot(*move) <= 3.5
        np.testing.assert_allclose(offset(name), move, atol=0.6)
    np.testing.assert_allclose(offset("menton"), 0, atol=0.25)


def test_only_the_named_landmarks_move(heads):
    shifted = shift_convention(heads[0], {"gonion": (1.0, -2.0)})
    moved = shifted - heads[0]
    np.testing.assert_allclose(moved[INDEX["gonion"]], [1, -2])
    assert np.abs(np.delete(moved, INDEX["gonion"], 0)).max() == 0
    assert (read_points(heads[0], 0.0, np.random.default_rng(1)) == heads[0]).all()


def test_the_clinics_films_look_different(tmp_path: Path):
    """Grey values of the two machines hardly overlap where the air beside the face is."""
    phantom.run(sound_params(), tmp_path / "raw", tmp_path / "clinic", Observer.quiet(tmp_path / "s"))

    def air(folder: Path) -> list[float]:
        films = [
            decode_film(p, FilmLimits(64, 10**8)).pixels for p in sorted((folder / "images").glob("*.jpg"))
        ]
        return [float(np.percentile(film, 20)) for film in films]

    assert max(air(tmp_path / "raw")) < min(air(tmp_path / "clinic"))


def test_every_defect_is_planted_once(raw: Path, clinic_raw: Path):
    assert sorted(row["defect"] for row in planted(raw)) == sorted(phantom.Defects.model_fields)
    fields = type(phantom_params().clinic.defects).model_fields
    assert sorted(row["defect"] for row in planted(clinic_raw)) == sorted(fields)


def test_same_bytes_twice_whatever_the_workers(tmp_path: Path):
    params = sound_params()
    for name, workers in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        changed = params.model_copy(update={"workers": workers})
        phantom.run(changed, folder / "raw", folder / "clinic", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    other = params.model_copy(update={"seed": params.seed + 1})
    phantom.run(other, tmp_path / "c" / "raw", tmp_path / "c" / "clinic", Observer.quiet(tmp_path / "s"))
    assert not set(contents(tmp_path / "a" / "raw" / "images").values()) & set(
        contents(tmp_path / "c" / "raw" / "images").values()
    )


def test_more_defects_than_films_is_an_error(tmp_path: Path):
    params = phantom_params(films=3)
    count = len(phantom.Defects.model_fields)
    with pytest.raises(StageError, match=f"{count} defects but only 3 films"):
        phantom.run(params, tmp_path / "raw", tmp_path / "clinic", Observer.quiet(tmp_path / "s"))


def test_a_convention_for_no_landmark_is_an_error(tmp_path: Path):
    params = sound_params()
    clinic = params.clinic.model_copy(update={"convention": {"gonoin": (0.0, 1.0)}})
    with pytest.raises(StageError, match="gonoin"):
        phantom.run(
            params.model_copy(update={"clinic": clinic}),
            tmp_path / "raw",
            tmp_path / "clinic",
            Observer.quiet(tmp_path / "s"),
        )


def test_spread_is_stated_for_every_landmark():
    assert set(READER_SD_MM) == set(CEPH.names)

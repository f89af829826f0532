"""Films unlike the training set are told apart, and films like it pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.spine.likeness import Likeness, LikenessSettings, Verdict
from tests.spine.drawn import draw_spines

TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upside_down": lambda film: film[::-1, ::-1],
    "sideways": lambda film: np.rot90(film, 1),
    "sideways the other way": lambda film: np.rot90(film, 3),
    "negative": lambda film: 255 - film,
}


def films_of_spines(n: int, seed: int) -> np.ndarray:
    """(n, 64, 32): vertebrae that widen and brighten downwards, over a bright pelvis."""
    films, _ = draw_spines(np.random.default_rng(seed), n, 12)
    films[:, 56:] = 200
    return films


def sizes_of(films: np.ndarray) -> np.ndarray:
    return np.tile(films.shape[:0:-1], (len(films), 1))


@pytest.fixture(scope="module")
def judge() -> Likeness:
    films = films_of_spines(60, 0)
    return Likeness.fit(films, sizes_of(films))


def flagged(verdicts: list[Verdict]) -> float:
    return float(np.mean([verdict.unlike for verdict in verdicts]))


def test_films_of_the_same_kind_pass(judge: Likeness) -> None:
    verdicts = [judge.judge(film) for film in films_of_spines(100, 1)]
    assert flagged(verdicts) <= 0.05
    assert all(v.unlike == (v.kind != "ok") for v in verdicts)
    assert all(v.limit == judge.limit for v in verdicts)


@pytest.mark.parametrize("turn", TURNS)
def test_turned_films_and_negatives_are_named(judge: Likeness, turn: str) -> None:
    found = Counter(judge.judge(TURNS[turn](film)).kind for film in films_of_spines(20, 2))
    assert found == {turn.split()[0]: 20}


def test_pictures_of_something_else_are_unlike(judge: Likeness) -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:64, :32]
    others = {
        "noise": rng.integers(0, 256, (64, 32), np.uint8),
        "stripes": (columns // 4 % 2 * 200).astype(np.uint8),
        "slope": (rows * 3 + columns).astype(np.uint8),
        "disc": np.where((rows - 32) ** 2 + (columns - 16) ** 2 < 150, 230, 20).astype(np.uint8),
        "nearly flat": rng.integers(100, 102, (64, 32), np.uint8),
    }
    assert {name: judge.judge(film).kind for name, film in others.items()} == dict.fromkeys(others, "unlike")


def test_proportions_count(judge: Likeness) -> None:
    film = films_of_spines(1, 4)[0]
    assert not judge.judge(film).unlike
    distances = [judge.judge(geometry.resize(film, size)).distance for size in ((64, 32), (64, 48), (64, 64))]
    assert distances[0] < distances[1] < distances[2]
    assert judge.judge(geometry.resize(film, (64, 128))).unlike


def test_fine_texture_counts_that_edges_and_brightness_do_not_show(judge: Likeness) -> None:
    board = np.indices((128, 64)).sum(0) % 2 * 120 - 60  # its central differences and local means are 0
    for film in films_of_spines(5, 10):
        smooth = geometry.resize(film, (128, 64)).clip(60, 195)
        textured = (smooth + board).astype(np.uint8)
        assert judge.judge(textured).distance > 1.3 * judge.judge(smooth).distance


def test_a_film_is_judged_alike_at_any_resolution(judge: Likeness) -> None:
    for film in films_of_spines(5, 5):
        twice = np.kron(film, np.ones((4, 4), np.uint8))
        at_once, larger = judge.judge(geometry.resize(twice, (128, 64))), judge.judge(twice)
        assert larger.distance == pytest.approx(at_once.distance, rel=0.02)


def test_the_limit_is_the_stated_percentile_of_films_of_other_patients() -> None:
    films = np.repeat(films_of_spines(10, 6), 6, axis=0)  # six copies of each film
    patients = np.repeat(np.arange(10), 6)
    alone = Likeness.fit(films, sizes_of(films)).limit
    grouped = Likeness.fit(films, sizes_of(films), patients).limit
    assert alone == 0, "copies vouch for each other"
    assert grouped > 0
    other = films_of_spines(60, 7)
    limits = [
        Likeness.fit(other, sizes_of(other), settings=LikenessSettings(percentile=p)).limit
        for p in (50.0, 90.0, 100.0)
    ]
    assert limits[0] < limits[1] < limits[2]


def test_two_patients_are_needed() -> None:
    films = films_of_spines(3, 8)
    with pytest.raises(StageError, match="found 1"):
        Likeness.fit(films, sizes_of(films), np.zeros(3, int))
    assert len(Likeness.fit(films[:2], sizes_of(films[:2])).features) == 2


def test_a_judge_survives_a_weights_file(judge: Likeness) -> None:
    arrays = judge.to_arrays()
    again = Likeness.from_arrays(
        {name: array.copy() for name, array in arrays.items()} | {"other": np.ones(2)}
    )
    film = films_of_spines(1, 9)[0]
    assert again.judge(film) == judge.judge(film)
    films = films_of_spines(60, 0)
    repeated = Likeness.fit(films, sizes_of(films)).to_arrays()
    assert {n: a.tobytes() for n, a in repeated.items()} == {n: a.tobytes() for n, a in arrays.items()}
    with pytest.raises(StageError, match="limit, nearer missing"):
        Likeness.from_arrays({n: a for n, a in arrays.items() if n not in ("nearer", "limit")})
    with pytest.raises(StageError, match="train again"):
        Likeness.from_arrays(arrays | {"features": arrays["features"][:, 1:]})


def read_films(paths: list[Path]) -> list[np.ndarray]:
    """Grey films; JPEG is read at half size, which is quicker."""
    films = []
    for path in paths:
        with Image.open(path) as picture:
            picture.draft("L", (picture.width // 2, picture.height // 2))
            films.append(np.asarray(picture.convert("L")))
    return films


def bent(film: np.ndarray) -> np.ndarray:
    """A stand-in for a lateral film: the spine alone, on a bow, before soft tissue that fades to one side."""
    import cv2

    height, width = film.shape
    film = film.astype(np.float32)
    bow = width * (0.16 * np.sin(2 * np.pi * (0.9 * np.arange(height) / height + 0.1)) - 0.04)[:, None]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    moved = cv2.remap(
        film, (columns - bow).astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    spine = np.exp(-0.5 * ((columns - width / 2 - bow) / (0.086 * width)) ** 2)
    tissue = cv2.GaussianBlur(film, (0, 0), width / 10) * np.linspace(1.3, 0.5, width)
    return (tissue * (1 - spine) + moved * spine).clip(0, 255).astype(np.uint8)


@pytest.mark.realdata
@pytest.mark.slow
def test_real_frontal_films_pass_and_other_films_do_not(realdata: Path) -> None:
    """Fitted on 300 of 481 films and asked about films of other patients."""
    paths = sorted((realdata / "spine_aasce" / "boostnet_labeldata" / "data" / "training").glob("*.jpg"))
    numbers = [re.search(r"-\d{4}-(\d+)\b", path.name) for path in paths]
    patients = np.array(
        [match[1] if match else path.name for match, path in zip(numbers, paths, strict=True)]
    )
    order = np.random.default_rng(0).permutation(np.unique(patients))
    counts = np.cumsum([(patients == patient).sum() for patient in order])
    fitted = np.isin(patients, order[: np.searchsorted(counts, 300) + 1])
    films = read_films(paths)
    stored = np.stack([geometry.resize(films[i], (512, 256)) for i in np.flatnonzero(fitted)])
    sizes = np.array([films[i].shape[::-1] for i in np.flatnonzero(fitted)])
    likeness = Likeness.fit(stored, sizes, patients[fitted])
    asked = [films[i] for i in np.flatnonzero(~fitted)]
    kinds = {
        "frontal": asked,
        **{name: [turn(film) for film in asked[::3]] for name, turn in TURNS.items()},
        "half": [film[:, : film.shape[1] // 2] for film in asked],
        "upper half": [film[: film.shape[0] // 2] for film in asked],
        "lower half": [film[film.shape[0] // 2 :] for film in asked],
        "bent": [bent(geometry.resize(f, (512, 512 * f.shape[1] // f.shape[0]))) for f in asked],
        "skull": read_films(sorted((realdata / "ceph_isbi2015" / "images").glob("*"))[::4]),
        "chest": read_films(sorted((realdata / "chest_covid15" / "dataset").glob("*/*.png"))[::8]),
    }
    verdicts = {name: [likeness.judge(film) for film in films] for name, films in kinds.items()}
    share = {name: flagged(found) for name, found in verdicts.items()}
    print({name: (len(verdicts[name]), round(value, 3)) for name, value in share.items()})
    assert share["frontal"] <= 0.02
    for name in TURNS:
        named = [verdict.kind == name.split()[0] for verdict in verdicts[name]]
        assert share[name] == 1, name
        assert np.mean(named) > 0.95, name
    assert share["skull"] == share["chest"] == 1
    assert min(share[name] for name in ("half", "upper half", "lower half", "bent")) > 0.85

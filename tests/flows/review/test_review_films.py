"""Where a film's picture comes from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.review.films import FilmPictures, Origin, open_pictures
from stages.core.data import geometry
from stages.core.errors import StageError
from tests.flows.review.desks import FILMS, HEIGHT, WIDTH, drawn_film, film_store


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw folder with the files of the first three films: right, of another size, damaged."""
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(drawn_film(0)).save(folder / "images" / "a.png")
    Image.fromarray(drawn_film(1)[:-9]).save(folder / "images" / "b.png")
    (folder / "images" / "c.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def pictures(tmp_path: Path, raw: Path) -> FilmPictures:
    names = {FILMS[0]: {"a.png", "a"}, FILMS[1]: {"b"}, FILMS[2]: {"c.png"}, FILMS[3]: {"gone.png"}}
    return FilmPictures([Origin(film_store(tmp_path / "films"), raw)], names)


def _pixels(pictures: FilmPictures, film: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(pictures.png(film))))


def test_the_raw_film_comes_as_it_is(pictures: FilmPictures) -> None:
    np.testing.assert_array_equal(_pixels(pictures, FILMS[0]), drawn_film(0))


@pytest.mark.parametrize("film", FILMS[1:])
def test_a_film_whose_file_is_not_what_was_labelled_comes_from_the_store(
    pictures: FilmPictures, film: str
) -> None:
    expected = geometry.resize(pictures.stored(film), (HEIGHT, WIDTH))
    np.testing.assert_array_equal(_pixels(pictures, film), expected)


def test_of_files_with_one_name_the_one_among_images_is_the_film(pictures: FilmPictures, raw: Path) -> None:
    (raw / "masks").mkdir()
    Image.fromarray(drawn_film(9)).save(raw / "masks" / "a.png")
    assert pictures.file(FILMS[0]) == raw / "images" / "a.png"
    (raw / "more" / "images").mkdir(parents=True)
    Image.fromarray(drawn_film(9)).save(raw / "more" / "images" / "a.png")
    pictures.origins[0].__dict__.pop("files")
    assert pictures.file(FILMS[0]) is None, "two could be it"


def test_the_tag_follows_the_file(pictures: FilmPictures, raw: Path) -> None:
    tags = {film: pictures.etag(film) for film in FILMS}
    assert len(set(tags.values())) == len(FILMS)
    Image.fromarray(drawn_film(7)).save(raw / "images" / "a.png")
    assert pictures.etag(FILMS[0]) != tags[FILMS[0]]
    np.testing.assert_array_equal(_pixels(pictures, FILMS[0]), drawn_film(7))


def test_stores_and_private_names_are_found_in_a_checkout(tmp_path: Path, raw: Path) -> None:
    store = film_store(tmp_path / "data" / "ceph" / "clinic")
    (store.folder / "dataset.json").write_text('{"name": "phantom", "lane": "ceph", "frame": "raw"}')
    names = tmp_path / "data" / "raw" / "names"
    names.mkdir(parents=True)
    (names / "ceph-phantom-clinic.csv").write_text(f"id,patient,name\n{FILMS[0]},x,a.png\n")
    opened = open_pictures(tmp_path, "ceph", [("clinic", raw), ("films", None)])
    assert opened.file(FILMS[0]) == raw / "images" / "a.png"
    assert opened.missing([FILMS[0], "ceph-other"]) == ["ceph-other"]
    with pytest.raises(StageError, match=r"data/chest/films.*dvc repro"):
        open_pictures(tmp_path, "chest", [("films", raw)])

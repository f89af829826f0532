"""Every kind of file that may lie in a film folder: read by one rule, or refused with a reason."""

import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stages.core.data.decode import PHANTOM_MARK, FilmError, FilmLimits, decode_film

LIMITS = FilmLimits(min_side=16, max_pixels=100_000)


def gradient(height: int = 40, width: int = 30) -> np.ndarray:
    return (np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 256).astype(np.uint8)


def reason_of(path: Path, limits: FilmLimits = LIMITS) -> str:
    with pytest.raises(FilmError) as caught:
        decode_film(path, limits)
    assert str(path) not in caught.value.detail, "details go into tables and must not carry names of people"
    return caught.value.reason


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_eight_bit_grey_is_kept_as_it_is(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"film.{ending}"
    Image.fromarray(gradient()).save(path)
    np.testing.assert_array_equal(decode_film(path, LIMITS).pixels, gradient())


def test_colour_becomes_grey_by_itu_601_and_alpha_is_ignored(tmp_path: Path) -> None:
    colour = np.zeros((40, 30, 4), np.uint8)
    colour[:20, :, 0], colour[20:, :, 1], colour[..., 3] = 200, 200, 0
    Image.fromarray(colour, "RGBA").save(tmp_path / "film.png")
    pixels = decode_film(tmp_path / "film.png", LIMITS).pixels
    assert pixels[0, 0] == pytest.approx(0.299 * 200, abs=1)
    assert pixels[-1, 0] == pytest.approx(0.587 * 200, abs=1)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_windowed_between_percentiles(tmp_path: Path, ending: str) -> None:
    values = np.linspace(1000, 5000, 40 * 30).reshape(40, 30).astype(np.uint16)
    values[0, 0] = 65535  # one hot pixel must not make the film black
    path = tmp_path / f"film.{ending}"
    Image.fromarray(values).save(path)
    pixels = decode_film(path, LIMITS).pixels
    assert pixels.dtype == np.uint8
    assert pixels[0, 0] == 255
    assert abs(int(pixels[20, 15]) - 127) < 6
    ordered = pixels.reshape(-1)[1:].astype(int)
    assert (np.diff(ordered) >= 0).all()


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason_and_never_run(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.jpg"
        path.write_bytes(data)
        assert reason_of(path).startswith("film_")


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("never", "w"))


def test_a_pickle_named_jpg_is_not_a_film(tmp_path: Path) -> None:
    (tmp_path / "film.jpg").write_bytes(pickle.dumps(_Bomb()))
    assert reason_of(tmp_path / "film.jpg") == "film_format"


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_truncated_film_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"film.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason_of(path) in {"film_truncated", "film_damaged", "film_format"}


def test_a_truncated_jpeg_is_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "film.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason_of(path) == "film_truncated"


def test_sizes_are_judged_by_the_header_before_decoding(tmp_path: Path) -> None:
    Image.fromarray(gradient(1, 1)).save(tmp_path / "dot.png")
    assert reason_of(tmp_path / "dot.png") == "film_tiny"
    Image.fromarray(gradient(400, 400)).save(tmp_path / "large.png")
    assert reason_of(tmp_path / "large.png") == "film_too_large"
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason_of(tmp_path / "bomb.png") == "film_too_large"


def test_films_that_show_nothing_or_too_much_are_refused(tmp_path: Path) -> None:
    Image.new("L", (40, 40), 7).save(tmp_path / "blank.png")
    assert reason_of(tmp_path / "blank.png") == "film_blank"
    pages = [Image.fromarray(gradient()) for _ in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert reason_of(tmp_path / "pages.tif") == "film_frames"


def test_missing_and_unreadable_files_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_of(tmp_path / "no.jpg") == "film_missing"
    assert reason_of(tmp_path) == "film_unreadable"  # a folder

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)  # tests may run as root, who may read everything
    assert reason_of(tmp_path / "locked.jpg") == "film_unreadable"


def test_generated_films_are_known_by_their_mark(tmp_path: Path) -> None:
    picture, info = Image.fromarray(gradient()), PngInfo()
    info.add_text("Comment", PHANTOM_MARK)
    picture.save(tmp_path / "a.png", pnginfo=info)
    picture.save(tmp_path / "b.jpg", comment=PHANTOM_MARK.encode())
    picture.save(tmp_path / "c.jpg", comment=b"Siemens")
    marked = [decode_film(tmp_path / name, LIMITS).phantom for name in ("a.png", "b.jpg", "c.jpg")]
    assert marked == [True, True, False]

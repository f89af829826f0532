"""Every kind of file that may lie in a film folder: read by one rule, or refused with a reason."""

import io
import pickle
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from stages.core.data.decode import PHANTOM_MARK, Film, FilmError, FilmLimits, decode_film

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


NAME = "Doe^Jane of Nowhere Street"


def dicom(path: Path, pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Path:
    """A DICOM film of `pixels` with a person's name in it; `tags` replace what follows from the pixels."""
    data = pydicom.Dataset()
    data.PatientName, data.PatientID, data.StudyDescription = NAME, "Jane-1234", NAME
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.DigitalXRayImageStorageForPresentation, "1.2.3"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(data, tag)
        else:
            setattr(data, tag, value)
    if "PixelData" in data:
        data["PixelData"].VR = "OB" if syntax != ExplicitVRLittleEndian else "OW"
        data["PixelData"].is_undefined_length = pydicom.uid.UID(syntax).is_encapsulated
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def test_dicom_is_known_by_its_mark_or_its_name(tmp_path: Path) -> None:
    marked = dicom(tmp_path / "IM000001", gradient())
    bare = tmp_path / "bare.dcm"
    data = pydicom.dcmread(marked)
    data.file_meta, data.preamble = pydicom.dataset.FileMetaDataset(), None
    data.save_as(bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert marked.read_bytes()[128:132] == b"DICM"
    assert bare.read_bytes()[128:132] != b"DICM"
    for path in (marked, bare):
        np.testing.assert_array_equal(decode_film(path, LIMITS).pixels, gradient())


def test_a_dicom_film_of_twelve_bits_is_windowed_like_a_png(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 30), np.uint16)
    Image.fromarray(values).save(tmp_path / "film.png")
    path = dicom(tmp_path / "film.dcm", values, BitsStored=12, HighBit=11)
    as_png = decode_film(tmp_path / "film.png", LIMITS).pixels
    np.testing.assert_array_equal(decode_film(path, LIMITS).pixels, as_png)
    inverted = dicom(path, values, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decode_film(inverted, LIMITS).pixels, 255 - as_png)


@given(slope=st.floats(0.01, 50), intercept=st.floats(-5000, 5000), negative=st.booleans())
def test_rescaling_changes_a_windowed_film_by_its_sign_alone(
    slope: float, intercept: float, negative: bool
) -> None:
    import tempfile

    values = np.random.default_rng(0).integers(-900, 900, (20, 20), np.int16)
    rescaled = {
        "RescaleSlope": f"{-slope if negative else slope:.6g}",
        "RescaleIntercept": f"{intercept:.6g}",
    }
    with tempfile.TemporaryDirectory() as folder:
        plain = decode_film(dicom(Path(folder) / "a.dcm", values), LIMITS).pixels.astype(int)
        other = decode_film(dicom(Path(folder) / "b.dcm", values, **rescaled), LIMITS).pixels.astype(int)
    assert abs((255 - plain if negative else plain) - other).max() <= 1
    assert np.unique(plain).size > 100


def test_colour_dicom_becomes_grey_like_a_png(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "film.png")
    as_png = decode_film(tmp_path / "film.png", LIMITS).pixels
    np.testing.assert_array_equal(decode_film(dicom(tmp_path / "film.dcm", colour), LIMITS).pixels, as_png)


def test_compressed_dicom_is_read_where_there_is_a_decoder(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(gradient()).save(picture, "JPEG2000", irreversible=False, no_jp2=True)
    frames = encapsulate([picture.getvalue()])
    path = dicom(tmp_path / "film.dcm", gradient(), JPEG2000Lossless, PixelData=frames)
    np.testing.assert_array_equal(decode_film(path, LIMITS).pixels, gradient())
    assert reason_of(dicom(path, gradient(), JPEGLSLossless, PixelData=frames)) == "film_compression"
    unknown = path.read_bytes().replace(JPEGLSLossless.encode(), b"9" * len(JPEGLSLossless))
    path.write_bytes(unknown)
    assert reason_of(path) == "film_compression"
    assert (
        reason_of(dicom(path, gradient(), JPEGBaseline8Bit, PixelData=encapsulate([b"no"]))) == "film_damaged"
    )
    other_size = dicom(path, gradient(50, 30), JPEG2000Lossless, PixelData=frames)
    assert reason_of(other_size) == "film_damaged"


@pytest.mark.parametrize(
    ("tags", "spacing", "source"),
    [
        ({}, None, None),
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "PixelSpacing"),
        ({"ImagerPixelSpacing": [0.3, 0.4]}, (0.3, 0.4), "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.3, 0.3]}, (0.2, 0.2), "PixelSpacing"),
        # a copy of the detector's spacing is not a calibration
        ({"PixelSpacing": [0.3, 0.3], "ImagerPixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "ImagerPixelSpacing"),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.2]}, None, None),
    ],
)
def test_spacing_is_that_of_the_patient_or_else_of_the_detector(
    tmp_path: Path, tags: dict[str, Any], spacing: tuple[float, float] | None, source: str | None
) -> None:
    film = decode_film(dicom(tmp_path / "film.dcm", gradient(), **tags), LIMITS)
    assert (film.spacing_mm, film.spacing_source) == (spacing, source)


def test_dicom_sizes_are_judged_by_the_header_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    assert reason_of(dicom(path, gradient(8, 8))) == "film_tiny"
    # no such pixels are in the file: whoever decodes before looking sees a damaged one
    assert reason_of(dicom(path, gradient(), Rows=60_000, Columns=60_000)) == "film_too_large"
    assert reason_of(dicom(path, gradient(), NumberOfFrames=2)) == "film_frames"
    assert reason_of(dicom(path, gradient(), DeflatedExplicitVRLittleEndian)) == "film_compression"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PixelData": None}, "film_no_pixels"),
        ({"Rows": None}, "film_damaged"),
        ({"Rows": 41}, "film_damaged"),
        ({"Columns": 20}, "film_damaged"),
        ({"SamplesPerPixel": 3}, "film_format"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "film_format"),
        ({"PhotometricInterpretation": "JANE DOE"}, "film_format"),
        ({"BitsAllocated": 32}, "film_format"),
        ({"BitsStored": 9}, "film_format"),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "film_blank"),
    ],
)
def test_dicom_headers_that_do_not_fit_are_refused(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    path = dicom(tmp_path / "film.dcm", gradient(), **tags)
    assert reason_of(path) == reason
    with pytest.raises(FilmError) as caught:
        decode_film(path, LIMITS)
    assert "JANE" not in str(caught.value), "no text of a header is shown"


@given(st.integers(0, 2**31), st.booleans())
def test_a_damaged_dicom_film_ends_in_a_reason_and_never_names_the_person(seed: int, cut: bool) -> None:
    import tempfile

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = dicom(Path(folder) / "film.dcm", gradient(), PixelSpacing=[0.2, 0.2])
        content = bytearray(path.read_bytes())
        if cut:
            content = content[: rng.integers(1, len(content) - 1)]
        else:
            header = len(content) - gradient().size
            for at in rng.integers(128, header, rng.integers(1, 6)):
                content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            read: Film | FilmError = decode_film(path, LIMITS)
        except FilmError as error:
            read = error
    if isinstance(read, FilmError):
        assert read.reason.startswith("film_")
        assert "Jane" not in str(read)
    else:
        assert not cut, "a film whose end is missing passed"
        assert read.pixels.size <= LIMITS.max_pixels


def test_a_dicom_film_cut_in_its_pixels_is_called_truncated(tmp_path: Path) -> None:
    path = dicom(tmp_path / "film.dcm", gradient())
    path.write_bytes(path.read_bytes()[:-100])
    assert reason_of(path) == "film_truncated"


def test_a_file_that_is_called_dicom_and_is_none_is_no_film(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "film.png")
    (tmp_path / "film.png").rename(tmp_path / "film.dcm")
    assert reason_of(tmp_path / "film.dcm") == "film_format"
    (tmp_path / "film.dcm").write_bytes(b"")
    assert reason_of(tmp_path / "film.dcm") == "film_format"
    assert reason_of(tmp_path / "missing.dcm") == "film_missing"

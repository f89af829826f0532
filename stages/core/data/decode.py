"""Any film file to 8-bit grey, or a stated reason why not.

Read: JPEG, PNG and TIFF with 8 or 16 bits, grey or colour, BMP, and DICOM with one frame. Colour becomes grey by
ITU-R 601 weights (an alpha channel is ignored). Films with more than 8 bits are windowed: the 0.5th percentile
of their values becomes 0, the 99.5th becomes 255, linear between and clipped outside. EXIF rotation is ignored,
because labels are drawn on the pixels as stored.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PHANTOM_MARK = "plumbline phantom"
"""comment inside the files of generated films"""
WINDOW = (0.5, 99.5)
"""percentiles of a film of more than 8 bits that become black and white"""
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
DICOM_SUFFIXES = (".dcm", ".dicom")
"""files that are read as DICOM even without the format's mark"""
_DEEP = ("I;16", "I;16B", "I;16L", "I", "F")
_EIGHT_BIT = ("L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "1")


class FilmError(Exception):
    """A film that cannot be used. `reason` is a code for tables, `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class FilmLimits:
    """What counts as a film: shorter side in px, and pixels in all (a guard against decompression bombs)."""

    min_side: int
    max_pixels: int


@dataclass(frozen=True)
class Film:
    """A decoded film.

    Attributes:
        pixels: (height, width) uint8.
        phantom: whether it says that it is generated.
        spacing_mm: mm a px down a column and along a row; None where the file gives none.
        spacing_source: "PixelSpacing" (lengths in the patient, as the maker calibrated them), or
            "ImagerPixelSpacing" (lengths in the plane of the detector, where bones appear magnified: their true
            lengths are shorter). None without a spacing.
    """

    pixels: np.ndarray
    phantom: bool
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str | None = None


def decode_film(path: Path, limits: FilmLimits) -> Film:
    """Read a film file.

    Raises:
        FilmError: film_missing, film_unreadable (permission, disk), film_format (not a picture, or one of
            another kind), film_tiny, film_too_large (judged by the header, before decoding), film_truncated,
            film_damaged, film_frames (more than one picture in the file), film_no_pixels (DICOM without a
            picture), film_compression (DICOM in a compression that has no decoder here) or film_blank (one
            value only).
    """
    try:
        if _is_dicom(path):
            from stages.core.data.dicom import decode_dicom

            film = decode_dicom(path, limits)
        else:
            film = _decode_picture(path, limits)
    except FileNotFoundError:
        raise FilmError("film_missing", "there is no such file") from None
    except PermissionError:
        raise FilmError("film_unreadable", "no permission to read it") from None
    except Image.UnidentifiedImageError:
        raise FilmError("film_format", _what_is(path)) from None
    except Image.DecompressionBombError as error:
        raise FilmError("film_too_large", str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow: a broken file
        reason = "film_truncated" if "truncated" in str(error) else "film_damaged"
        if isinstance(error, OSError) and error.errno is not None:
            reason = "film_unreadable"
        raise FilmError(reason, str(error).replace(str(path), "the file")) from None
    if film.pixels.min() == film.pixels.max():
        raise FilmError("film_blank", f"all {film.pixels.size} pixels have the value {film.pixels.flat[0]}")
    return film


def _decode_picture(path: Path, limits: FilmLimits) -> Film:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of big pictures; the limits decide
        with Image.open(path, formats=FORMATS) as picture:
            _check_header(picture, limits)
            return Film(_to_grey(picture), _is_phantom(picture))


def _check_header(picture: Image.Image, limits: FilmLimits) -> None:
    check_size(*picture.size, limits)
    check_frames(getattr(picture, "n_frames", 1))
    if picture.mode not in _DEEP + _EIGHT_BIT:
        raise FilmError("film_format", f"pixel mode {picture.mode}; known: {', '.join(_EIGHT_BIT + _DEEP)}")


def check_size(width: int, height: int, limits: FilmLimits) -> None:
    if min(width, height) < limits.min_side:
        raise FilmError("film_tiny", f"{width} x {height} px; the shorter side needs {limits.min_side}")
    if width * height > limits.max_pixels:
        raise FilmError("film_too_large", f"{width} x {height} px; the limit is {limits.max_pixels} pixels")


def check_frames(frames: int) -> None:
    if frames > 1:
        raise FilmError("film_frames", f"{frames} pictures in one file; expected one")


def _to_grey(picture: Image.Image) -> np.ndarray:
    if picture.mode not in _DEEP:
        return np.asarray(picture.convert("L"))
    return windowed(np.asarray(picture))


def windowed(values: np.ndarray) -> np.ndarray:
    """Values (height, width) of any range to uint8; see the module's docstring."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise FilmError("film_damaged", "some pixels are not finite numbers")
    low, high = np.percentile(values, WINDOW)
    if high <= low:  # nearly all pixels are equal: use what range there is
        low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)


def _is_phantom(picture: Image.Image) -> bool:
    texts = [v.decode("latin-1") if isinstance(v, bytes) else v for v in picture.info.values()]
    return any(isinstance(t, str) and t.strip("\0 ") == PHANTOM_MARK for t in texts)


def _what_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    found = f"it starts with {start!r}" if start else "it is empty"
    return f"not a {', '.join(FORMATS)} or DICOM file: {found}"


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    # Whoever decodes a file that cannot be opened says why.
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False

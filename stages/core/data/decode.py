"""Any film file to 8-bit grey, or a stated reason why not.

Read: JPEG, PNG and TIFF with 8 or 16 bits, grey or colour. Colour becomes grey by ITU-R 601 weights (an
alpha channel is ignored). Films with more than 8 bits are windowed: the 0.5th percentile of their values
becomes 0, the 99.5th becomes 255, linear between and clipped outside. EXIF rotation is ignored, because
labels are drawn on the pixels as stored.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PHANTOM_MARK = "plumbline phantom"
"""comment inside the files of generated films"""
WINDOW = (0.5, 99.5)
"""percentiles of a film of more than 8 bits that become black and white"""
FORMATS = ("JPEG", "PNG", "TIFF")
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
    """A decoded film: `pixels` (height, width) uint8, and whether it says that it is generated."""

    pixels: np.ndarray
    phantom: bool


def decode_film(path: Path, limits: FilmLimits) -> Film:
    """Read a film file.

    Raises:
        FilmError: film_missing, film_unreadable (permission, disk), film_format (not a picture, or one of
            another kind), film_tiny, film_too_large (judged by the header, before decoding), film_truncated,
            film_damaged, film_frames (more than one picture in the file) or film_blank (one value only).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of big pictures; the limits below decide
            with Image.open(path, formats=FORMATS) as picture:
                _check_header(picture, limits)
                pixels = _to_grey(picture)
                phantom = _is_phantom(picture)
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
    if pixels.min() == pixels.max():
        raise FilmError("film_blank", f"all {pixels.size} pixels have the value {pixels.flat[0]}")
    return Film(pixels, phantom)


def _check_header(picture: Image.Image, limits: FilmLimits) -> None:
    width, height = picture.size
    if min(width, height) < limits.min_side:
        raise FilmError("film_tiny", f"{width} x {height} px; the shorter side needs {limits.min_side}")
    if width * height > limits.max_pixels:
        raise FilmError("film_too_large", f"{width} x {height} px; the limit is {limits.max_pixels} pixels")
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        raise FilmError("film_frames", f"{frames} pictures in one file; expected one")
    if picture.mode not in _DEEP + _EIGHT_BIT:
        raise FilmError("film_format", f"pixel mode {picture.mode}; known: {', '.join(_EIGHT_BIT + _DEEP)}")


def _to_grey(picture: Image.Image) -> np.ndarray:
    if picture.mode not in _DEEP:
        return np.asarray(picture.convert("L"))
    values = np.asarray(picture).astype(np.float64)
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
    return f"not a {', '.join(FORMATS)} file: " + (f"it starts with {start!r}" if start else "it is empty")

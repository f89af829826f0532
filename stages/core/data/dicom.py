"""Films in DICOM files: one grey or colour frame, uncompressed or in a compression that can be decoded here.

Of the header only what pixels and spacing need is read (DICOM_TAGS); no text of it is kept, shown or copied
into an error. The modality transform is applied. The display window is not: percentiles stand in for it, so
that a film looks alike whichever format it came in.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stages.core.data.decode import Film, FilmError, FilmLimits, check_frames, check_size, windowed

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_TAGS = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "ImagerPixelSpacing",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelData",
    "PixelRepresentation",
    "PixelSpacing",
    "PlanarConfiguration",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
)
"""all that is ever read of a DICOM header, beside its transfer syntax"""
_GREY, _COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_NEEDED = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "Rows",
    "SamplesPerPixel",
)
_UNDEFINED_LENGTH = 0xFFFFFFFF


def decode_dicom(path: Path, limits: FilmLimits) -> Film:
    """Read a DICOM file; see `decode_film`, whose errors these are. OSError where the disk fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns with values of the header
        try:
            header = _read_header(path)
            _check_header(header, path.stat().st_size, limits)
            spacing, source = _spacing_mm(header)
            return Film(_to_grey(header), False, spacing, source)
        except FilmError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise
            raise FilmError("film_damaged", "not to be read as DICOM") from None
        except Exception as error:  # pydicom raises a dozen kinds on files that are not what they claim
            raise FilmError("film_damaged", f"not to be read as DICOM ({type(error).__name__})") from None


def _read_header(path: Path) -> Dataset:
    """The tags of DICOM_TAGS; pixels stay in the file until somebody asks for them."""
    import pydicom
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

    with path.open("rb") as file:
        marked = file.read(132)[128:] == b"DICM"
    if marked:
        stated = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        # pydicom would inflate all of it before the limits count.
        if stated == DeflatedExplicitVRLittleEndian:
            raise FilmError("film_compression", "the whole file is deflated; store it without")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        header = pydicom.dcmread(path, force=not marked, defer_size=1024, specific_tags=list(DICOM_TAGS))
    if "PixelData" not in header:
        # A file that ends inside an element is only warned of, with the words "... in file NAME".
        if any(" in file " in str(warning.message) for warning in caught):
            raise FilmError("film_truncated", "the file ends before its picture does")
        if not marked and "Rows" not in header:
            raise FilmError("film_format", "neither a DICOM file nor, by its name, anything else")
        raise FilmError(
            "film_no_pixels", "a DICOM file without pixel data (a report, a plan, or a directory)"
        )
    if "TransferSyntaxUID" not in header.file_meta:
        _, little_endian = header.original_encoding
        assumed: UID = ImplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = assumed
    return header


def _check_header(header: Dataset, file_bytes: int, limits: FilmLimits) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.pixels.utils import get_expected_length

    if missing := [tag for tag in _NEEDED if header.get(tag) is None]:
        raise FilmError("film_damaged", f"the DICOM header lacks {', '.join(missing)}")
    check_size(header.Columns, header.Rows, limits)
    check_frames(int(header.get("NumberOfFrames") or 1))
    kind, bits = header.PhotometricInterpretation, header.BitsAllocated
    samples = 1 if kind in _GREY else 3 if kind in _COLOUR else 0
    if samples == 0 or samples != header.SamplesPerPixel:
        known = ", ".join(_GREY + _COLOUR)
        raise FilmError("film_format", f"neither grey nor plain colour; known photometric kinds: {known}")
    if bits not in (8, 16) or not 1 <= header.BitsStored <= bits or (samples == 3 and bits != 8):
        raise FilmError("film_format", f"{samples} samples of {bits} bits; known: 1 of 8 or 16, 3 of 8")
    syntax = header.file_meta.TransferSyntaxUID
    name = syntax.name if syntax.name != syntax else "an unknown transfer syntax"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise FilmError("film_compression", f"{name} cannot be decoded here; store the film uncompressed")
    stored: Any = header.get_item("PixelData", keep_deferred=True)
    if (stored.length == _UNDEFINED_LENGTH) != syntax.is_compressed:
        raise FilmError("film_damaged", f"its pixel data are not stored as {name} asks for")
    if syntax.is_compressed:
        return
    expected = get_expected_length(header)
    if stored.length not in (expected, expected + expected % 2):
        said = f"{stored.length} bytes of pixel data; {header.Columns} x {header.Rows} px need {expected}"
        raise FilmError("film_damaged", said)
    if stored.value_tell + stored.length > file_bytes:
        raise FilmError("film_truncated", "the file ends before its picture does")


def _to_grey(header: Dataset) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, get_decoder

    syntax = header.file_meta.TransferSyntaxUID
    try:
        values, _ = get_decoder(syntax).as_array(header)
    except RuntimeError:
        said = f"its {syntax.name} picture is damaged, or of a kind that has no decoder here; store it uncompressed"
        raise FilmError("film_damaged", said) from None
    if header.SamplesPerPixel == 3:
        return np.asarray(Image.fromarray(values).convert("L"))
    rescaled = apply_modality_lut(values, header)
    plain = header.BitsStored == 8 and header.PixelRepresentation == 0 and np.array_equal(rescaled, values)
    grey = values.astype(np.uint8) if plain else windowed(rescaled)
    return 255 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _spacing_mm(header: Dataset) -> tuple[tuple[float, float] | None, str | None]:
    pixel, imager = (_two_lengths(header.get(tag)) for tag in ("PixelSpacing", "ImagerPixelSpacing"))
    # Makers that did not calibrate copy the detector's spacing (DICOM part 3, section 10.7.1.3).
    if pixel is not None and pixel != imager:
        return pixel, "PixelSpacing"
    return (imager, "ImagerPixelSpacing") if imager is not None else (None, None)


def _two_lengths(value: Any) -> tuple[float, float] | None:
    """Two positive lengths in mm, or None for anything else."""
    try:
        down, along = (float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return (down, along) if all(math.isfinite(v) and v > 0 for v in (down, along)) else None

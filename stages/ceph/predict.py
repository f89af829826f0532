"""Nineteen points, their expected errors, three angles and an overlay for any films: `plumbline predict ceph`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.ceph.angles import angles
from stages.ceph.overlay import write_overlay
from stages.ceph.schema import CEPH
from stages.core.answers import answer_films
from stages.core.data.decode import Film
from stages.core.model.prediction import provenance, read_films

if TYPE_CHECKING:
    from stages.ceph.locating.model import TrainedCeph


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False
) -> list[dict[str, Any]]:
    """Predict films one by one.

    Args:
        model: folder of ceph-base or ceph-tuned.
        files: JPEG, PNG, TIFF or DICOM, 8 or 16 bits, grey or colour; lateral, upright, the face to the right.
        out: folder for the overlays; created.
        allow_phantom: let a model that was trained on phantoms read a person's film.
    Returns:
        One answer a file, ready for JSON: size and landmarks in px of the file, each with its expected error in
        px, and in mm where the file gives a spacing (else None); SNA, SNB and ANB in degrees; the overlay's name
        and where the model comes from; or `error` with a reason where a file is no film.
    Raises:
        StageError: no file is a film, or a phantom's model met a person's film.
    """
    trained = open_model(model)

    def answer(film: Film, overlay: Path) -> dict[str, Any]:
        told, points, expected = _answer(trained, film)
        write_overlay(overlay, film.pixels, points, expected, told["angles_deg"])
        return told

    return answer_films(read_films(trained.card, files, allow_phantom), out, answer)


def open_model(model: Path) -> TrainedCeph:
    """The model in a folder of ceph-base or ceph-tuned, for `predict_film`."""
    from stages.ceph.locating.model import TrainedCeph

    return TrainedCeph.open(model)


def predict_film(trained: TrainedCeph, film: Film) -> dict[str, Any]:
    """The answer for one decoded film: that of `predict_files` without file and overlay."""
    return _answer(trained, film)[0]


def calibration(trained: TrainedCeph) -> dict[str, Any]:
    """What turns spread and peak into expected errors, as plain values: models with the same one promise alike."""
    return {name: values.tolist() for name, values in trained.expected.to_arrays().items()}


def _answer(trained: TrainedCeph, film: Film) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The answer, its points (19, 2) and expected errors (19,) in px of the film."""
    found = trained.predict_film(film.pixels)
    points, expected = found.points[0], found.expected_error[0]
    told = describe(points, expected, film)
    return {"phantom": film.phantom, **told, "model": provenance(trained.card)}, points, expected


def describe(points: np.ndarray, expected_error: np.ndarray, film: Film) -> dict[str, Any]:
    """Points (19, 2) and expected errors (19,) in px of a film as JSON values."""
    height, width = film.pixels.shape
    # A decoder gives mm down a column first.
    spacing = np.array(film.spacing_mm[::-1]) if film.spacing_mm else None
    per_px = None if spacing is None else float(np.sqrt(spacing.prod()))
    placed = points if spacing is None else points * spacing
    return {
        "width": width,
        "height": height,
        "spacing_mm": None if spacing is None else [float(v) for v in spacing],
        "spacing_source": film.spacing_source,
        "landmarks": [
            {
                "name": name,
                "x": round(float(x), 2),
                "y": round(float(y), 2),
                "expected_error_px": round(float(error), 2),
                "expected_error_mm": None if per_px is None else round(float(error) * per_px, 2),
            }
            for name, (x, y), error in zip(CEPH.names, points, expected_error, strict=True)
        ],
        "angles_deg": {name: round(float(value[0]), 2) for name, value in angles(placed[None]).items()},
    }

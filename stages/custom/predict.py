"""Points, their radii and an overlay for any films by the model of a described lane: `plumbline predict NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.answers import answer_films
from stages.core.data.decode import Film
from stages.core.model.prediction import provenance, read_films
from stages.custom.overlay import write_overlay

if TYPE_CHECKING:
    from stages.custom.locating.model import TrainedLane


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False
) -> list[dict[str, Any]]:
    """Predict films one by one.

    Args:
        model: folder of NAME-train.
        files: JPEG, PNG, TIFF or DICOM, 8 or 16 bits, grey or colour, any size; turned as the training films.
        out: folder for the overlays; created.
        allow_phantom: let a model that was trained on phantoms read a person's film.
    Returns:
        One answer a file, ready for JSON; or `error` with a reason where a file is no film.
    Raises:
        StageError: no file is a film, or a phantom's model met a person's film.
    """
    trained = open_model(model)

    def answer(film: Film, overlay: Path) -> dict[str, Any]:
        found = trained.predict_film(film.pixels)
        points, radii = found.points[0], found.radius[0]
        write_overlay(overlay, film.pixels, points, radii, trained.described.schema)
        return _answer(trained, film, points, radii)

    return answer_films(read_films(trained.card, files, allow_phantom), out, answer)


def open_model(model: Path) -> TrainedLane:
    """The model in a folder of NAME-train, for `predict_film`."""
    from stages.custom.locating.model import TrainedLane

    return TrainedLane.open(model)


def predict_film(trained: TrainedLane, film: Film) -> dict[str, Any]:
    """The answer for one decoded film: that of `predict_files` without file and overlay."""
    found = trained.predict_film(film.pixels)
    return _answer(trained, film, found.points[0], found.radius[0])


def calibration(trained: TrainedLane) -> dict[str, Any]:
    """What turns spreads into radii, as plain values: two models with the same one promise alike."""
    return {"radius": trained.radius.to_array().tolist()}


def _answer(trained: TrainedLane, film: Film, points: np.ndarray, radii: np.ndarray) -> dict[str, Any]:
    """Points (K, 2) and radii (K,) in px of the film as JSON values, in mm too where the file states a spacing."""
    height, width = film.pixels.shape
    # A decoder gives mm down a column first.
    spacing = None if film.spacing_mm is None else [float(v) for v in film.spacing_mm[::-1]]
    told = trained.described.spacing_mm
    source = film.spacing_source
    if spacing is None and told is not None:
        spacing, source = [told, told], "description of the lane"
    per_px = None if spacing is None else float(np.sqrt(spacing[0] * spacing[1]))
    return {
        "phantom": film.phantom,
        "width": width,
        "height": height,
        "spacing_mm": spacing,
        "spacing_source": source,
        "landmarks": [
            {
                "name": name,
                "x": round(float(x), 2),
                "y": round(float(y), 2),
                "radius_px": round(float(radius), 2),
                "radius_mm": None if per_px is None else round(float(radius) * per_px, 2),
            }
            for name, (x, y), radius in zip(trained.card.landmarks, points, radii, strict=True)
        ],
        "radius_coverage": trained.radius.coverage,
        "model": provenance(trained.card),
    }

"""Fifteen points, a disc about each and an overlay for any films: what `plumbline predict chest` calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.chest.overlay import write_overlay
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.answers import answer_films
from stages.core.data.decode import Film
from stages.core.model.prediction import provenance, read_films

if TYPE_CHECKING:
    from stages.chest.system_model import TrainedSystem


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False
) -> list[dict[str, Any]]:
    """Predict films one by one.

    Args:
        model: folder of chest-system.
        files: JPEG, PNG or TIFF, 8 or 16 bits, grey or colour; frontal, upright, of both lungs.
        out: folder for the overlays; created.
        allow_phantom: let a model that was trained on phantoms read a person's film.
    Returns:
        One answer a file, ready for JSON: size and landmarks in px of the file, each with the radius that holds
        the true point with the probability `radius_coverage`; the overlay's name and where the model comes
        from; or `error` with a reason where a file is no film.
    Raises:
        StageError: no file is a film, or a phantom's model met a person's film.
    """
    trained = open_model(model)

    def answer(film: Film, overlay: Path) -> dict[str, Any]:
        points, radii = _locate(trained, film)
        write_overlay(overlay, film.pixels, points, radii)
        return _answer(trained, film, points, radii)

    return answer_films(read_films(trained.card, files, allow_phantom), out, answer)


def open_model(model: Path) -> TrainedSystem:
    """The model in a folder of chest-system, for `predict_film`."""
    from stages.chest.system_model import TrainedSystem

    return TrainedSystem.open(model)


def predict_film(trained: TrainedSystem, film: Film) -> dict[str, Any]:
    """The answer for one decoded film: that of `predict_files` without file and overlay."""
    return _answer(trained, film, *_locate(trained, film))


def calibration(trained: TrainedSystem) -> dict[str, Any]:
    """What turns the networks' spread into radii, as plain values: two models with the same one promise alike."""
    return {name: values.tolist() for name, values in trained.radius.arrays().items()}


def _locate(trained: TrainedSystem, film: Film) -> tuple[np.ndarray, np.ndarray]:
    """Points (15, 2) and radii (15,) in px of the film."""
    found = trained.predict_film(film.pixels)
    return found.points[0], radii_on(film.pixels, found.radius[0])


def _answer(trained: TrainedSystem, film: Film, points: np.ndarray, radii: np.ndarray) -> dict[str, Any]:
    return {
        "phantom": film.phantom,
        **describe(points, radii, film.pixels),
        "radius_coverage": trained.card.params["coverage"],
        "model": provenance(trained.card),
    }


def radii_on(pixels: np.ndarray, radii_px224: np.ndarray) -> np.ndarray:
    """Radii from px at 224 to px of a film (H, W).

    A disc at 224 is an ellipse on a film that is not square; its longer half axis keeps what was promised.
    """
    return radii_px224 * max(side / at_224 for side, at_224 in zip(pixels.shape, REPORT_FRAME, strict=True))


def describe(points: np.ndarray, radii: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
    """Points (15, 2) and radii (15,) in px of a film (H, W) as JSON values."""
    height, width = pixels.shape
    return {
        "width": width,
        "height": height,
        "landmarks": [
            {"name": name, "x": round(float(x), 2), "y": round(float(y), 2), "radius_px": round(float(r), 2)}
            for name, (x, y), r in zip(CHEST.names, points, radii, strict=True)
        ],
    }

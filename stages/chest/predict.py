"""Fifteen points, a disc about each and an overlay for any films: what `plumbline predict chest` calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.chest.overlay import write_overlay
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data.decode import FilmError
from stages.core.model.prediction import overlay_names, provenance, read_films


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
    from stages.chest.system_model import TrainedSystem

    trained = TrainedSystem.open(model)
    films = read_films(trained.card, files, allow_phantom)
    names = overlay_names(list(films))
    out.mkdir(parents=True, exist_ok=True)
    answers: list[dict[str, Any]] = []
    for file, film in films.items():
        if isinstance(film, FilmError):
            answers.append({"file": str(file), "error": {"reason": film.reason, "detail": film.detail}})
            continue
        found = trained.predict_film(film.pixels)
        points, radii = found.points[0], radii_on(film.pixels, found.radius[0])
        write_overlay(out / names[file], film.pixels, points, radii)
        source: dict[str, Any] = {"file": str(file), "overlay": names[file], "phantom": film.phantom}
        told = describe(points, radii, film.pixels)
        coverage = {"radius_coverage": trained.card.params["coverage"]}
        answers.append({**source, **told, **coverage, "model": provenance(trained.card)})
    return answers


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

"""Fifteen points and an overlay for any films: what `plumbline predict chest` and the registry call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.chest.overlay import write_overlay
from stages.chest.regressor.inference import TrainedRegressor
from stages.chest.schema import CHEST
from stages.core.data.decode import FilmError
from stages.core.model.prediction import overlay_names, provenance, read_films


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False
) -> list[dict[str, Any]]:
    """Predict films one by one.

    Args:
        model: folder of chest-train.
        files: JPEG, PNG or TIFF, 8 or 16 bits, grey or colour; frontal, upright, of both lungs.
        out: folder for the overlays; created.
        allow_phantom: let a model that was trained on phantoms read a person's film.
    Returns:
        One answer a file, ready for JSON: size and landmarks in px of the file, the overlay's name and where
        the model comes from; or `error` with a reason where a file is no film.
    Raises:
        StageError: no file is a film, or a phantom's model met a person's film.
    """
    trained = TrainedRegressor.open(model)
    films = read_films(trained.card, files, allow_phantom)
    names = overlay_names(list(films))
    out.mkdir(parents=True, exist_ok=True)
    answers: list[dict[str, Any]] = []
    for file, film in films.items():
        if isinstance(film, FilmError):
            answers.append({"file": str(file), "error": {"reason": film.reason, "detail": film.detail}})
            continue
        points = trained.predict_film(film.pixels)
        write_overlay(out / names[file], film.pixels, points)
        source: dict[str, Any] = {"file": str(file), "overlay": names[file], "phantom": film.phantom}
        answers.append({**source, **describe(points, film.pixels), "model": provenance(trained.card)})
    return answers


def describe(points: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
    """Points (15, 2) on a film (H, W) as JSON values."""
    height, width = pixels.shape
    return {
        "width": width,
        "height": height,
        "landmarks": [
            {"name": name, "x": round(float(x), 2), "y": round(float(y), 2)}
            for name, (x, y) in zip(CHEST.names, points, strict=True)
        ],
    }

"""Corners, Cobb angles and an overlay for any films: what `plumbline predict spine` and the registry call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.data import geometry
from stages.core.data.decode import Film, FilmError
from stages.core.model.prediction import overlay_names, provenance, read_films
from stages.spine.cobb import ANGLES, cobb_angles, end_vertebrae
from stages.spine.heatmap.inference import TrainedHeatmaps
from stages.spine.overlay import write_overlay
from stages.spine.schema import LEVELS, SCHEMA


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False
) -> list[dict[str, Any]]:
    """Predict films one by one.

    Args:
        model: folder of spine-train.
        files: JPEG, PNG or TIFF, 8 or 16 bits, grey or colour; frontal, upright, of the whole spine.
        out: folder for the overlays; created.
        allow_phantom: let a model that was trained on phantoms read a person's film.
    Returns:
        One answer a file, ready for JSON: size and landmarks in px of the file, Cobb angles in degrees, the
        overlay's name and where the model comes from; or `error` with a reason where a file is no film.
    Raises:
        StageError: no file is a film, or a phantom's model met a person's film.
    """
    trained = TrainedHeatmaps.open(model, SCHEMA)
    films = read_films(trained.card, files, allow_phantom)
    names = overlay_names(list(films))
    out.mkdir(parents=True, exist_ok=True)
    answers: list[dict[str, Any]] = []
    for file, film in films.items():
        if isinstance(film, FilmError):
            answers.append({"file": str(file), "error": {"reason": film.reason, "detail": film.detail}})
            continue
        points = predict_film(trained, film)
        answer = describe(points, film.pixels.shape)
        write_overlay(out / names[file], film.pixels, points, answer["cobb_degrees"]["major"])
        source: dict[str, Any] = {"file": str(file), "overlay": names[file], "phantom": film.phantom}
        answers.append({**source, **answer, "model": provenance(trained.card)})
    return answers


def predict_film(trained: TrainedHeatmaps, film: Film) -> np.ndarray:
    """(K, 2) points in px of the film."""
    size = trained.input_size
    points = trained.predict(geometry.resize(film.pixels, size)[None])[0]
    return geometry.apply(geometry.resize_matrix(size, film.pixels.shape), points)


def describe(points: np.ndarray, size: tuple[int, ...]) -> dict[str, Any]:
    """Points (K, 2) of a film of `size` (height, width) as JSON values, with what follows from them."""
    height, width = size
    upper, lower = end_vertebrae(points)
    angles = cobb_angles(points, height)
    return {
        "width": width,
        "height": height,
        "landmarks": [
            {"name": name, "x": round(float(x), 2), "y": round(float(y), 2)}
            for name, (x, y) in zip(SCHEMA.names, points, strict=True)
        ],
        "cobb_degrees": {angle: round(float(a), 2) for angle, a in zip(ANGLES, angles, strict=True)},
        "end_vertebrae": {"upper": LEVELS[upper], "lower": LEVELS[lower]},
    }

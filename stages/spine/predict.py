"""Corners, Cobb angles and an overlay for any films: what `plumbline predict spine` and the registry call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.answers import answer_films
from stages.core.data.decode import Film
from stages.core.errors import StageError
from stages.core.model.prediction import provenance, read_films
from stages.spine.cobb import ANGLES, cobb_angles, end_vertebrae
from stages.spine.hints_text import parse_hints
from stages.spine.looping.system import Answer, System
from stages.spine.overlay import write_overlay
from stages.spine.schema import LEVELS, SCHEMA

WARNINGS = {
    "upside_down": "the film seems to be upside down: turn it by 180 degrees",
    "sideways": "the film seems to lie on its side: turn it by 90 degrees",
    "negative": "the film seems to be a negative: invert its grey values",
    "unlike": "the film is unlike the training set (a frontal film of the whole spine was expected): "
    "the answer is not to be trusted",
}


def predict_files(
    model: Path, files: list[Path], out: Path, allow_phantom: bool = False, hints: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Predict films one by one.

    Args:
        model: folder of spine-system.
        files: JPEG, PNG, TIFF or DICOM, 8 to 16 bits, grey or colour; frontal, upright, of the whole spine.
        out: folder for the overlays; created.
        allow_phantom: let a model that was trained on phantoms read a person's film.
        hints: points that the user is sure of, `POINT=X,Y` in px of the file; for one film only.
    Returns:
        One answer a file, ready for JSON: size and landmarks in px of the file, each with the error that is to
        be expected, Cobb angles in degrees, warnings, the overlay's name and where the model comes from; or
        `error` with a reason where a file is no film.
    Raises:
        StageError: no file is a film, a phantom's model met a person's film, or hints that cannot be used.
    """
    system = open_model(model)
    films = read_films(system.card, files, allow_phantom)
    if hints and len(films) != 1:
        raise StageError(f"hints belong to one film, but there are {len(films)}: name a single file")

    def answer(film: Film, overlay: Path) -> dict[str, Any]:
        told, points = _answer(system, film, hints)
        write_overlay(overlay, film.pixels, points, told["cobb_degrees"]["major"])
        return told

    return answer_films(films, out, answer)


def open_model(model: Path) -> System:
    """The model in a folder of spine-system, for `predict_film`."""
    return System.open(model, SCHEMA)


def predict_film(system: System, film: Film, hints: Sequence[str] = ()) -> dict[str, Any]:
    """The answer for one decoded film: that of `predict_files` without file and overlay."""
    return _answer(system, film, hints)[0]


def calibration(system: System) -> dict[str, Any]:
    """What turns risk into expected errors, as plain values: two models with the same one promise alike."""
    return system.expected.model_dump(mode="json")


def _answer(system: System, film: Film, hints: Sequence[str]) -> tuple[dict[str, Any], np.ndarray]:
    """The answer, and its points (K, 2) in px of the film."""
    told = hint_array(hints, film)
    found = system.predict(film.pixels[None], told[None])
    answer = describe(found, told, film)
    if (verdict := system.likeness.judge(film.pixels)).unlike:
        answer["warnings"].append(WARNINGS[verdict.kind])
    return {"phantom": film.phantom, **answer, "model": provenance(system.card)}, found.points[0]


def hint_array(hints: Sequence[str], film: Film) -> np.ndarray:
    """(K, 2) hints in px of the film, NaN where there is none."""
    told = np.full((SCHEMA.n_points, 2), np.nan)
    height, width = film.pixels.shape
    for index, place in parse_hints(hints, (height, width)).items():
        told[index] = place
    return told


def describe(found: Answer, told: np.ndarray, film: Film) -> dict[str, Any]:
    """The answer for one film as JSON values, with what follows from it; mm only where the file has a spacing."""
    points, expected = found.points[0], found.expected_error[0]
    height, width = film.pixels.shape
    upper, lower = end_vertebrae(points)
    angles = cobb_angles(points, height)
    landmarks = []
    for i, name in enumerate(SCHEMA.names):
        entry: dict[str, Any] = {
            "name": name,
            "x": round(float(points[i, 0]), 2),
            "y": round(float(points[i, 1]), 2),
            "expected_error_raw_px": round(float(expected[i]), 2),
            "probability_wrong": round(float(found.wrong[0, i]), 3),
        }
        if film.spacing_mm is not None:
            vertical, across = film.spacing_mm
            entry["expected_error_mm"] = round(float(expected[i]) * (vertical + across) / 2, 2)
        if np.isfinite(told[i]).all():
            entry["hint"] = True
        landmarks.append(entry)
    answer = {
        "width": width,
        "height": height,
        "landmarks": landmarks,
        "expected_error_raw_px": round(float(expected.mean()), 2),
        "cobb_degrees": {angle: round(float(a), 2) for angle, a in zip(ANGLES, angles, strict=True)},
        "end_vertebrae": {"upper": LEVELS[upper], "lower": LEVELS[lower]},
        "warnings": [
            f"the hint for {SCHEMA.names[i]} lies far from where the film shows it: no other point followed it"
            for i in np.flatnonzero(found.doubted[0])
        ],
    }
    if film.spacing_mm is not None:
        answer["spacing_mm"] = {
            "vertical": film.spacing_mm[0],
            "horizontal": film.spacing_mm[1],
            "source": film.spacing_source,
        }
    return answer

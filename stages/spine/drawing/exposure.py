"""What the X-ray machine and its console make of attenuation: a grey film with seams, grain and markers."""

from __future__ import annotations

import cv2
import numpy as np

from stages.spine.drawing.tissue import clouds


def expose(rng: np.random.Generator, attenuation: np.ndarray) -> np.ndarray:
    """The film (H, W) uint8 of an attenuation (H, W).

    A stitching seam, a window, a gamma that meets a drawn mean grey, grain, collimator blades and markers.
    """
    canvas: np.ndarray = cv2.GaussianBlur(attenuation, (0, 0), rng.uniform(0.4, 0.8))
    height, width = canvas.shape
    for size, depth in ((height / 6, 0.08), (height / 22, 0.03), (height / 80, 0.014)):
        canvas = canvas + clouds(rng, canvas.shape, size) * np.float32(depth)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    canvas = canvas + rng.normal(0, 0.10) * rows
    if rng.random() < 0.35:  # two exposures stitched: a step and a bright or dark seam
        where, step = rng.uniform(0.45, 0.72), rng.normal(0, 0.07)
        canvas = canvas + step / 2 * (1 + np.tanh((rows - where) * 200))
        canvas = canvas + rng.uniform(-0.05, 0.12) * np.exp(
            -(((rows - where) / rng.uniform(0.003, 0.012)) ** 2)
        )

    small = canvas[::8, ::8]
    low = np.percentile(small, rng.uniform(0.5, 9)) - rng.uniform(0, 0.12)
    high = np.percentile(small, 99.8) * rng.uniform(1.0, 1.18)
    level = ((canvas - low) / (high - low)).clip(0, 1)
    wanted = float(np.clip(rng.normal(0.39, 0.075), 0.2, 0.62))
    level **= np.float32(_gamma_for(level[::8, ::8], wanted))
    grain = cv2.GaussianBlur(rng.standard_normal(canvas.shape, np.float32), (0, 0), 0.7)
    level += grain * rng.uniform(0.004, 0.016) * (0.4 + level)
    film = (level * rng.uniform(225, 255)).clip(0, 255)
    if rng.random() < 0.3:  # collimator blades
        edge = round(width * rng.uniform(0.01, 0.05))
        blade = slice(0, edge) if rng.random() < 0.5 else slice(width - edge, width)
        film[:, blade] *= rng.uniform(0, 0.15)
    if rng.random() < 0.2:
        film[: round(height * rng.uniform(0.005, 0.02))] *= 0.05
    grey = film.astype(np.uint8)
    _burn_in(rng, grey)
    return grey


def _gamma_for(level: np.ndarray, mean: float) -> float:
    """The exponent in 0.5..2.2 that brings the mean of `level` (0..1) nearest to `mean`."""
    low, high = 0.5, 2.2
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if float(np.mean(level**middle)) > mean else (low, middle)
    return (low + high) / 2


def _burn_in(rng: np.random.Generator, film: np.ndarray) -> None:
    """Markers of lead and text that the console writes: mostly an L on the image's right."""
    height, width = film.shape

    def write(text: str, x: float, y: float, size: float) -> None:
        thickness = max(1, round(height * size / 90))
        cv2.putText(
            film, text, (round(width * x), round(height * y)), cv2.FONT_HERSHEY_SIMPLEX, height * size / 22,
            250, thickness, cv2.LINE_AA,
        )  # fmt: skip

    if rng.random() < 0.55:
        write("L", rng.uniform(0.88, 0.97), rng.uniform(0.1, 0.85), rng.uniform(0.025, 0.045))
    if rng.random() < 0.1:
        write("R", rng.uniform(0.02, 0.08), rng.uniform(0.5, 0.8), 0.025)
    if rng.random() < 0.12:
        write(str(rng.choice(["SUPINE", "STANDING", "PA", "BENDING"])), 0.01, rng.uniform(0.5, 0.95), 0.016)

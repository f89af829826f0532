"""A made-up film or file of poses that a model really answers: the input example of a logged model."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

REVISION = 1
"""of the picture"""
_LEAST_SIDE = 256
_GRAINS = (9, 7)
"""rows and columns of the coarse noise that the picture is made of: edges and plains of a film's scale"""
_STANDING = (
    (0, -63, 8), (3, -66, 6), (-3, -66, 6), (7, -64, 0), (-7, -64, 0), (18, -48, 0), (-18, -48, 0), (24, -22, 2),
    (-24, -22, 2), (26, 2, -4), (-26, 2, -4), (10, 0, 0), (-10, 0, 0), (11, 42, -2), (-11, 42, -2), (12, 82, 3),
    (-12, 82, 3),
)  # fmt: skip
"""17 joints in COCO's order, cm from the middle of the hips: x right, y down, z away from the camera"""
_FRAMES, _FPS = 12, 60.0


def made_up_film(height: int, width: int) -> np.ndarray:
    """(H, W) uint8 of the proportions of a model's input and at least 256 px; of nobody, drawn by rule."""
    from stages.core.data import geometry

    scale = max(1, -(-_LEAST_SIDE // min(height, width)))
    grains = np.random.default_rng(REVISION).integers(16, 240, _GRAINS).astype(np.uint8)
    return geometry.resize(grains, (height * scale, width * scale))


def input_example(film_size: dict[str, int] | None) -> pd.DataFrame:
    """One row with the content of a made-up file, marked as generated.

    Args:
        film_size: `height` and `width` of the films that the model reads; None for a model of poses.
    """
    import pandas as pd

    content = _poses() if film_size is None else _film(made_up_film(**film_size))
    return pd.DataFrame({"content": [content]})


def _film(pixels: np.ndarray) -> bytes:
    from PIL import Image

    from stages.core.data.decode import PHANTOM_MARK

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50, comment=PHANTOM_MARK)
    return buffer.getvalue()


def _poses() -> bytes:
    """Somebody who stands and sways, as `stages.pose.pose_file` reads it."""
    sway = 0.02 * np.sin(np.arange(_FRAMES) / 4)
    pose = np.array(_STANDING) / 100 + sway[:, None, None] * np.array([1.0, 0.0, 0.5])
    arrays: dict[str, Any] = {"pose": pose, "fps": _FPS, "phantom": True}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()

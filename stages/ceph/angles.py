"""SNA, SNB and ANB: where upper and lower jaw stand against the cranial base (Steiner 1953)."""

from __future__ import annotations

import numpy as np

from stages.ceph.schema import INDEX

ANGLES = ("SNA", "SNB", "ANB")


def angles(points: np.ndarray) -> dict[str, np.ndarray]:
    """Angles of films, in degrees.

    Args:
        points: (N, 19, 2) in a frame of square pixels, or mm; a stretched film has other angles.
    Returns:
        (N,) each: SNA and SNB, at nasion between sella and subspinale (A) or supramentale (B), in [0, 180], and
        ANB = SNA - SNB, negative where the lower jaw lies in front. NaN where one of the points is missing.
    """
    sella, nasion = points[:, INDEX["sella"]], points[:, INDEX["nasion"]]
    sna = _at(nasion, sella, points[:, INDEX["subspinale"]])
    snb = _at(nasion, sella, points[:, INDEX["supramentale"]])
    return {"SNA": sna, "SNB": snb, "ANB": sna - snb}


def _at(corner: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) unsigned angle at `corner` (N, 2), degrees."""
    u, v = one - corner, other - corner
    cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    return np.degrees(np.arctan2(np.abs(cross), (u * v).sum(1)))

"""Segment frames as a widely copied implementation builds them, for comparison only.

Its pelvis calls the direction from the posterior to the anterior spines `superior`; its thighs and shins point
down; and the left side gets its signs by negating whole frames, which makes mirror images of rotations.
`segments` holds what is used.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.pose.kinematics.segments import Segments, long_axis_frame, segments_of_markers, unit


def reference_segments(markers: Mapping[str, np.ndarray]) -> Segments:
    """Frames (N, 3, 3) of pelvis, thighs and shins from augmented markers, by name, as the reference has them."""
    frames = dict(segments_of_markers(markers).frames)
    left, right = markers["L.ASIS_study"], markers["r.ASIS_study"]
    posterior = (markers["L.PSIS_study"] + markers["r.PSIS_study"]) / 2
    across, called_superior = unit(right - left), (left + right) / 2 - posterior
    y = unit(called_superior - (called_superior * across).sum(-1, keepdims=True) * across)
    frames["pelvis"] = np.stack([np.cross(y, across), y, across], axis=-1)
    for name in ("femur", "tibia"):
        for side in ("right", "left"):
            frame = frames[f"{side}_{name}"]
            frames[f"{side}_{name}"] = long_axis_frame(-frame[..., 1], frame[..., 2])
    negated = {name: -frame for name, frame in frames.items() if name.startswith("left_")}
    return Segments(frames | negated)

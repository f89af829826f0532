"""The fifteen landmarks of a frontal chest film, L1 to L15 in the order of the label file.

What a point is follows from the labels themselves (see stages/chest/raw/structure.py), not from the
anatomical names that circulate with the data set. "left" means smaller x, so the patient's right lung.
"""

from __future__ import annotations

from itertools import pairwise

from stages.core.data.schema import LandmarkSchema

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where on the axis the perpendiculars stand."""
TOP, BOTTOM = 0, 1
AXIS_QUARTERS = (8, 9, 10)
LEFT = (11, 2, 4, 6, 13)
RIGHT = (12, 3, 5, 7, 14)
"""Contour points by level, top to bottom; the mirror partners in the schema are these two, side by side."""

CHEST = LandmarkSchema(
    lane="chest",
    names=tuple(f"L{i}" for i in range(1, 16)),
    pairs=tuple(zip(LEFT, RIGHT, strict=True)),
    groups={
        "axis": (TOP, *AXIS_QUARTERS, BOTTOM),
        "top ends": (LEFT[0], RIGHT[0]),
        "contour at 1/4": (LEFT[1], RIGHT[1]),
        "contour at 1/2": (LEFT[2], RIGHT[2]),
        "contour at 3/4": (LEFT[3], RIGHT[3]),
        "costophrenic": (LEFT[4], RIGHT[4]),
    },
    edges=(
        *pairwise((TOP, *AXIS_QUARTERS, BOTTOM)),
        *pairwise(LEFT),
        *pairwise(RIGHT),
    ),
)

CLASSES = {"COVID": "COVID", "Normal": "Normal", "Viral_Pneumonia": "Viral Pneumonia"}
"""Folder of a class -> what the names of its films begin with (folders have no spaces, file names do)."""

LABEL_SIZE = 299
"""px; the label file speaks of square films of this size, whatever the films are"""

REPORT_SIZE = 224
REPORT_FRAME = (REPORT_SIZE, REPORT_SIZE)
"""Published figures of this data set are pixels on a film of 224 x 224: `error_px224` everywhere."""

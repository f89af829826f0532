"""The landmarks of the spine lane: four corners of each vertebra, top to bottom.

0 TL ---- TR 1      "left" and "right" are those of the image;
  |  T1   |         the patient's left is the image's right
2 BL ---- BR 3
4 TL ---- TR 5
  |  T2   |  ...
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.data.schema import LandmarkSchema

CORNERS = ("TL", "TR", "BL", "BR")
LEVELS = (*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)))


def vertebral_schema(levels: Sequence[str]) -> LandmarkSchema:
    """The schema of a film on which these vertebrae are marked, each with CORNERS in that order."""
    corner = len(CORNERS)
    starts = range(0, corner * len(levels), corner)
    return LandmarkSchema(
        lane="spine",
        names=tuple(f"{level} {c}" for level in levels for c in CORNERS),
        pairs=tuple((i + row, i + row + 1) for i in starts for row in (0, 2)),
        groups={level: tuple(range(i, i + corner)) for level, i in zip(levels, starts, strict=True)},
        edges=tuple((i + a, i + b) for i in starts for a, b in ((0, 1), (1, 3), (3, 2), (2, 0))),
    )


SCHEMA = vertebral_schema(LEVELS)

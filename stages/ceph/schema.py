"""The nineteen landmarks of a lateral cephalometric film, in the order of the ISBI 2015 label files.

Films face right: x grows towards the face. A mirrored film is no lateral film of this lane, so no two points
change places on a mirror.
"""

from __future__ import annotations

from itertools import pairwise

from stages.core.data.schema import LandmarkSchema

NAMES = (
    "sella",
    "nasion",
    "orbitale",
    "porion",
    "subspinale",
    "supramentale",
    "pogonion",
    "menton",
    "gnathion",
    "gonion",
    "lower_incisor",
    "upper_incisor",
    "upper_lip",
    "lower_lip",
    "subnasale",
    "soft_pogonion",
    "pns",
    "ans",
    "articulare",
)
INDEX = {name: i for i, name in enumerate(NAMES)}


def indices(*names: str) -> tuple[int, ...]:
    """Places of landmarks in the schema."""
    return tuple(INDEX[name] for name in names)


_CHIN = ("supramentale", "pogonion", "gnathion", "menton")
_LINES = (
    ("sella", "nasion"),
    ("nasion", "subspinale"),
    ("nasion", "supramentale"),
    ("porion", "orbitale"),
    ("pns", "ans"),
    ("articulare", "gonion", "menton"),
    _CHIN,
    ("subnasale", "upper_lip", "lower_lip", "soft_pogonion"),
)

CEPH = LandmarkSchema(
    lane="ceph",
    names=NAMES,
    pairs=(),
    groups={
        "cranial base": indices("sella", "nasion", "porion", "orbitale"),
        "maxilla": indices("pns", "ans", "subspinale"),
        "teeth": indices("upper_incisor", "lower_incisor"),
        "chin": indices(*_CHIN),
        "jaw angle": indices("articulare", "gonion"),
        "soft tissue": indices("subnasale", "upper_lip", "lower_lip", "soft_pogonion"),
    },
    edges=tuple(edge for line in _LINES for edge in pairwise(indices(*line))),
)

LABELME_NAMES = {f"l{i}": name for i, name in enumerate(NAMES, start=1)}
"""How the labelme files of two-reader sets call the landmarks; a file may use the schema's names as well."""

ISBI_FRAME = (1935, 2400)
"""width, height in px of the frame that ISBI 2015 labels are in, whatever size the films are stored at"""
ISBI_SPACING_MM = 0.1
"""mm per px of that frame, for all of its films"""

DOWNWARD = (
    ("nasion", "orbitale", "ans", "upper_incisor", "supramentale", "pogonion"),
    ("subspinale", "lower_incisor", "soft_pogonion"),
    ("subnasale", "upper_lip", "lower_lip", "soft_pogonion"),
    ("sella", "pns"),
    ("articulare", "gonion", "menton"),
    ("lower_lip", "gnathion"),
)
FORWARD = (
    ("porion", "sella", "pns", "ans"),
    ("sella", "orbitale", "nasion"),
    ("articulare", "pns"),
    ("gonion", "menton", "soft_pogonion"),
    ("upper_incisor", "upper_lip"),
)
"""Landmarks that follow each other down the film, and towards the face. In 300 ISBI films each step of these
chains is 5 mm or more, so a step the wrong way means exchanged points rather than odd anatomy."""

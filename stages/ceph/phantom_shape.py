"""Made-up heads: the nineteen landmarks of a lateral film, in millimetres, from cephalometric measures.

The frame of a head has its origin at sella, x towards the face and y down, with the Frankfort horizontal level.
Points follow from each other as in a tracing: nasion from sella, the jaws from nasion by SNA and SNB, all else
from its neighbours. The measures are textbook norms of adults, not those of any labelled set.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.schema import INDEX, NAMES

MeanSd = tuple[float, Annotated[float, Field(ge=0)]]
"""mean and standard deviation; draws beyond two standard deviations are drawn in"""
_REACH = 2.0


class Measures(BaseModel):
    """Cephalometric measures of a population, mm and degrees.

    Attributes:
        sn: length sella to nasion.
        sn_tilt: angle of that line over the Frankfort horizontal.
        sna: angle sella, nasion, subspinale.
        anb: SNA less SNB, of heads with the mean SNA.
        anb_of_sna: by which ANB grows with a degree of SNA.
        na, nb: lengths nasion to subspinale and to supramentale.
        palate: length PNS to ANS.
        palate_tilt: angle of the palate, positive with ANS higher.
        ramus: length articulare to gonion.
        ramus_tilt: angle of that line off the vertical, positive with gonion forward.
        overjet, overbite: by which the upper incisor's tip stands before and reaches below the lower one's.
        size: factor on all lengths but SN.
        spread: standard deviation of a point about where its neighbours put it, along x and along y.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sn: MeanSd
    sn_tilt: MeanSd
    sna: MeanSd
    anb: MeanSd
    anb_of_sna: float
    na: MeanSd
    nb: MeanSd
    palate: MeanSd
    palate_tilt: MeanSd
    ramus: MeanSd
    ramus_tilt: MeanSd
    overjet: MeanSd
    overbite: MeanSd
    size: MeanSd
    spread: float = Field(ge=0)


_OFFSETS: dict[str, tuple[str, float, float]] = {
    "orbitale": ("nasion", -15.0, 31.0),
    "porion": ("sella", -24.0, 19.0),
    "articulare": ("sella", -17.0, 35.0),
    "ans": ("subspinale", 4.0, -8.0),
    "upper_incisor": ("subspinale", 5.5, 23.0),
    "pogonion": ("supramentale", 2.0, 16.0),
    "gnathion": ("pogonion", -2.5, 6.0),
    "menton": ("gnathion", -6.5, 2.5),
    "subnasale": ("subspinale", 14.0, -4.0),
    "upper_lip": ("upper_incisor", 13.0, -12.0),
    "lower_lip": ("lower_incisor", 13.0, 12.0),
    "soft_pogonion": ("pogonion", 12.0, 2.0),
}
"""point -> the neighbour that it follows from, and where it lies from there, mm"""
_STIFF = {"gnathion": 0.35, "menton": 0.5, "ans": 0.6, "pogonion": 0.7}
"""points that move less against their neighbour than others, by this factor"""


def sample_head(measures: Measures, rng: np.random.Generator) -> np.ndarray:
    """Landmarks (19, 2) of one head, mm in the frame of the head."""

    def draw(measure: MeanSd) -> float:
        mean, sd = measure
        return mean + sd * float(np.clip(rng.standard_normal(), -_REACH, _REACH))

    size = draw(measures.size)
    nasion = draw(measures.sn) * _direction(-draw(measures.sn_tilt))
    sna = draw(measures.sna)
    snb = sna - draw(measures.anb) - measures.anb_of_sna * (sna - measures.sna[0])
    to_sella = np.degrees(np.arctan2(-nasion[1], -nasion[0]))
    points = {"sella": np.zeros(2), "nasion": nasion}
    points["subspinale"] = nasion + size * draw(measures.na) * _direction(to_sella - sna)
    points["supramentale"] = nasion + size * draw(measures.nb) * _direction(to_sella - snb)

    def follow(name: str) -> None:
        neighbour, x, y = _OFFSETS[name]
        away = measures.spread * _STIFF.get(name, 1.0) * np.clip(rng.standard_normal(2), -_REACH, _REACH)
        points[name] = points[neighbour] + size * (np.array([x, y]) + away)

    for name in ("orbitale", "porion", "articulare", "ans", "upper_incisor"):
        follow(name)
    bite = np.array([draw(measures.overjet), draw(measures.overbite)])
    points["lower_incisor"] = points["upper_incisor"] - size * bite
    for name in ("pogonion", "gnathion", "menton", "subnasale", "upper_lip", "lower_lip", "soft_pogonion"):
        follow(name)
    points["pns"] = points["ans"] - size * draw(measures.palate) * _direction(-draw(measures.palate_tilt))
    points["gonion"] = points["articulare"] + size * draw(measures.ramus) * _direction(
        90 - draw(measures.ramus_tilt)
    )
    return np.array([points[name] for name in NAMES])


def _direction(degrees: float) -> np.ndarray:
    """Unit vector; 0 points to the face, 90 down."""
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle)])


READER_SD_MM = {
    "sella": 0.4,
    "nasion": 0.6,
    "orbitale": 1.3,
    "porion": 1.2,
    "subspinale": 0.8,
    "supramentale": 0.8,
    "pogonion": 0.6,
    "menton": 0.5,
    "gnathion": 0.5,
    "gonion": 1.5,
    "lower_incisor": 0.4,
    "upper_incisor": 0.4,
    "upper_lip": 0.6,
    "lower_lip": 0.6,
    "subnasale": 0.6,
    "soft_pogonion": 0.9,
    "pns": 0.8,
    "ans": 0.9,
    "articulare": 0.8,
}
"""standard deviation of one reader about the truth, along x and along y: small at tips, large on blunt curves"""


def read_points(points_mm: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Points (..., 19, 2) mm as a reader sets them whose spread is `noise` times READER_SD_MM."""
    sd = np.array([READER_SD_MM[name] for name in NAMES])[:, None]
    return points_mm + noise * sd * rng.standard_normal(points_mm.shape)


def shift_convention(points_mm: np.ndarray, convention: dict[str, tuple[float, float]]) -> np.ndarray:
    """Points (19, 2) mm in the frame of the head, some moved (x, y) mm as another school defines them."""
    shifted = points_mm.copy()
    for name, move in convention.items():
        shifted[INDEX[name]] += move
    return shifted

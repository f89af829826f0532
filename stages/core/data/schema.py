"""What the points of a lane are: names, order, mirror partners, groups and skeleton, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class LandmarkSchema:
    """The landmarks of one lane.

    Attributes:
        lane: `spine`, `chest`, `pose`, ...
        names: one name a point, in the order of the label files.
        pairs: (left, right) indices that change places on a mirror; a point in no pair lies on the midline.
        groups: named sets of points for reports, for example one vertebra each.
        edges: lines to draw between points.
    """

    lane: str
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        paired = [i for pair in self.pairs for i in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"{self.lane}: a point has two mirror partners in {self.pairs}")
        used = (
            paired + [i for group in self.groups.values() for i in group] + [i for e in self.edges for i in e]
        )
        if wrong := sorted({i for i in used if not 0 <= i < len(self.names)}):
            raise ValueError(f"{self.lane}: no points with indices {wrong}; there are {len(self.names)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{self.lane}: point names repeat")

    @property
    def n_points(self) -> int:
        return len(self.names)

    @property
    def swap(self) -> np.ndarray:
        """Permutation (K,) that takes the points of a mirrored film back into the schema's order."""
        permutation = np.arange(self.n_points)
        for left, right in self.pairs:
            permutation[left], permutation[right] = right, left
        return permutation

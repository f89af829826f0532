"""What the pose page is drawn from: the evaluation's tables, its methods and the packed set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.report.evidence import Sampling, list_methods, read_csv
from stages.core.report.page import Method
from stages.pose.body.skeleton import JOINTS
from stages.pose.simulation.packed import Packed

MODEL, INPUT = "refiner", "identity"
DEPTH, UNIT = "sim_mean_abs_dz_cm", "cm"
TITLES = {
    MODEL: "depth refiner",
    INPUT: "uncorrected estimate",
    "flat": "flat depth",
    "bias": "mean bias removed",
    "ridge": "ridge on one frame",
    "ridge_time": "ridge over time",
}


def in_words(joint: str) -> str:
    """`left wrist` for `left_wrist`."""
    return joint.replace("_", " ")


@dataclass(frozen=True)
class Evidence:
    """What the page is drawn from.

    Attributes:
        views: per_sequence.parquet, of all roles and methods.
        joints: per_joint.parquet of the test role.
        tested: the refiner's test views.
    """

    packed: Packed
    views: pd.DataFrame
    joints: pd.DataFrame
    tested: pd.DataFrame
    methods: list[Method]
    sampling: Sampling

    @property
    def phantom(self) -> bool:
        return self.packed.manifest["name"] == "phantom"

    @classmethod
    def read(cls, packed: Path, evaluation: Path, sampling: Sampling) -> Evidence:
        views = tables.read_table(evaluation / "per_sequence.parquet")
        joints = tables.read_table(evaluation / "per_joint.parquet")
        comparison = read_csv(evaluation / "comparison.csv")
        return cls(
            packed=Packed.open(packed),
            views=views,
            joints=joints[joints["role"] == "test"],
            tested=views[(views["method"] == MODEL) & (views["role"] == "test")],
            methods=list_methods(views, comparison, (MODEL,), TITLES, DEPTH, sampling),
            sampling=sampling,
        )

    @property
    def cameras(self) -> list[str]:
        return sorted(self.tested["cam"].unique())

    def of(self, method: str) -> pd.DataFrame:
        """The test views of one method."""
        return self.views[(self.views["method"] == method) & (self.views["role"] == "test")]

    def by_joint(self, method: str) -> np.ndarray:
        """(17,) mean |depth error| in cm over all frames of the test role."""
        part = self.joints[self.joints["method"] == method]
        return np.array([_weighted(part[part["joint"] == joint]) for joint in JOINTS])


def _weighted(part: pd.DataFrame) -> float:
    return float(np.average(part[DEPTH], weights=part["n_frames"])) if len(part) else float("nan")

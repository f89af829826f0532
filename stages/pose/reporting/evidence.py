"""What the pose page is drawn from: the evaluation's tables, its methods and the packed set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.evaluate.statistics import compare
from stages.core.report.evidence import Sampling, list_methods, read_csv
from stages.core.report.page import Method
from stages.core.report.wording import Estimate
from stages.pose.body.skeleton import JOINTS
from stages.pose.simulation.packed import Packed

MODEL, INPUT = "refiner", "identity"
DESCRIBED = ("depth", "depth_large", "joint", "main")
"""Methods that are the refiners of the system description, see `described`."""
DEPTH, UNIT = "sim_mean_abs_dz_cm", "cm"
TITLES = {
    MODEL: "depth refiner",
    "depth": "described: depth",
    "depth_large": "described: depth, with limbs",
    "joint": "described: joint angles",
    "main": "described: main",
    INPUT: "uncorrected estimate",
    "smooth": "smoothing network",
    "flat": "flat depth",
    "bias": "mean bias removed",
    "ridge": "ridge on one frame",
    "ridge_time": "ridge over time",
}


def in_words(name: str) -> str:
    """`left wrist` for `left_wrist`."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class Evidence:
    """What the page is drawn from.

    Attributes:
        views: per_sequence.parquet, of all roles and methods.
        joints, angles, parts, constants: per_joint, per_angle, per_part and constants.parquet of the test role.
        tested: the refiner's test views.
    """

    packed: Packed
    views: pd.DataFrame
    joints: pd.DataFrame
    angles: pd.DataFrame
    parts: pd.DataFrame
    constants: pd.DataFrame
    tested: pd.DataFrame
    methods: list[Method]
    sampling: Sampling

    @property
    def phantom(self) -> bool:
        return self.packed.manifest["name"] == "phantom"

    @classmethod
    def read(cls, packed: Path, evaluation: Path, sampling: Sampling) -> Evidence:
        views = tables.read_table(evaluation / "per_sequence.parquet")
        joints, angles, parts, constants = (
            tables.read_table(evaluation / f"{name}.parquet").query("role == 'test'")
            for name in ("per_joint", "per_angle", "per_part", "constants")
        )
        comparison = read_csv(evaluation / "comparison.csv")
        return cls(
            packed=Packed.open(packed),
            views=views,
            joints=joints,
            angles=angles,
            parts=parts,
            constants=constants,
            tested=views[(views["method"] == MODEL) & (views["role"] == "test")],
            methods=list_methods(views, comparison, (MODEL, *DESCRIBED), TITLES, DEPTH, sampling),
            sampling=sampling,
        )

    @property
    def cameras(self) -> list[str]:
        return sorted(self.tested["cam"].unique())

    def of(self, method: str) -> pd.DataFrame:
        """The test views of one method."""
        return self.views[(self.views["method"] == method) & (self.views["role"] == "test")]

    @property
    def of_both(self) -> pd.DataFrame:
        """The test views of the estimate and of the refiner."""
        return self.views[self.views["method"].isin([INPUT, MODEL]) & (self.views["role"] == "test")]

    def change(self, cases: pd.DataFrame, column: str) -> tuple[Estimate, str]:
        """What the correction changes, paired by view: mean of after minus before, and the verdict on it.

        Args:
            cases: rows of both methods, one a view and method.
        """
        given, refined = (
            cases[cases["method"] == method].set_index("id").sort_index() for method in (INPUT, MODEL)
        )
        found = compare(
            refined[column],
            given[column].reindex(refined.index),
            refined["group"],
            self.sampling.settings,
            self.sampling.seed,
        )
        bounds = (np.nan, np.nan) if found.low is None or found.high is None else (found.low, found.high)
        return Estimate(found.mean_difference, *bounds, self.sampling.settings.level), found.verdict

    def by_joint(self, method: str) -> np.ndarray:
        """(17,) mean |depth error| in cm over all frames of the test role."""
        part = self.joints[self.joints["method"] == method]
        return np.array([_weighted(part[part["joint"] == joint]) for joint in JOINTS])


def _weighted(part: pd.DataFrame) -> float:
    return float(np.average(part[DEPTH], weights=part["n_frames"])) if len(part) else float("nan")

"""Stage pose-evaluate: the refiner beside the floors, on dancers that it never saw. Errors are simulated.

    per_sequence.parquet  one row a view (sequence and camera) and method
    per_joint.parquet     one row a role, method, camera and joint
    comparison.csv        the refiner against each floor, paired by view, intervals over dancers
    examples.parquet      a few poses to draw: label, estimate and correction

Errors are means over a view's frames; figures of a role are means over its views.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare_methods, write_comparison
from stages.core.model.prediction import provenance
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.body import measures
from stages.pose.body.skeleton import JOINTS, N_JOINTS
from stages.pose.capture.checks import Flag
from stages.pose.capture.conversion import Settings, convert
from stages.pose.capture.store import SequenceStore
from stages.pose.model.floors import FLOORS, Floors
from stages.pose.model.inference import Refiner
from stages.pose.simulation.estimator import Estimator
from stages.pose.simulation.packed import Packed, PackedRole
from stages.pose.simulation.packing import pack
from stages.pose.simulation.roles import all_test

METHOD = "refiner"
JUDGED_ROLES = ("val", "gate", "test")
MEASURES = {
    "sim_mean_abs_dz_cm": "cm, camera frame, root-relative, against the label",
    "sim_mpjpe_mm": "mm, root-relative",
    "sim_pa_mpjpe_mm": "mm, after the best similarity of each frame",
    "sim_limb_angle_deg": "degrees between true and given directions of the limbs",
    "sim_acceleration_error_mm": "mm per squared frame interval",
    "sim_bone_variation_percent": "percent, coefficient of variation in the view",
    "sim_expected_abs_dz_cm": "cm, what the method itself expects; NaN where it does not say",
    "sim_inverted_abs_dz_cm": "cm, frames with the head low alone; NaN where there are none",
}
SEQUENCE_SCHEMA = pa.schema(
    [
        *(
            tables.column(name, pa.string())
            for name in ("id", "clip", "sequence", "cam", "genre", "group", "role", "method")
        ),
        tables.column("n_frames", pa.int32()),
        *(tables.column(name, pa.float32(), unit) for name, unit in MEASURES.items()),
    ]
)
JOINT_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("role", "method", "cam", "joint")),
        tables.column("n_frames", pa.int64()),
        tables.column("sim_mean_abs_dz_cm", pa.float32(), "cm"),
        tables.column("sim_mpjpe_mm", pa.float32(), "mm"),
    ]
)
EXAMPLE_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("case", "id", "sequence", "cam")),
        tables.column("frame", pa.int32()),
        *(
            tables.column(name, pa.list_(pa.float32(), 3 * N_JOINTS), "m, camera frame, root-relative")
            for name in ("label", "estimate", "refined")
        ),
    ]
)

Predict = Callable[[PackedRole, np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""(role, rows) -> poses (B, 17, 3) and, where the method says so, expected |dz| (B, 17); metres"""


class Params(StageParams):
    """`examples`: so many best, median and worst views go into examples.parquet."""

    section: ClassVar[str] = "pose.evaluate"
    seed: int
    threads: int
    bootstrap: Bootstrap
    examples: int = Field(ge=1)


def run(
    params: Params, packed: Path, floors: Path, model: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Judge the refiner and every floor on every view of the roles val, gate and test.

    Returns:
        Metrics of the refiner on the test views; those of val and gate with the role's name before them, and
        those of the floors with the floor's.
    """
    data = Packed.open(packed)
    refiner = Refiner.load(model, params.threads)
    if refiner.card.split_sha256 != data.manifest["split_sha256"]:
        raise StageError(
            f"{model} was trained on other roles than {packed} has: run `dvc repro` to train it again"
        )
    methods = {METHOD: _refine(refiner, data), **_floor_methods(Floors.load(floors))}
    roles = [role for role in JUDGED_ROLES if role in data.roles()]
    tallies = [judge(data.role(role), methods, observe.progress) for role in roles]
    per_view = pd.concat([views for views, _ in tallies], ignore_index=True)
    per_joint = pd.concat([joints for _, joints in tallies], ignore_index=True)
    write_tables(output, per_view, per_joint)
    tables.write_table(
        output / "examples.parquet",
        pick_examples(data.role("test"), per_view, methods[METHOD], params.examples),
        EXAMPLE_SCHEMA,
    )
    by_patient = per_view.rename(columns={"group": "patient"})
    pairs = [(METHOD, floor) for floor in FLOORS]
    comparisons = [
        compare_methods(by_patient, pairs, error, roles, params.bootstrap, params.seed)
        for error in ("sim_mean_abs_dz_cm", "sim_mpjpe_mm")
    ]
    write_comparison(output / "comparison.csv", pd.concat(comparisons, ignore_index=True))
    return summarise(per_view, params)


def _refine(refiner: Refiner, data: Packed) -> Predict:
    return lambda role, rows: refiner.refine_rows(role, rows, data.fps, data.frame_step)


def _floor_methods(floors: Floors) -> dict[str, Predict]:
    def method(name: str) -> Predict:
        return lambda role, rows: (floors.predict(name, role, rows), None)

    return {name: method(name) for name in FLOORS}


def judge(
    role: PackedRole, methods: dict[str, Predict], progress: Callable[[int, int, str], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of per_sequence.parquet and per_joint.parquet of one role, view by view."""
    rows: list[dict[str, Any]] = []
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    for done, view in enumerate(role.views.to_dict("records"), start=1):
        where = np.arange(view["first_row"], view["first_row"] + view["n_rows"])
        truth = np.asarray(role["gt_pose"][where], np.float64)
        frames, flags = np.asarray(role["frame"][where]), np.asarray(role["flags"][where])
        facts = {name: view[name] for name in ("id", "clip", "sequence", "cam", "genre", "group", "role")}
        for method, predict in methods.items():
            pose, expected = predict(role, where)
            depth = measures.abs_dz_cm(pose, truth)
            distance = measures.joint_errors_mm(pose, truth)
            found = {
                "n_frames": len(where),
                **_view_measures(pose, truth, depth, distance, expected, frames, flags),
            }
            rows.append({**facts, "method": method, **found})
            tally = sums.setdefault((view["role"], method, view["cam"]), np.zeros((3, N_JOINTS)))
            tally += [np.full(N_JOINTS, len(where)), depth.sum(0), distance.sum(0)]
        progress(done, len(role.views), f"views of {role.role}")
    joints = [
        (*key, joint, int(n), dz / n, mm / n)
        for key, (count, depths, distances) in sorted(sums.items())
        for joint, n, dz, mm in zip(JOINTS, count, depths, distances, strict=True)
    ]
    return pd.DataFrame(rows), pd.DataFrame(joints, columns=JOINT_SCHEMA.names)


def _view_measures(
    pose: np.ndarray,
    truth: np.ndarray,
    depth: np.ndarray,
    distance: np.ndarray,
    expected: np.ndarray | None,
    frames: np.ndarray,
    flags: np.ndarray,
) -> dict[str, float]:
    inverted = (flags & Flag.INVERTED) > 0
    pose = np.asarray(pose, np.float64)
    return {
        "sim_mean_abs_dz_cm": depth.mean(),
        "sim_mpjpe_mm": distance.mean(),
        "sim_pa_mpjpe_mm": measures.pa_mpjpe_mm(pose, truth).mean(),
        "sim_limb_angle_deg": measures.limb_angles_deg(pose, truth).mean(),
        "sim_acceleration_error_mm": _mean(measures.acceleration_error_mm(pose, truth, frames)),
        "sim_bone_variation_percent": measures.bone_variation_percent(pose),
        "sim_expected_abs_dz_cm": np.nan if expected is None else 100 * expected.mean(),
        "sim_inverted_abs_dz_cm": _mean(depth[inverted]),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def write_tables(folder: Path, per_view: pd.DataFrame, per_joint: pd.DataFrame) -> None:
    """Write per_sequence.parquet and per_joint.parquet in a fixed order."""
    ordered = per_view.sort_values(["method", "role", "id"])
    tables.write_table(folder / "per_sequence.parquet", ordered, SEQUENCE_SCHEMA)
    tables.write_table(folder / "per_joint.parquet", per_joint, JOINT_SCHEMA)


def pick_examples(role: PackedRole, per_view: pd.DataFrame, refine: Predict, n: int) -> pd.DataFrame:
    """The middle frames of the `n` best, median and worst views of a role, by the refiner's depth error."""
    own = per_view[(per_view["role"] == role.role) & (per_view["method"] == METHOD)]
    order = own.sort_values(["sim_mean_abs_dz_cm", "id"])["id"].tolist()
    middle = max(0, len(order) // 2 - n // 2)
    cases = {"best": order[:n], "median": order[middle : middle + n], "worst": order[::-1][:n]}
    views = role.views.set_index("id")
    rows = []
    for case, ids in cases.items():
        for identifier in ids:
            view = views.loc[identifier]
            row = np.array([view["first_row"] + view["n_rows"] // 2])
            rows.append(
                {
                    "case": case,
                    "id": identifier,
                    "sequence": view["sequence"],
                    "cam": view["cam"],
                    "frame": int(role["frame"][row][0]),
                    "label": role["gt_pose"][row][0],
                    "estimate": role["sim_pose"][row][0],
                    "refined": refine(role, row)[0][0],
                }
            )
    return pd.DataFrame(rows)


def summarise(per_view: pd.DataFrame, params: Params) -> dict[str, float]:
    """Flat metrics; see `run`."""
    metrics: dict[str, float] = {}
    for (role, method), part in per_view.groupby(["role", "method"]):
        prefix = ("" if role == "test" else f"{role}_") + ("" if method == METHOD else f"{method}_")
        metrics |= {
            f"{prefix}{name}": float(part[name].mean()) for name in MEASURES if part[name].notna().any()
        }
    test = per_view[(per_view["role"] == "test") & (per_view["method"] == METHOD)]
    metrics |= {
        "n_views": len(test),
        "n_groups": test["group"].nunique(),
        "n_frames": int(test["n_frames"].sum()),
    }
    interval = bootstrap_mean(test["sim_mean_abs_dz_cm"], test["group"], params.bootstrap, params.seed)
    if interval.low is not None and interval.high is not None:
        metrics |= {"sim_mean_abs_dz_cm_low": interval.low, "sim_mean_abs_dz_cm_high": interval.high}
    for cam, part in test.groupby("cam"):
        metrics[f"sim_mean_abs_dz_cm_{cam}"] = float(part["sim_mean_abs_dz_cm"].mean())
    return metrics


def evaluate_folder(model: Path, data: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Judge a model on any folder in the layout of AIST++'s annotations, every sequence of it.

    The folder holds no pictures' estimates, so the estimator is simulated as it was for training, with the
    same seed; figures say `sim_`. Sequences that cannot be used are listed, not fatal.

    Args:
        model: folder of pose-train.
        data: annotation folder; split files and test lists in it are not looked at.
        scratch: an empty folder for the converted sequences.
        threads: native threads.
    Returns:
        n_frames (label frames judged), n_samples (frames times cameras), every measure of the refiner and,
        with `_input` at the end, of the estimate that it was given; seconds_per_frame, `quarantined`, and
        where the model comes from.
    """
    refiner = Refiner.load(model, threads)
    inherited = refiner.card.params
    settings = Settings(
        max_gap=inherited["max_gap"],
        frame_step=inherited["frame_step"],
        rows_per_group=8192,
        rows_per_part=1 << 20,
    )
    quiet = Observer.quiet(scratch / "work")
    convert(data, scratch / "sequences", settings, 1, quiet.scratch, quiet.progress, use_splits=False)
    store = SequenceStore.open(scratch / "sequences")
    roles = all_test(store.sequences)
    pack(store, roles, Estimator(**inherited["estimator"]), 1, 1, scratch / "packed", quiet.progress)
    packed = Packed.open(scratch / "packed")
    role = packed.role("test")
    started = time.monotonic()
    refined, _ = judge(role, {METHOD: _refine(refiner, packed)}, quiet.progress)
    seconds = time.monotonic() - started
    given, _ = judge(role, {"input": lambda r, rows: (r["sim_pose"][rows], None)}, quiet.progress)
    with (scratch / "sequences" / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        quarantined = list(csv.DictReader(file))
    return {
        "n_sequences": len(store.sequences),
        "n_frames": len(set(zip(role["seq"].tolist(), role["frame"].tolist(), strict=True))),
        "n_samples": len(role),
        **_folder_means(refined, ""),
        **_folder_means(given, "_input"),
        "seconds_per_frame": seconds / len(role),
        "n_quarantined": len(quarantined),
        "quarantined": quarantined,
        "estimate": "simulated: no picture was looked at",
        "model": provenance(refiner.card),
    }


def _folder_means(per_view: pd.DataFrame, suffix: str) -> dict[str, float]:
    return {
        f"{name}{suffix}": float(per_view[name].mean()) for name in MEASURES if per_view[name].notna().any()
    }


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

"""Stage pose-evaluate: the refiner beside the floors, on dancers that it never saw. Errors are simulated.

    per_sequence.parquet  one row a view (sequence and camera) and method
    per_joint.parquet     one row a role, method, camera and joint
    per_angle.parquet     one row a view, method and observable joint angle
    per_part.parquet      one row a view, method and bin of azimuth, visibility or posture
    constants.parquet     one row a view and constant: what knowing no pose tells of where the camera stands
    comparison.csv        the refiner against each floor, paired by view, intervals over dancers
    examples.parquet      a few poses to draw: label, estimate and correction

Errors are means over a view's frames; figures of a role are means over its views.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare_methods, write_comparison
from stages.core.model.prediction import provenance
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.capture.conversion import Settings, convert
from stages.pose.capture.sources import KINDS
from stages.pose.capture.store import SequenceStore
from stages.pose.evaluation.constants import CONSTANTS, constant_errors
from stages.pose.evaluation.judge import Predict, judge
from stages.pose.evaluation.schemas import CONSTANT_SCHEMA, EXAMPLE_SCHEMA, MEASURES, VIEW_ANGLES, Judged
from stages.pose.model.architecture import FORMS
from stages.pose.model.floors import FLOORS, Floors
from stages.pose.model.inference import Refiner
from stages.pose.simulation.estimator import Estimator
from stages.pose.simulation.packed import Packed, PackedRole
from stages.pose.simulation.packing import pack
from stages.pose.simulation.roles import all_test
from stages.pose.smoothing.inference import Smoother

METHOD, SMOOTHED = "refiner", "smooth"
JUDGED_ROLES = ("val", "gate", "test")


class Params(StageParams):
    """`examples`: so many best, median and worst views go into examples.parquet."""

    section: ClassVar[str] = "pose.evaluate"
    seed: int
    threads: int
    bootstrap: Bootstrap
    examples: int = Field(ge=1)


def run(
    params: Params,
    packed: Path,
    floors: Path,
    model: Path,
    output: Path,
    observe: Observer,
    smooth: Path | None = None,
    described: Path | None = None,
) -> dict[str, float]:
    """Judge the refiner and every floor on every view of the roles val, gate and test.

    Args:
        smooth: model folder of pose-smooth, one floor more.
        described: folder of pose-described; each form in it is a method of that name, on
            the test views alone: nothing is chosen by them.
    Returns:
        Metrics of the refiner on the test views; those of val and gate with the role's name before them, and
        those of the floors (and of the constants, for view angles) with the floor's.
    """
    data = Packed.open(packed)
    refiner = Refiner.load(model, params.threads)
    smoothers = {} if smooth is None else {SMOOTHED: Smoother.load(smooth, params.threads)}
    others = {} if described is None else open_described(described, params.threads)
    cards = [(model, refiner.card), *((smooth, s.card) for s in smoothers.values())]
    for folder, card in (*cards, *((described, other.card) for other in others.values())):
        if card.split_sha256 != data.manifest["split_sha256"]:
            raise StageError(
                f"{folder} was trained on other roles than {packed} has: run `dvc repro` to train it again"
            )
    methods = {METHOD: _refine(refiner, data), **_floor_methods(Floors.load(floors))}
    methods |= {name: _smooth(smoother, data.frame_step) for name, smoother in smoothers.items()}
    roles = [role for role in JUDGED_ROLES if role in data.roles()]
    shown = {form: _refine(other, data) for form, other in others.items()}
    tried = [(role, methods) for role in roles] + ([("test", shown)] if shown else [])
    judged = Judged.join(judge(data.role(role), chosen, observe.progress) for role, chosen in tried)
    judged.write(output)
    constants = pd.concat([constant_errors(data.role("train"), data.role(role)) for role in roles])
    tables.write_table(output / "constants.parquet", constants, CONSTANT_SCHEMA)
    tables.write_table(
        output / "examples.parquet",
        pick_examples(data.role("test"), judged.views, methods[METHOD], params.examples),
        EXAMPLE_SCHEMA,
    )
    by_patient = judged.views.rename(columns={"group": "patient"})
    comparisons = [
        compare_methods(
            by_patient,
            [(METHOD, other) for other in rivals if other != METHOD],
            error,
            compared,
            params.bootstrap,
            params.seed,
        )
        for error in ("sim_mean_abs_dz_cm", "sim_mpjpe_mm")
        for rivals, compared in ((methods, roles), (shown, ["test"]))
        if rivals
    ]
    write_comparison(output / "comparison.csv", pd.concat(comparisons, ignore_index=True))
    return summarise(judged.views, constants, params)


def open_described(folder: Path, threads: int) -> dict[str, Refiner]:
    """The described refiners by form, in the order of `FORMS`.

    Raises:
        StageError: there are none, or one does not lie under the name of its form.
    """
    found = {form: folder / form for form in FORMS if (folder / form).is_dir()}
    if not found:
        raise StageError(f"{folder} holds none of {', '.join(FORMS)}: run `dvc repro pose-described`")
    refiners = {str(form): Refiner.load(path, threads) for form, path in found.items()}
    if strangers := [f"{folder / form} ({r.form})" for form, r in refiners.items() if r.form != form]:
        raise StageError(f"refiners of another form than their folders say: {', '.join(strangers)}")
    return refiners


def _refine(refiner: Refiner, data: Packed) -> Predict:
    return lambda role, rows: refiner.refine_rows(role, rows, data.fps, data.frame_step)


def _floor_methods(floors: Floors) -> dict[str, Predict]:
    def method(name: str) -> Predict:
        return lambda role, rows: (floors.predict(name, role, rows), None)

    return {name: method(name) for name in FLOORS}


def _smooth(smoother: Smoother, frame_step: int) -> Predict:
    return lambda role, rows: (smoother.predict(role, rows, frame_step), None)


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


def summarise(per_view: pd.DataFrame, constants: pd.DataFrame, params: Params) -> dict[str, float]:
    """Flat metrics; see `run`."""
    metrics: dict[str, float] = {}
    for (role, method), part in per_view.groupby(["role", "method"]):
        prefix = ("" if role == "test" else f"{role}_") + ("" if method == METHOD else f"{method}_")
        metrics |= _means(part, prefix)
    on_test = constants[constants["role"] == "test"]
    for name in CONSTANTS:
        part = on_test[on_test["constant"] == name]
        metrics |= {f"constant_{name}_{angle}": float(part[angle].mean()) for angle in VIEW_ANGLES}
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
    Raises:
        StageError: the card lacks what the simulated estimator needs.
    """
    refiner = Refiner.load(model, threads)
    inherited = refiner.card.params
    if lacking := sorted({"acclaim_rate", "estimator", "frame_step", "max_gap"} - inherited.keys()):
        raise StageError(
            f"the card of {model} does not say how its training data was made ({', '.join(lacking)}): "
            "it was written by another version of pose-train; train the model again"
        )
    settings = Settings(
        sources=KINDS,
        acclaim_rate=inherited["acclaim_rate"],
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
    refined = judge(role, {METHOD: _refine(refiner, packed)}, quiet.progress)
    seconds = time.monotonic() - started
    given = judge(role, {"input": lambda r, rows: (r["sim_pose"][rows], None)}, quiet.progress)
    with (scratch / "sequences" / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        quarantined = list(csv.DictReader(file))
    return {
        "n_sequences": len(store.sequences),
        "n_frames": len(set(zip(role["seq"].tolist(), role["frame"].tolist(), strict=True))),
        "n_samples": len(role),
        **_means(refined.views),
        **_means(given.views, suffix="_input"),
        "seconds_per_frame": seconds / len(role),
        "n_quarantined": len(quarantined),
        "quarantined": quarantined,
        "estimate": "simulated: no picture was looked at",
        "model": provenance(refiner.card),
    }


def _means(per_view: pd.DataFrame, prefix: str = "", suffix: str = "") -> dict[str, float]:
    """Means over views of the measures that are known."""
    known = [name for name in MEASURES if per_view[name].notna().any()]
    return {f"{prefix}{name}{suffix}": float(per_view[name].mean()) for name in known}


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

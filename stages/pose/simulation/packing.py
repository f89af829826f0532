"""From the sequence store to one array a column and role, with the simulated estimator's input.

Each view (a clip seen by one camera) is simulated over all its frames, so that errors hang together in time;
frames without a usable label are then left out. What the simulation came to is measured against the ranges
found on a real estimator; every such figure is called `sim_`. Training views are simulated several times, some
of them before virtual cameras.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.data import tables
from stages.core.data.split import ROLES
from stages.pose.body import measures
from stages.pose.body.frames import root_relative, view_direction, world_to_camera
from stages.pose.body.skeleton import HIPS, mid
from stages.pose.capture.checks import UNUSABLE, Flag
from stages.pose.capture.store import Columns, SequenceStore
from stages.pose.simulation.estimator import Estimator, estimate_view, number
from stages.pose.simulation.packed import COLUMNS, VIEW_SCHEMA
from stages.pose.simulation.roles import CLIP_SCHEMA, RoleTable, role_counts
from stages.pose.simulation.virtual import Virtual, virtual_view

ACCEPTED = {
    "sim_mean_abs_dz_cm": (10.0, 12.5),
    "sim_sd_dz_cm": (11.0, 15.0),
    "sim_limb_angle_deg": (16.0, 22.0),
    "sim_pa_mpjpe_mm": (85.0, 110.0),
    "sim_share_removed_by_rotation": (0.25, 0.42),
}
"""What a real estimator's errors came to (MediaPipe on calibrated multi-camera video)."""


LABELS = (
    *("dancer", "cam", "frame", "gt_cam_xyz", "gt_root_cam", "view_dir", "distance_m", "flags"),
    *("det_uv_px", "det_confidence"),
)
"""Columns of the store that are packed or that the simulation needs."""


def pack(
    store: SequenceStore,
    roles: RoleTable,
    estimator: Estimator,
    train_draws: int,
    measured_rows: int,
    output: Path,
    progress: Callable[[int, int, str], None],
    virtual: Virtual | None = None,
) -> dict[str, float]:
    """Write a packed set (see `packed`) and return its counts and the figures of the simulation.

    Args:
        train_draws: how often each training view is simulated, with errors drawn anew.
        measured_rows: about how many rows the simulation's figures are taken from.
        virtual: further draws of each training view, before virtual cameras.
    """
    views = _plan_views(store, roles, train_draws + (0 if virtual is None else virtual.draws))
    arrays = _create_arrays(output, views)
    kept = int(views.loc[views["draw"] == 0, "n_rows"].sum())
    meter = SimulationMeter(stride=max(1, kept // measured_rows))
    look = Look(store, estimator, train_draws, virtual)
    for done in _fill(store, roles, views, look, arrays, meter):
        progress(done, len(views), "views")
    for columns in arrays.values():
        for array in columns.values():
            array.flush()
    tables.write_table(output / "views.parquet", views.drop(columns="seq"), VIEW_SCHEMA)
    tables.write_table(output / "clips.parquet", roles.clips, CLIP_SCHEMA)
    _write_manifest(output / "manifest.json", store, roles, estimator)
    measured = meter.metrics()
    return {
        **role_counts(roles.clips),
        **{f"n_rows_{role}": int(views.loc[views["role"] == role, "n_rows"].sum()) for role in ROLES},
        "n_rows_left_out": int(store.manifest["counts"]["n_rows"]) - kept,
        **measured,
        "sim_accepted": all(low <= measured[name] <= high for name, (low, high) in ACCEPTED.items()),
    }


def _usable(columns: Columns) -> np.ndarray:
    return (columns["flags"] & UNUSABLE) == 0


def _inside(columns: Columns, first: int, last: int) -> np.ndarray:
    """Rows of a clip; `first` and `last` count the store's rows of the sequence."""
    row = np.arange(len(columns["frame"]))
    return (row >= first) & (row <= last)


def _plan_views(store: SequenceStore, roles: RoleTable, draws: int) -> pd.DataFrame:
    """One row a clip, camera and draw of the simulation, with its place among the rows of its role."""
    rows = []
    for cam in store.camera_names():
        for seq, columns in store.views(cam, ["frame", "flags"]):
            usable = _usable(columns)
            for clip in roles.clips[roles.clips["seq"] == seq].to_dict("records"):
                n_rows = int((usable & _inside(columns, clip["first_frame"], clip["last_frame"])).sum())
                for draw in range(draws if clip["role"] == "train" and n_rows else min(n_rows, 1)):
                    identifier = f"{clip['clip']}/{cam}" + (f"#{draw}" if draw else "")
                    rows.append({**clip, "id": identifier, "cam": cam, "draw": draw, "n_rows": n_rows})
    views = pd.DataFrame(rows).sort_values(["role", "clip", "cam", "draw"]).reset_index(drop=True)
    views["first_row"] = views.groupby("role")["n_rows"].cumsum() - views["n_rows"]
    return views[["seq", *VIEW_SCHEMA.names]]


def _create_arrays(output: Path, views: pd.DataFrame) -> dict[str, dict[str, np.memmap]]:
    arrays: dict[str, dict[str, np.memmap]] = {}
    for role, n_rows in views.groupby("role")["n_rows"].sum().items():
        folder = output / str(role)
        folder.mkdir(parents=True, exist_ok=True)
        arrays[str(role)] = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy", "w+", np.dtype(kind), (int(n_rows), *shape)
            )
            for name, (shape, kind) in COLUMNS.items()
        }
    return arrays


def _fill(
    store: SequenceStore,
    roles: RoleTable,
    views: pd.DataFrame,
    look: Look,
    arrays: dict[str, dict[str, np.memmap]],
    meter: SimulationMeter,
) -> Iterator[int]:
    """Simulate each sequence and camera and write the rows of its clips; yields the views done so far."""
    extent = {row["clip"]: (row["first_frame"], row["last_frame"]) for row in roles.clips.to_dict("records")}
    sequences = {row["seq"]: row for row in store.sequences.to_dict("records")}
    by_place = {place: part.to_dict("records") for place, part in views.groupby(["cam", "seq", "draw"])}
    done = 0
    for cam in store.camera_names():
        for seq, labels in store.views(cam, LABELS):
            usable = _usable(labels)
            draw = 0
            while (cam, seq, draw) in by_place:
                columns = look.columns(sequences[seq], cam, labels, draw)
                for view in by_place[cam, seq, draw]:
                    rows = usable & _inside(labels, *extent[view["clip"]])
                    start = view["first_row"]
                    for name, array in arrays[view["role"]].items():
                        array[start : start + view["n_rows"]] = columns[name][rows]
                    if draw == 0:
                        meter.add(columns["sim_pose"][rows], columns["gt_pose"][rows])
                    done += 1
                    yield done
                draw += 1


@dataclass(frozen=True)
class Look:
    """How a view of the store comes to be looked at by the estimator, draw by draw.

    Attributes:
        filmed: draws before the camera that filmed the view; further ones are before virtual cameras.
    """

    store: SequenceStore
    estimator: Estimator
    filmed: int
    virtual: Virtual | None

    def columns(self, sequence: dict[Any, Any], cam: str, labels: Columns, draw: int) -> Columns:
        """All packed columns of one sequence and camera, of all its frames."""
        camera = self.store.cameras[sequence["setting"], cam]
        pose, root = (labels[name].astype(np.float64) for name in ("gt_cam_xyz", "gt_root_cam"))
        truth = {"view_dir": labels["view_dir"], "distance_m": labels["distance_m"]}
        filmed = draw < self.filmed or self.virtual is None
        if self.virtual is not None and not filmed:
            key = [self.estimator.seed, number(sequence["name"]), number(cam), draw, _VIRTUAL]
            rng = np.random.default_rng(np.random.SeedSequence(key))
            world, camera = virtual_view(self.virtual, pose, root, camera, rng)
            seen = world_to_camera(world, camera)
            pose, root = root_relative(seen), mid(seen, HIPS)
            truth = {"view_dir": view_direction(pose, root), "distance_m": np.linalg.norm(root, axis=-1)}
        estimate = estimate_view(
            self.estimator,
            sequence["name"],
            camera,
            pose=pose,
            root=root,
            view=truth["view_dir"],
            fps=self.store.manifest["fps"],
            draw=draw,
        )
        uv_px, flags = estimate.uv_px, labels["flags"]
        if filmed:  # a real detector's pixels, where there are some; those of the simulation elsewhere
            uv_px = np.where(labels["det_confidence"][..., None] > 0, labels["det_uv_px"], uv_px)
        else:
            flags = flags & ~np.uint8(Flag.DETECTED)
        return {
            **labels,
            **truth,
            "flags": flags,
            "gt_pose": pose,
            "sim_pose": estimate.pose,
            "sim_visibility": estimate.visibility,
            "sim_uv_px": uv_px,
        }


_VIRTUAL = 1
"""Tells the draws of a virtual camera from those of the estimator."""


class SimulationMeter:
    """Measures the simulated errors on every so many rows."""

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        self._parts.append((predicted[:: self._stride], truth[:: self._stride]))

    def metrics(self) -> dict[str, float]:
        predicted, truth = (
            np.concatenate(part).astype(np.float64) for part in zip(*self._parts, strict=True)
        )
        depth = measures.abs_dz_cm(predicted, truth)
        remaining = measures.after_rotation_abs_dz_cm(predicted, truth)
        means = {
            "sim_mean_abs_dz_cm": depth.mean(),
            "sim_sd_dz_cm": 100 * (predicted - truth)[..., 2].std(),
            "sim_limb_angle_deg": measures.limb_angles_deg(predicted, truth).mean(),
            "sim_mpjpe_mm": measures.joint_errors_mm(predicted, truth).mean(),
            "sim_pa_mpjpe_mm": measures.pa_mpjpe_mm(predicted, truth).mean(),
            "sim_share_removed_by_rotation": 1 - remaining.mean() / depth.mean(),
        }
        return {name: float(value) for name, value in means.items()}


def _write_manifest(path: Path, store: SequenceStore, roles: RoleTable, estimator: Estimator) -> None:
    facts = {
        "name": store.manifest["name"],
        "lane": "pose",
        "fps": store.manifest["fps"],
        "frame_step": store.manifest["settings"]["frame_step"],
        "max_gap": store.manifest["settings"]["max_gap"],
        "acclaim_rate": store.manifest["settings"]["acclaim_rate"],
        "estimator": estimator.model_dump(mode="json"),
        "estimate": "simulated: no picture was looked at",
        "role_policy": roles.policy,
        "split_sha256": roles.digest,
        "flags": {str(flag.name).lower(): int(flag) for flag in Flag},
    }
    path.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")

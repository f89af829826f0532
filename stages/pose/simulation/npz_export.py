"""Samples in the two forms of the system description: one compressed .npz a frame.

    python -m stages.pose.simulation.npz_export --output DIR [--role val] [--limit 1000]

    DIR/pose/<sequence>_<cam>_<frame>.npz     for depth refiners
        corrupted, ground_truth (17, 3)   over their own torso's length, minus the middle of the hips; x to the
                                          right of the picture, y up, z towards the camera
        visibility (17,); pose_2d, projected_2d (17, 2): detected and exact, shares of width and height
        azimuth, elevation (degrees); camera_relative (3,) m, hips to camera in world axes
        camera_R (3, 3) world to camera; mp_scale, gt_scale (m): the torsos; sequence, frame_idx
    DIR/angles/<sequence>_<cam>_<frame>.npz   for joint-angle refiners
        corrupted, ground_truth (12, 3) degrees, see `kinematics.angles`; NaN where seventeen joints show nothing
        visibility (12,) the least of the joints that an angle rests on; observable (12, 3); sequence, frame_idx

For comparison with other programs and on few samples: a million of such files is what the packed set avoids.
`projected_2d`, `azimuth`, `elevation`, `camera_relative`, `camera_R` and `gt_scale` come from the labels and are no
inputs of an honest model. The estimates are simulated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import Camera, azimuth_elevation
from stages.pose.body.skeleton import JOINT, torso_length
from stages.pose.capture.store import SequenceStore
from stages.pose.kinematics.angles import CHAIN, camera_to_vertical, joint_angles, up_in_camera
from stages.pose.simulation.packed import Packed

UPRIGHT = np.array([1.0, -1.0, -1.0])
"""Camera axes (right, down, away) to those of the samples (right, up, towards the camera)."""


@dataclass(frozen=True)
class Sample:
    """One frame of one view, as both forms are made from it; metres, camera frame."""

    sequence: str
    frame: int
    camera: Camera
    estimate: np.ndarray
    truth: np.ndarray
    visibility: np.ndarray
    detected_px: np.ndarray
    exact_px: np.ndarray
    root: np.ndarray
    view: np.ndarray

    @property
    def file_name(self) -> str:
        return f"{self.sequence}_{self.camera.name}_{self.frame:06d}.npz"


def export_npz(packed: Packed, store: SequenceStore, role: str, limit: int, output: Path) -> int:
    """Write up to `limit` samples, spread evenly over a role's rows, in both forms; returns how many.

    Raises:
        StageError: the packed set was not made from this store, or `output` is not empty.
    """
    if output.exists() and any(output.iterdir()):
        raise StageError(f"{output} is not empty: name another folder for the samples")
    for form in ("pose", "angles"):
        (output / form).mkdir(parents=True, exist_ok=True)
    count = 0
    for sample in samples(packed, store, role, limit):
        np.savez_compressed(output / "pose" / sample.file_name, **pose_sample(sample))  # type: ignore[arg-type]
        np.savez_compressed(output / "angles" / sample.file_name, **angle_sample(sample))  # type: ignore[arg-type]
        count += 1
    return count


def samples(packed: Packed, store: SequenceStore, role: str, limit: int) -> Iterator[Sample]:
    """Up to `limit` samples of a role, by camera, sequence and frame; of a view drawn repeatedly, the first."""
    part = packed.role(role)
    first_draw = np.repeat(part.views["draw"].to_numpy() == 0, part.views["n_rows"].to_numpy())
    rows = np.flatnonzero(first_draw)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))]
    chosen = {
        (f"c{part['cam'][row]:02d}", int(part["seq"][row]), int(part["frame"][row])): int(row) for row in rows
    }
    known = {row["seq"]: row for row in store.sequences.to_dict("records")}
    for cam in sorted({cam for cam, _, _ in chosen}):
        for seq, labels in store.views(cam, ["frame", "gt_cam_xyz", "gt_uv_px", "gt_root_cam", "view_dir"]):
            for k, frame in enumerate(labels["frame"].tolist()):
                row = chosen.pop((cam, seq, frame), None)
                if row is None:
                    continue
                if not np.array_equal(part["gt_pose"][row], labels["gt_cam_xyz"][k]):
                    raise StageError(f"{packed.folder} was not packed from {store.folder}: pack it again")
                yield Sample(
                    sequence=known[seq]["name"],
                    frame=frame,
                    camera=store.cameras[known[seq]["setting"], cam],
                    estimate=part["sim_pose"][row].astype(np.float64),
                    truth=part["gt_pose"][row].astype(np.float64),
                    visibility=part["sim_visibility"][row],
                    detected_px=part["sim_uv_px"][row],
                    exact_px=labels["gt_uv_px"][k],
                    root=labels["gt_root_cam"][k].astype(np.float64),
                    view=labels["view_dir"][k].astype(np.float64),
                )
    if chosen:
        raise StageError(f"{store.folder} lacks frames of {packed.folder}, for example {min(chosen)}")


def pose_sample(sample: Sample) -> dict[str, np.ndarray]:
    """The arrays of a depth refiner's file."""
    azimuth, elevation = azimuth_elevation(sample.view)
    scales = {name: torso_length(pose) for name, pose in (("mp", sample.estimate), ("gt", sample.truth))}
    arrays = {
        "corrupted": sample.estimate * UPRIGHT / scales["mp"],
        "ground_truth": sample.truth * UPRIGHT / scales["gt"],
        "visibility": sample.visibility,
        "pose_2d": sample.detected_px / np.array(sample.camera.size),
        "projected_2d": sample.exact_px / np.array(sample.camera.size),
        "azimuth": azimuth,
        "elevation": elevation,
        "camera_relative": -sample.camera.rotation.T @ sample.root,
        "camera_R": sample.camera.rotation,
        "mp_scale": scales["mp"],
        "gt_scale": scales["gt"],
    }
    single = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return single | {"sequence": np.array(sample.sequence), "frame_idx": np.array(sample.frame)}


def restore_poses(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Estimate and truth (17, 3) in metres, camera frame: `pose_sample` undone."""
    return (
        arrays["corrupted"] * arrays["mp_scale"] * UPRIGHT,
        arrays["ground_truth"] * arrays["gt_scale"] * UPRIGHT,
    )


def angle_sample(sample: Sample) -> dict[str, np.ndarray]:
    """The arrays of a joint-angle refiner's file."""
    poses = camera_to_vertical(np.stack([sample.estimate, sample.truth]), up_in_camera(sample.camera))
    angles = joint_angles(poses)
    values = angles.values.reshape(2, len(CHAIN), 3).astype(np.float32)
    seen = [sample.visibility[[JOINT[name] for name in joint.seen_by]].min() for joint in CHAIN]
    return {
        "corrupted": values[0],
        "ground_truth": values[1],
        "visibility": np.array(seen, np.float32),
        "observable": angles.observable.reshape(len(CHAIN), 3),
        "joints": np.array([joint.name for joint in CHAIN]),
        "sequence": np.array(sample.sequence),
        "frame_idx": np.array(sample.frame),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="an empty folder, or none yet")
    parser.add_argument("--packed", type=Path, default=Path("data/pose/packed"))
    parser.add_argument("--sequences", type=Path, default=Path("data/pose/sequences"))
    parser.add_argument("--role", default="val")
    parser.add_argument("--limit", type=int, default=1000, help="samples; each becomes two files")
    given = parser.parse_args()
    try:
        packed, store = Packed.open(given.packed), SequenceStore.open(given.sequences)
        count = export_npz(packed, store, given.role, given.limit, given.output)
    except StageError as error:
        sys.exit(f"ERROR: {error}")
    print(f"{count} samples of role {given.role} in {given.output}")


if __name__ == "__main__":
    main()

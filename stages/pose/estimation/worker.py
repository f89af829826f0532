"""MediaPipe Pose over one video -> one Parquet table. Run by the interpreter of `environment`, not by ours.

    python worker.py VIDEO OUTPUT [--fps 60] [--max-frames N] [--tracking]

It imports mediapipe, cv2, numpy and pyarrow alone, and the first two only where they are used, so that the
project can import its schema. One row for each time k / fps; without --fps one for each frame of the video.
Rows without a person are kept, with NaN.

World landmarks: metres, origin between the hips, x to the right, y down, z away from the camera. These are
OpenCV's camera axes already, so that nothing is turned.

Exit status: 0 done; 3 the video cannot be used (one line on standard error says why).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LANDMARKS = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""MediaPipe's number of each of the 17 COCO joints: nose, eyes, ears, shoulders, elbows, wrists, hips, ..."""
FEET_LANDMARKS = (29, 30, 31, 32)
"""Left and right heel, left and right tip of the foot."""
N_LANDMARKS = 33
UNUSABLE = 3
"""Exit status for a video that cannot be used."""


def request(fps: float | None, max_frames: int | None, tracking: bool) -> dict[str, str]:
    """What was asked of a video, as it stands in its table's metadata."""
    return {
        "rate": "native" if fps is None else f"{fps:.6g} fps",
        "max_frames": "all" if max_frames is None else str(max_frames),
        "mode": "tracking" if tracking else "single frames",
    }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _field(name: str, kind: pa.DataType, unit: str = "") -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit} if unit else None)


_AXES = "m, camera axes (x right, y down, z away), origin between the hips"
SCHEMA = pa.schema(
    [
        _field("frame", pa.int32()),
        _field("source_frame", pa.int32(), "number of the frame in the video"),
        _field("t_s", pa.float64(), "s"),
        _field("detected", pa.bool_()),
        _field("mp_xyz", pa.list_(pa.float32(), 51), _AXES),
        _field("visibility", pa.list_(pa.float32(), 17)),
        _field("uv_px", pa.list_(pa.float32(), 34), "px of the full frame"),
        _field("feet_xyz", pa.list_(pa.float32(), 12), _AXES),
        _field("feet_visibility", pa.list_(pa.float32(), 4)),
        _field("feet_uv_px", pa.list_(pa.float32(), 8), "px of the full frame"),
    ]
)


class UnusableVideoError(Exception):
    """A video that cannot be opened, or says nothing of its times."""


def frames_at(times: np.ndarray, fps: float) -> np.ndarray:
    """(K,) the frame nearest to each time k / fps from the first to the last of `times` (N,), in seconds.

    Of two frames equally near the earlier one is taken. A slower video repeats frames, a faster one loses
    some; one of the same rate keeps each frame, whatever the rounding of its times.
    """
    times = times - times[0]
    slack = 1e-6  # s: containers round times to their own tick
    wanted = np.arange(int(np.floor((times[-1] + slack) * fps)) + 1) / fps
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(wanted - times[before] <= times[after] - wanted + slack, before, after)


def joints_of(landmarks: np.ndarray, which: tuple[int, ...] = LANDMARKS) -> np.ndarray:
    """Rows `which` of one frame's landmarks (33, D)."""
    if landmarks.shape[0] != N_LANDMARKS:
        raise ValueError(f"expected {N_LANDMARKS} landmarks, found {landmarks.shape}")
    return landmarks[list(which)]


def row(world: np.ndarray | None, image: np.ndarray | None, size: tuple[int, int]) -> dict[str, Any]:
    """The measured columns of one frame.

    Args:
        world: (33, 4) x, y, z in metres and visibility; None where there is no person.
        image: (33, 2) x and y as shares of the picture's width and height.
        size: (width, height) px.
    """
    if world is None or image is None:
        world, image = np.full((N_LANDMARKS, 4), np.nan), np.full((N_LANDMARKS, 2), np.nan)
        detected = False
    else:
        detected = True
    uv = image * np.array(size)
    return {
        "detected": detected,
        "mp_xyz": joints_of(world[:, :3]),
        "visibility": joints_of(world[:, 3]),
        "uv_px": joints_of(uv),
        "feet_xyz": joints_of(world[:, :3], FEET_LANDMARKS),
        "feet_visibility": joints_of(world[:, 3], FEET_LANDMARKS),
        "feet_uv_px": joints_of(uv, FEET_LANDMARKS),
    }


def to_table(rows: list[dict[str, Any]], facts: dict[str, str]) -> pa.Table:
    """Rows as a table of SCHEMA; `facts` of the video go into its metadata."""
    arrays = []
    for spec in SCHEMA:
        values = [entry[spec.name] for entry in rows]
        if pa.types.is_fixed_size_list(spec.type):
            flat = np.concatenate([np.asarray(value, np.float32).ravel() for value in values])
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), spec.type.list_size))
        else:
            arrays.append(pa.array(values, spec.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(facts))


def video_times(path: Path) -> tuple[np.ndarray, str]:
    """Times (N,) of all frames in seconds, and where they are from: `timestamps`, or the `rate` alone."""
    import cv2

    video = cv2.VideoCapture(str(path))
    times = []
    while video.grab():
        times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    if not times:
        raise UnusableVideoError("no frame can be decoded")
    if len(times) == 1 or min(np.diff(times)) > 0:
        return np.array(times), "timestamps"
    if not 1 <= rate <= 1000:
        raise UnusableVideoError(f"its timestamps do not rise and its frame rate is {rate:g}")
    return np.arange(len(times)) / rate, "rate"


def estimate(path: Path, fps: float | None, max_frames: int | None, tracking: bool) -> pa.Table:
    """MediaPipe Pose over a video; the full model (complexity 1), the only one that its wheel carries.

    Args:
        fps: rows a second; None keeps each frame of the video.
        max_frames: rows at most, from the video's beginning.
        tracking: let the estimator follow and smooth the person; otherwise each frame stands for itself.
    """
    import cv2
    import mediapipe
    from mediapipe.python.solutions.pose import Pose

    cv2.setNumThreads(1)
    times, source = video_times(path)
    times = times - times[0]
    wanted = np.arange(len(times)) if fps is None else frames_at(times, fps)
    wanted = wanted[:max_frames]
    found: dict[int, dict[str, Any]] = {}
    needed = set(wanted.tolist())
    video = cv2.VideoCapture(str(path))
    size = (0, 0)
    with Pose(static_image_mode=not tracking, model_complexity=1, min_detection_confidence=0.5) as pose:
        for number in range(int(wanted[-1]) + 1):
            if not video.grab():
                raise UnusableVideoError(f"frame {number} cannot be decoded a second time")
            if number not in needed:
                continue
            _, picture = video.retrieve()
            size = (picture.shape[1], picture.shape[0])
            answer = pose.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            found[number] = row(*_landmarks(answer), size)
    video.release()
    rows = [
        {
            "frame": k,
            "source_frame": number,
            "t_s": float(times[number]) if fps is None else k / fps,
            **found[number],
        }
        for k, number in enumerate(wanted.tolist())
    ]
    native = (len(times) - 1) / times[-1] if len(times) > 1 else float("nan")
    facts = {
        "width": str(size[0]),
        "height": str(size[1]),
        "video_frames": str(len(times)),
        "video_fps": f"{native:.6g}",
        "fps": f"{native if fps is None else fps:.6g}",
        "times": source,
        "video_sha256": digest(path),
        "estimator": f"mediapipe {mediapipe.__version__} pose full",
        **request(fps, max_frames, tracking),
    }
    return to_table(rows, facts)


def _landmarks(answer: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    if answer.pose_world_landmarks is None or answer.pose_landmarks is None:
        return None, None
    world = [(p.x, p.y, p.z, p.visibility) for p in answer.pose_world_landmarks.landmark]
    return np.array(world), np.array([(p.x, p.y) for p in answer.pose_landmarks.landmark])


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("video", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fps", type=float)
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("--tracking", action="store_true")
    arguments = parser.parse_args()
    try:
        table = estimate(arguments.video, arguments.fps, arguments.max_frames, arguments.tracking)
    except UnusableVideoError as error:
        print(error, file=sys.stderr)
        sys.exit(UNUSABLE)
    partial = arguments.output.with_name(arguments.output.name + ".partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(arguments.output)


if __name__ == "__main__":
    main()

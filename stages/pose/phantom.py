"""Stage pose-phantom: made-up dancers in the raw layout of AIST++'s annotations, with planted defects.

    keypoints3d/<sequence>.pkl   keypoints3d and keypoints3d_optim, (N, 17, 3) float64, cm, world frame
    cameras/setting<k>.json      nine cameras about 45 degrees apart, and mapping.txt: sequence, setting
    keypoints2d/<sequence>.pkl   of a few: what a 2D detector found, (9, N, 17, 3) u, v in px and confidence
    mocap/                       a subject in the layout of CMU's motion capture; see `phantom_mocap`
    splits/pose_{train,val,test}.txt   by dancer: those whose number divides by three are the test
    ignore_list.txt              sequences that are too poor to use
    dataset.json, planted.csv    the name "phantom", and the truth about the planted defects

Thirty dancers have bodies of their own and dance one of the ten genres each, as in AIST++; see `dance`.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.body.frames import project, world_to_camera
from stages.pose.body.skeleton import SWAP
from stages.pose.body.studio import CM, camera_of, studio_rig
from stages.pose.dance import STYLES, dance, random_body
from stages.pose.phantom_mocap import write_subject

GENRE_OF_DANCERS = ("JS", "BR", "JB", "PO", "LO", "LH", "HO", "MH", "WA", "KR")
"""Three dancers a genre, in the order of AIST++'s dancer numbers: d01 to d03 dance JS, d04 to d06 BR, ..."""


class Defects(BaseModel):
    """How many sequences carry each defect.

    The first three among the good ones; `broken_detections` among those with detections; `broken_motion` are
    trials of the motion capture subject; the others are sequences on top.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    short_gap: int
    long_gap: int
    swapped: int
    ignored: int
    unmapped: int
    broken: int
    unsafe: int
    wrong_shape: int
    metres: int
    broken_detections: int
    broken_motion: int


class Mocap(BaseModel):
    """Trials of the motion capture subject, and frames of each at 120 a second; no trials: no subject."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    trials: int
    frames: int


class Params(StageParams):
    section: ClassVar[str] = "pose.phantom"
    seed: int
    dancers: int
    sequences: int
    frames: int
    settings: int
    raw_nan_share: float
    detected: int = Field(ge=0)
    mocap: Mocap
    defects: Defects


Planted = list[tuple[str, str, str]]
"""Rows of planted.csv: file, defect, detail."""


def run(params: Params, output: Path, observe: Observer) -> dict[str, float]:
    names = _sequence_names(params.sequences + _extra(params.defects), params.dancers)
    good, extra = names[: params.sequences], names[params.sequences :]
    bodies = [random_body(np.random.default_rng([params.seed, 1, k])) for k in range(params.dancers)]
    planted: Planted = []
    (output / "keypoints3d").mkdir(parents=True, exist_ok=True)
    spoil = _spoilers(params.defects)
    if len(spoil) > len(good):
        raise StageError(f"pose.phantom: {len(spoil)} defects do not fit into {len(good)} sequences")
    for k, name in enumerate(names):
        rng = np.random.default_rng([params.seed, 2, k])
        style = STYLES[name[1:3]]
        n_frames = params.frames if k < params.sequences else params.frames // 2
        world = 100 * dance(bodies[_dancer(name) - 1], style, n_frames, rng)
        optimised = world + _tremor(world.shape, 0.4, rng)
        raw = world + _tremor(world.shape, 0.8, rng)
        if rng.uniform() < params.raw_nan_share:
            raw[rng.uniform(size=raw.shape[:2]) < 0.01] = np.nan
        if k < len(spoil):
            defect, change = spoil[k]
            planted.append((f"keypoints3d/{name}.pkl", defect, change(raw, optimised, rng)))
        _write_poses(output / "keypoints3d" / f"{name}.pkl", raw, optimised)
        if k < params.detected:
            _write_detections(output / "keypoints2d" / f"{name}.pkl", world, k, params)
        observe.progress(k + 1, len(names), "sequences")
    planted += _plant_files(output, extra, params)
    planted += _spoil_detections(output, good, params)
    if params.mocap.trials:
        trials, cut_off = params.mocap.trials, params.defects.broken_motion
        planted += write_subject(output / "mocap", trials, params.mocap.frames, cut_off, params.seed)
    _write_lists(output, names, planted)
    _write_cameras(output, names, planted, params)
    _write_csv(output / "planted.csv", ("file", "defect", "detail"), sorted(planted))
    _write_text(output / "dataset.json", json.dumps({"name": "phantom", "layout": "AIST++"}, indent=1) + "\n")
    return {
        "n_sequences": len(names),
        "n_dancers": params.dancers,
        "n_frames": params.sequences * params.frames,
        "n_planted": len(planted),
    }


def _extra(defects: Defects) -> int:
    return sum(
        (
            defects.ignored,
            defects.unmapped,
            defects.broken,
            defects.unsafe,
            defects.wrong_shape,
            defects.metres,
        )
    )


def _sequence_names(n: int, dancers: int) -> list[str]:
    """Names like gBR_sBM_cAll_d04_mBR0_ch03: genre, basic or freestyle, dancer, music, choreography."""
    names = []
    for k in range(n):
        dancer, turn = k % dancers + 1, k // dancers
        genre = GENRE_OF_DANCERS[(dancer - 1) // 3 % len(GENRE_OF_DANCERS)]
        kind = "FM" if turn % 3 == 1 else "BM"
        names.append(f"g{genre}_s{kind}_cAll_d{dancer:02d}_m{genre}{(dancer + turn) % 6}_ch{turn + 1:02d}")
    return names


def _dancer(name: str) -> int:
    return int(name.split("_d")[1][:2])


def _tremor(shape: tuple[int, ...], cm: float, rng: np.random.Generator) -> np.ndarray:
    """Errors of the reconstruction (N, 17, 3): slow, of about `cm` deviation."""
    from scipy.ndimage import gaussian_filter1d

    sigma = 6.0
    return (
        gaussian_filter1d(rng.standard_normal(shape), sigma, axis=0)
        * cm
        * np.sqrt(2 * np.sqrt(np.pi) * sigma)
    )


# ---------------------------------------------------------------- defects inside a readable file


def _spoilers(
    defects: Defects,
) -> list[tuple[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], str]]]:
    return (
        [("short_gap", _short_gap)] * defects.short_gap
        + [("long_gap", _long_gap)] * defects.long_gap
        + [("swapped", _swap_sides)] * defects.swapped
    )


def _gap(raw: np.ndarray, optimised: np.ndarray, rng: np.random.Generator, length: int) -> str:
    start = int(rng.integers(len(raw) // 4, len(raw) // 2))
    raw[start : start + length] = optimised[start : start + length] = np.nan
    return f"frames {start}-{start + length - 1}"


def _short_gap(raw: np.ndarray, optimised: np.ndarray, rng: np.random.Generator) -> str:
    return _gap(raw, optimised, rng, 5)


def _long_gap(raw: np.ndarray, optimised: np.ndarray, rng: np.random.Generator) -> str:
    return _gap(raw, optimised, rng, 40)


def _swap_sides(raw: np.ndarray, optimised: np.ndarray, rng: np.random.Generator) -> str:
    start, length = int(rng.integers(len(raw) // 4, len(raw) // 2)), 20
    for pose in (raw, optimised):
        pose[start : start + length] = pose[start : start + length, SWAP]
    return f"frames {start}-{start + length - 1}"


# ---------------------------------------------------------------- defects of whole files


def _plant_files(output: Path, extra: list[str], params: Params) -> Planted:
    """Spoil the added sequences, one after the other; ignored and unmapped ones stay readable."""
    planted: Planted = []
    queue = iter(extra)

    def files(count: int, defect: str, detail: str) -> list[Path]:
        names = [next(queue) for _ in range(count)]
        planted.extend((f"keypoints3d/{name}.pkl", defect, detail) for name in names)
        return [output / "keypoints3d" / f"{name}.pkl" for name in names]

    files(params.defects.ignored, "ignored", "listed in ignore_list.txt")
    files(params.defects.unmapped, "unmapped", "no row in cameras/mapping.txt")
    for path in files(params.defects.broken, "broken", "cut off after a third"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    for path in files(params.defects.unsafe, "unsafe", "asks for os.getenv when loaded"):
        path.write_bytes(b"\x80\x03cos\ngetenv\nX\x04\x00\x00\x00HOME\x85R.")
    for path in files(params.defects.wrong_shape, "wrong_shape", "15 joints"):
        _rewrite(path, lambda pose: pose[:, :15])
    for path in files(params.defects.metres, "metres", "metres instead of centimetres"):
        _rewrite(path, lambda pose: pose / 100)
    return planted


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    poses = pickle.loads(path.read_bytes())
    _write_poses(path, change(poses["keypoints3d"]), change(poses["keypoints3d_optim"]))


def _write_poses(path: Path, raw: np.ndarray, optimised: np.ndarray) -> None:
    _write_pickle(path, {"keypoints3d": raw, "keypoints3d_optim": optimised})


def _write_pickle(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The pickle that the annotations come as: protocol 3 and the module path of older numpy versions."""
    data = pickle.dumps(arrays, protocol=3)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


# ---------------------------------------------------------------- 2D detections


def _write_detections(path: Path, world: np.ndarray, number: int, params: Params) -> None:
    """Detections of poses (N, 17, 3) in cm: off by some px, the less sure the more; some joints are missed."""
    rng = np.random.default_rng([params.seed, 5, number])
    rig = [camera_of(entry) for entry in _rig(params, number % params.settings)]
    exact = np.stack([project(world_to_camera(CM * world, camera), camera) for camera in rig])
    off = np.stack([_tremor(world.shape, 4.0, rng)[..., :2] for _ in rig])
    distance = np.linalg.norm(off, axis=-1)
    confidence = np.clip(0.95 - 0.04 * distance + rng.normal(0, 0.02, distance.shape), 0.05, 1)
    missed = rng.uniform(size=confidence.shape) < 0.01
    found = np.concatenate([exact + off, confidence[..., None]], axis=-1)
    found[missed] = 0
    stamps = np.arange(len(world)) * 1_000_000 // 60
    arrays = {"keypoints2d": found, "det_scores": found[..., 2].mean(-1), "timestamps": stamps}
    _write_pickle(path, arrays)


def _spoil_detections(output: Path, good: list[str], params: Params) -> Planted:
    """Cut off the last of the files with detections."""
    count = params.defects.broken_detections
    if count > params.detected:
        raise StageError(f"pose.phantom: {count} broken_detections, but only {params.detected} are detected")
    paths = [output / "keypoints2d" / f"{name}.pkl" for name in good[: params.detected]]
    for path in paths[len(paths) - count :]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    spoiled = paths[len(paths) - count :]
    return [(f"keypoints2d/{path.name}", "broken_detections", "cut off after a third") for path in spoiled]


# ---------------------------------------------------------------- cameras and lists


def _rig(params: Params, setting: int) -> list[dict[str, Any]]:
    return studio_rig(np.random.default_rng([params.seed, 3, setting]))


def _write_cameras(output: Path, names: list[str], planted: Planted, params: Params) -> None:
    (output / "cameras").mkdir(exist_ok=True)
    for setting in range(params.settings):
        rig = _rig(params, setting)
        _write_text(output / "cameras" / f"setting{setting + 1}.json", json.dumps(rig, indent=1) + "\n")
    unmapped = {file for file, defect, _ in planted if defect == "unmapped"}
    rows = [
        f"{name} setting{k % params.settings + 1}\n"
        for k, name in enumerate(names)
        if f"keypoints3d/{name}.pkl" not in unmapped
    ]
    _write_text(output / "cameras" / "mapping.txt", "".join(rows))


def _write_lists(output: Path, names: list[str], planted: Planted) -> None:
    (output / "splits").mkdir(exist_ok=True)
    test = [name for name in names if _dancer(name) % 3 == 0]
    others = [name for name in names if name not in test]
    val = others[3::8]
    lists = {"train": [name for name in others if name not in val], "val": val, "test": test}
    for split, members in lists.items():
        _write_text(output / "splits" / f"pose_{split}.txt", "".join(f"{name}\n" for name in members))
    ignored = [Path(file).stem for file, defect, _ in planted if defect == "ignored"]
    _write_text(output / "ignore_list.txt", "".join(f"{name}\n" for name in ignored))


def _write_csv(path: Path, header: tuple[str, ...], rows: Planted) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()

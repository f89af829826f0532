"""Stage pose-phantom: made-up dancers in the raw layout of AIST++'s annotations, with planted defects.

    keypoints3d/<sequence>.pkl   keypoints3d and keypoints3d_optim, (N, 17, 3) float64, cm, world frame
    cameras/setting<k>.json      nine cameras about 45 degrees apart, and mapping.txt: sequence, setting
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
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.body.frames import rotation_vector
from stages.pose.body.skeleton import SWAP
from stages.pose.dance import STYLES, dance, random_body

GENRE_OF_DANCERS = ("JS", "BR", "JB", "PO", "LO", "LH", "HO", "MH", "WA", "KR")
"""Three dancers a genre, in the order of AIST++'s dancer numbers: d01 to d03 dance JS, d04 to d06 BR, ..."""


class Defects(BaseModel):
    """How many sequences carry each defect: the first three among the good ones, the others on top."""

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


class Params(StageParams):
    section: ClassVar[str] = "pose.phantom"
    seed: int
    dancers: int
    sequences: int
    frames: int
    settings: int
    raw_nan_share: float
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
        _write_pickle(output / "keypoints3d" / f"{name}.pkl", raw, optimised)
        observe.progress(k + 1, len(names), "sequences")
    planted += _plant_files(output, extra, params)
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
    _write_pickle(path, change(poses["keypoints3d"]), change(poses["keypoints3d_optim"]))


def _write_pickle(path: Path, raw: np.ndarray, optimised: np.ndarray) -> None:
    """The pickle that the annotations come as: protocol 3 and the module path of older numpy versions."""
    data = pickle.dumps({"keypoints3d": raw, "keypoints3d_optim": optimised}, protocol=3)
    path.write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


# ---------------------------------------------------------------- cameras and lists


def _write_cameras(output: Path, names: list[str], planted: Planted, params: Params) -> None:
    (output / "cameras").mkdir(exist_ok=True)
    for setting in range(params.settings):
        rig = _rig(np.random.default_rng([params.seed, 3, setting]))
        _write_text(output / "cameras" / f"setting{setting + 1}.json", json.dumps(rig, indent=1) + "\n")
    unmapped = {file for file, defect, _ in planted if defect == "unmapped"}
    rows = [
        f"{name} setting{k % params.settings + 1}\n"
        for k, name in enumerate(names)
        if f"keypoints3d/{name}.pkl" not in unmapped
    ]
    _write_text(output / "cameras" / "mapping.txt", "".join(rows))


def _rig(rng: np.random.Generator) -> list[dict[str, object]]:
    """Nine cameras as AIST's studio had them: c01 in front, then every 45 degrees round the dancer's right,
    c09 in front and low; 4.5 to 5.3 m away, focal lengths that keep the dancer about 430 px tall, only k1."""
    cameras = []
    for k in range(9):
        azimuth = np.radians(-45.0 * (k % 8) + rng.normal(0, 1.5))
        distance = rng.uniform(450, 530)
        height = 45.0 if k == 8 else rng.uniform(110, 125)
        centre = np.array([distance * np.sin(azimuth), height, distance * np.cos(azimuth)])
        target = np.array([0.0, 84.0, 0.0]) + rng.normal(0, 4, 3)
        rotation = look_at(centre, target)
        focal = distance * rng.uniform(2.85, 3.15)
        cameras.append(
            {
                "name": f"c{k + 1:02d}",
                "size": [1920, 1080],
                "matrix": [[focal, 0.0, 960.0], [0.0, focal, 540.0], [0.0, 0.0, 1.0]],
                "distortions": [float(rng.uniform(-0.22, 0.09)), 0.0, 0.0, 0.0, 0.0],
                "rotation": rotation_vector(rotation).tolist(),
                "translation": (-rotation @ centre).tolist(),
            }
        )
    return cameras


def look_at(centre: np.ndarray, target: np.ndarray) -> np.ndarray:
    """R (world to camera, y down) of an upright camera at `centre` that looks at `target`."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


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

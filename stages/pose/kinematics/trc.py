"""TRC files: markers over time as OpenSim and Pose2Sim read and write them.

    PathFileType  4  (X/Y/Z)  name          tabs between all fields
    DataRate  CameraRate  NumFrames  NumMarkers  Units  OrigDataRate  OrigDataStartFrame  OrigNumFrames
    60  60  100  22  m  60  1  100
    Frame#  Time  Hip  .  .  RHip  .  .     every marker's name over its three columns
    .  .  X1  Y1  Z1  X2  Y2  Z2
    (empty line; optional when read)
    1  0.000000  0.1  0.9  0.0  ...         a missing marker has empty fields

OpenSim's axes are x forward, y up, z right. Pose2Sim turns its calibration's world, whose z is up, so that a
file's X, Y, Z are the world's Y, Z, X (`to_calibration_world`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.errors import StageError

_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_HEADER = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units",
           "OrigDataRate", "OrigDataStartFrame", "OrigNumFrames")  # fmt: skip
_DECIMALS = {"m": 6, "cm": 4, "mm": 3}
"""A micrometre, whatever the unit."""


@dataclass(frozen=True)
class Trc:
    """The content of one file.

    Attributes:
        markers: name -> (N, 3) in metres, in the file's axes; NaN where a marker is missing.
        rate: frames a second.
        units: the file's own.
        frames: (N,) numbers as written.
        times: (N,) seconds.
    """

    markers: dict[str, np.ndarray]
    rate: float
    units: str
    frames: np.ndarray
    times: np.ndarray


def to_calibration_world(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of a Pose2Sim file in its calibration's world (z up)."""
    return points[..., [2, 0, 1]]


def write_trc(path: Path, markers: Mapping[str, np.ndarray], rate: float, units: str = "m") -> None:
    """Write markers, (N, 3) each, metres, in a vertical frame; the same bytes every time.

    Raises:
        StageError: an unknown unit, or markers that are not all (N, 3).
    """
    if units not in _METRES:
        raise StageError(f"{path}: units must be one of {', '.join(_METRES)}, not {units}")
    n = len(next(iter(markers.values()), ()))
    if n == 0:
        raise StageError(f"{path}: there are no frames to write")
    if wrong := [f"{name} {array.shape}" for name, array in markers.items() if array.shape != (n, 3)]:
        raise StageError(f"{path}: every marker must be {(n, 3)}, not {', '.join(wrong)}")
    table = np.stack(list(markers.values()), axis=1).reshape(n, -1) / _METRES[units]
    names = "\t\t\t".join(markers)
    axes = "\t".join(f"{axis}{k}" for k in range(1, len(markers) + 1) for axis in "XYZ")
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "\t".join(_HEADER),
        f"{rate:g}\t{rate:g}\t{n}\t{len(markers)}\t{units}\t{rate:g}\t1\t{n}",
        f"Frame#\tTime\t{names}\t\t",
        f"\t\t{axes}",
        "",
    ]
    for k, row in enumerate(table):
        fields = ("" if math.isnan(v) else f"{v:.{_DECIMALS[units]}f}" for v in row)
        lines.append("\t".join([str(k + 1), f"{k / rate:.6f}", *fields]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_trc(path: Path) -> Trc:
    """Read a file of either program.

    Raises:
        StageError: naming the file and what is wrong: a header that does not fit its columns, an unknown unit,
            lines of another length, fields that are no numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path}: cannot be read as TRC: {error}") from None
    if len(lines) < 6 or not lines[0].startswith("PathFileType"):
        raise StageError(f"{path}: no TRC file: expected PathFileType, four more lines of header, and frames")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    if missing := [name for name in _HEADER[:5] if name not in header]:
        raise StageError(f"{path}: the header lacks {', '.join(missing)}")
    units = header["Units"].strip()
    names = [name.strip() for name in lines[3].split("\t")[2:] if name.strip()]
    problems = []
    if units not in _METRES:
        problems.append(f"units are {units!r}; expected one of {', '.join(_METRES)}")
    if len(set(names)) < len(names):
        problems.append(f"names occur twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    if header["NumMarkers"] != str(len(names)):
        problems.append(f"NumMarkers is {header['NumMarkers']}, but there are {len(names)} names")
    rows = [
        _numbers(line, 2 + 3 * len(names), number)
        for number, line in enumerate(lines[5:], start=6)
        if line.strip()
    ]
    problems += [row for row in rows if isinstance(row, str)]
    if header["NumFrames"] != str(len(rows)):
        problems.append(f"NumFrames is {header['NumFrames']}, but there are {len(rows)} lines of data")
    if problems or not rows:
        raise StageError(f"{path}: {'; '.join(problems) or 'there are no frames'}")
    table = np.array(rows)
    places = table[:, 2:].reshape(len(table), len(names), 3) * _METRES[units]
    return Trc(
        {name: places[:, k] for k, name in enumerate(names)},
        float(header["DataRate"]),
        units,
        table[:, 0].astype(int),
        table[:, 1],
    )


def _numbers(line: str, count: int, number: int) -> list[float] | str:
    """The numbers of a line, NaN for empty fields; or what is wrong with it."""
    fields = line.split("\t")
    fields = fields[:count] if not any(f.strip() for f in fields[count:]) else fields
    if len(fields) != count:
        return f"line {number} has {len(fields)} fields instead of {count}"
    try:
        return [float(field) if field.strip() else math.nan for field in fields]
    except ValueError as error:
        return f"line {number}: {error}"

"""A made-up subject in the raw layout of CMU's motion capture: one .asf, a few .amc, a planted defect.

mocap/90.asf             a skeleton with CMU's bones, axes and units (inches times 0.45)
mocap/90_01.amc ...      trials at 120 frames a second: the subject strolls and swings the arms
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SUBJECT = 90
RATE = 120
_LENGTH = 0.45
_METRE = _LENGTH / 0.0254
"""file units a metre"""

_Bone = tuple[str, str, tuple[float, ...], float, tuple[float, ...], str]
BONES: tuple[_Bone, ...] = (
    ("lhipjoint", "root", (0.66, -0.71, 0.25), 0.14, (0, 0, 0), ""),
    ("lfemur", "lhipjoint", (0.34, -0.94, 0.0), 0.42, (0, 0, 20), "rx ry rz"),
    ("ltibia", "lfemur", (0.34, -0.94, 0.0), 0.40, (0, 0, 20), "rx"),
    ("lowerback", "root", (0.0, 1.0, 0.0), 0.12, (0, 0, 0), "rx ry rz"),
    ("thorax", "lowerback", (0.0, 1.0, 0.0), 0.24, (0, 0, 0), "rx ry rz"),
    ("upperneck", "thorax", (0.0, 1.0, 0.05), 0.17, (0, 0, 0), "rx ry rz"),
    ("head", "upperneck", (0.0, 1.0, -0.03), 0.09, (0, 0, 0), "rx ry rz"),
    ("lclavicle", "thorax", (0.97, 0.24, -0.05), 0.20, (0, 0, 0), "ry rz"),
    ("lhumerus", "lclavicle", (1.0, 0.0, 0.0), 0.28, (180, -30, -90), "rx ry rz"),
    ("lradius", "lhumerus", (1.0, 0.0, 0.0), 0.18, (180, -30, -90), "rx"),
    ("lwrist", "lradius", (1.0, 0.0, 0.0), 0.09, (0, 90, 90), "ry"),
)
"""Name, parent, direction, metres, axis and degrees of freedom; what begins with l also exists on the right."""


def write_subject(
    folder: Path, trials: int, frames: int, cut_off: int, seed: int
) -> list[tuple[str, str, str]]:
    """Write a subject's trials, the last `cut_off` of them broken; returns rows of planted.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{SUBJECT}.asf").write_text(_skeleton(), encoding="ascii")
    planted = []
    for trial in range(1, trials + cut_off + 1):
        path = folder / f"{SUBJECT}_{trial:02d}.amc"
        text = _motion(frames, np.random.default_rng([seed, 4, trial]))
        if trial > trials:
            text = text[: len(text) * 2 // 3]
            planted.append((f"{folder.name}/{path.name}", "broken_motion", "cut off after two thirds"))
        path.write_text(text, encoding="ascii")
    return planted


def _both_sides() -> list[_Bone]:
    bones: list[_Bone] = []
    for name, parent, direction, length, axis, dof in BONES:
        bones.append((name, parent, direction, length, axis, dof))
        if name.startswith("l") and name != "lowerback":
            other = "r" + parent[1:] if parent[0] == "l" and parent != "lowerback" else parent
            mirrored = (-direction[0], *direction[1:])
            bones.append((f"r{name[1:]}", other, mirrored, length, (axis[0], -axis[1], -axis[2]), dof))
    return bones


def _skeleton() -> str:
    lines = [
        "# AST/ASF file of a phantom", ":version 1.10", ":name PHANTOM", ":units", "  mass 1.0",
        f"  length {_LENGTH}", "  angle deg", ":root", "   order TX TY TZ RX RY RZ", "   axis XYZ",
        "   position 0 0 0", "   orientation 0 0 0", ":bonedata",
    ]  # fmt: skip
    for number, (name, _, direction, length, axis, dof) in enumerate(_both_sides(), start=1):
        unit = np.array(direction) / np.linalg.norm(direction)
        lines += ["  begin", f"     id {number}", f"     name {name}"]
        lines += [f"     direction {' '.join(f'{value:.9g}' for value in unit)}"]
        lines += [f"     length {length * _METRE:.6g}", f"     axis {axis[0]} {axis[1]} {axis[2]}  XYZ"]
        if dof:
            limits = [" (-180.0 180.0)"] * len(dof.split())
            lines += [
                f"    dof {dof}",
                f"    limits{limits[0]}",
                *("          " + text for text in limits[1:]),
            ]
        lines.append("  end")
    children: dict[str, list[str]] = {}
    for name, parent, *_ in _both_sides():
        children.setdefault(parent, []).append(name)
    lines += [
        ":hierarchy",
        "  begin",
        *(f"    {p} {' '.join(names)}" for p, names in children.items()),
        "  end",
    ]
    return "\n".join(lines) + "\n"


def _motion(frames: int, rng: np.random.Generator) -> str:
    """A stroll: sines of one step's period, each bone with an amplitude of its own."""
    time = np.arange(frames) / RATE
    pace = rng.uniform(1.6, 2.0) * np.pi * time
    swing = rng.uniform(0.8, 1.2)
    columns: dict[str, np.ndarray] = {}
    walked = rng.uniform(0.8, 1.2) * time
    place = np.stack([0.02 * np.sin(pace), 0.92 + 0.02 * np.cos(2 * pace), walked], axis=1) * _METRE
    columns["root"] = np.hstack([place, _sway(pace, (2.0, 4.0, 2.0), rng)])
    for name, _, _, _, _, dof in _both_sides():
        if dof:
            columns[name] = _sway(pace, (4.0,) * len(dof.split()), rng)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        phase = np.sin(pace) * sign
        columns[f"{side}femur"] += np.stack(
            [-25 * swing * phase - 8, 0 * phase, -sign * 20 + 0 * phase], axis=1
        )
        columns[f"{side}tibia"] += (22 + 18 * np.cos(pace) * sign)[:, None]
        columns[f"{side}humerus"] += np.stack([30 * swing * phase, 0 * phase, sign * 70 + 0 * phase], axis=1)
        columns[f"{side}radius"] += (25 + 15 * phase)[:, None]
    lines = ["#!OML:ASF phantom", ":FULLY-SPECIFIED", ":DEGREES"]
    for k in range(frames):
        lines.append(str(k + 1))
        lines += [f"{name} {' '.join(f'{v:.6g}' for v in values[k])}" for name, values in columns.items()]
    return "\n".join(lines) + "\n"


def _sway(pace: np.ndarray, degrees: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """(T, D) small sines of the step's period."""
    phases = rng.uniform(0, 2 * np.pi, len(degrees))
    return np.array(degrees) * np.sin(pace[:, None] + phases)

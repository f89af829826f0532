"""Motion capture in Acclaim's format, as CMU's data base holds it: a skeleton (.asf) and its motions (.amc).

A bone's `axis` is the orientation C of its own coordinates in the rest pose, and a motion M turns the bone in
these coordinates: seen from the parent the rotation is C M C^-1. Rotations add up from the root outwards, and
a bone runs from its parent's end along its rest direction, so turned. Angles about X, Y and Z act in the order
in which the file names them, each about fixed axes ("XYZ": R = Rz Ry Rx).

Lengths are in inches times the `length` of `:units`; everything here leaves in metres, world frame (Y up).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.pose.body.skeleton import EARS, EYES, JOINT, N_JOINTS, NOSE
from stages.pose.capture.annotations import SequenceError

INCH = 0.0254
ROOT = "root"

PLACES = {
    "shoulder": ("humerus", 0), "elbow": ("humerus", 1), "wrist": ("wrist", 1),
    "hip": ("femur", 0), "knee": ("femur", 1), "ankle": ("tibia", 1),
}  # fmt: skip
"""Joint -> the bone (l or r before its name) and its end (0 towards the trunk). CMU's `radius` stops in the middle
of the forearm, where `wrist` goes on and turns about the arm's length; the hand bends at the end of `wrist`."""

HEAD_BONE = "head"
HEAD_SHARE = 0.152
"""Unit of FACE as a share of thigh and shin: 7 % of a person's height, of which the leg is 46 %."""
FACE = {
    NOSE: (0.0, -0.20, 1.10),
    EYES[0]: (0.28, 0.15, 0.90), EYES[1]: (-0.28, 0.15, 0.90),
    EARS[0]: (0.62, 0.0, 0.0), EARS[1]: (-0.62, 0.0, 0.0),
}  # fmt: skip
"""Places of the face, which mocap skeletons lack, from the end of the head bone, which lies between the ears, along
the head's axes (left, up, forward): synthesised, rigid with the head, alike in all people."""

BONES_USED = (*(f"{side}{bone}" for side in "lr" for bone, _ in PLACES.values()), HEAD_BONE)


@dataclass(frozen=True)
class Bone:
    """One bone in the rest pose.

    Attributes:
        offset: (3,) from its start to its end, metres, world axes.
        axis: (3, 3) C, its own coordinates in the world's.
        dof: names of its angles, of rx, ry and rz, in the file's order.
    """

    name: str
    parent: str
    offset: np.ndarray
    axis: np.ndarray
    dof: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """A subject. `bones` are sorted parents first; `scale` is metres a unit of the file.

    Attributes:
        root_order: names of the root's values, of tx, ty, tz, rx, ry and rz.
        root_turns: the root's angles in the order in which they act.
        root_axis: (3, 3) orientation of the root's coordinates; root_position: (3,) metres.
    """

    scale: float
    degrees: bool
    root_order: tuple[str, ...]
    root_turns: tuple[str, ...]
    root_axis: np.ndarray
    root_position: np.ndarray
    bones: tuple[Bone, ...]


def read_skeleton(path: Path) -> Skeleton:
    """Read an .asf file. Raises SequenceError `broken` or `wrong_skeleton`."""
    try:
        return _skeleton(_sections(path))
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise SequenceError("broken", f"{path.name}: {type(error).__name__}: {error}") from None


def read_motion(path: Path, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Values (N, D) of each bone with degrees of freedom, and of the root, as the .amc file has them.

    Raises SequenceError `broken`: other bones or numbers than the skeleton's, frames out of order, cut off.
    """
    widths = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof}
    widths[ROOT] = len(skeleton.root_order)
    frames: list[dict[str, list[float]]] = []
    first = 0
    try:
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
            words = line.split()
            if not words or words[0][0] in "#:":
                continue
            if len(words) == 1 and words[0].isdigit():
                first = first or int(words[0])
                if int(words[0]) != first + len(frames):
                    raise ValueError(f"line {number}: frame {words[0]} after {first + len(frames) - 1}")
                frames.append({})
            elif len(words) - 1 != widths.get(words[0]):
                raise ValueError(f"line {number}: {line!r} does not fit the skeleton")
            else:
                frames[-1][words[0]] = [float(word) for word in words[1:]]
        if lacking := [first + k for k, frame in enumerate(frames) if frame.keys() != widths.keys()]:
            raise ValueError(f"frames {lacking[:5]} lack bones")
        if len(frames) < 2:
            raise ValueError(f"{len(frames)} frames")
    except (ValueError, IndexError) as error:
        raise SequenceError("broken", f"{path.name}: {error}") from None
    return {name: np.array([frame[name] for frame in frames]) for name in widths}


def forward(skeleton: Skeleton, motion: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], ...]:
    """Where the bones are: starts (N, 3) and ends (N, 3) in metres, world, and rotations (N, 3, 3), by bone."""
    values = dict(zip(skeleton.root_order, motion[ROOT].T, strict=True))
    place = skeleton.scale * np.stack([values[name] for name in ("tx", "ty", "tz")], axis=-1)
    turns = np.stack([values[name] for name in skeleton.root_turns], axis=-1)
    ends = {ROOT: place + skeleton.root_position}
    turned = _turn(turns, skeleton.root_turns, skeleton.degrees)
    rotations = {ROOT: skeleton.root_axis @ turned @ skeleton.root_axis.T}
    starts = {}
    for bone in skeleton.bones:
        rotation = rotations[bone.parent]
        if bone.dof:
            own = _turn(motion[bone.name], bone.dof, skeleton.degrees)
            rotation = rotation @ (bone.axis @ own @ bone.axis.T)
        starts[bone.name], rotations[bone.name] = ends[bone.parent], rotation
        ends[bone.name] = ends[bone.parent] + rotation @ bone.offset
    return starts, ends, rotations


def seventeen_joints(skeleton: Skeleton, motion: dict[str, np.ndarray]) -> np.ndarray:
    """Poses (N, 17, 3) in metres, world frame. Raises SequenceError `wrong_skeleton`: bones are missing."""
    names = {bone.name for bone in skeleton.bones}
    if missing := [name for name in BONES_USED if name not in names]:
        raise SequenceError("wrong_skeleton", f"has no bones {', '.join(missing)}")
    starts, ends, rotations = forward(skeleton, motion)
    pose = np.empty((len(motion[ROOT]), N_JOINTS, 3))
    for side, letter in (("left", "l"), ("right", "r")):
        for part, (bone, end) in PLACES.items():
            pose[:, JOINT[f"{side}_{part}"]] = (starts, ends)[end][f"{letter}{bone}"]
    legs = [bone for bone in skeleton.bones if bone.name[1:] in ("femur", "tibia")]
    unit = HEAD_SHARE * sum(float(np.linalg.norm(bone.offset)) for bone in legs) / 2
    for joint, place in FACE.items():
        pose[:, joint] = ends[HEAD_BONE] + unit * (rotations[HEAD_BONE] @ np.array(place))
    return pose


def _turn(angles: np.ndarray, names: tuple[str, ...], degrees: bool) -> np.ndarray:
    """Rotations (N, 3, 3) about fixed axes, the first one named (rx, ry or rz) acting first."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("".join(name[1] for name in names), angles, degrees=degrees).as_matrix()


# ---------------------------------------------------------------- the .asf file


def _sections(path: Path) -> dict[str, list[list[str]]]:
    """Keyword without its colon -> the lines below it, in words; what stands beside the keyword comes first."""
    sections: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in path.read_text(encoding="ascii").splitlines():
        words = line.split("#")[0].split()
        if words and words[0].startswith(":"):
            lines = sections.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            lines.append(words)
    return sections


def _skeleton(sections: dict[str, list[list[str]]]) -> Skeleton:
    units = {line[0]: line[1] for line in sections["units"]}
    if units["angle"] not in ("deg", "rad"):
        raise ValueError(f"angle {units['angle']}: expected deg or rad")
    scale, degrees = INCH / float(units["length"]), units["angle"] == "deg"
    root = {line[0]: line[1:] for line in sections["root"]}
    order = tuple(word.lower() for word in root["order"])
    if sorted(order) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
        raise ValueError(f"root order {' '.join(order)}: expected tx ty tz rx ry rz in some order")
    turns = _turns(root["axis"][0])
    parents = {child: line[0] for line in sections["hierarchy"] for child in line[1:] if line[0] != "begin"}
    bones = {bone.name: bone for bone in (_bone(b, parents, scale, degrees) for b in _blocks(sections))}
    return Skeleton(
        scale=scale,
        degrees=degrees,
        root_order=order,
        root_turns=turns,
        root_axis=_turn(np.array(root["orientation"], float), turns, degrees),
        root_position=scale * np.array(root["position"], float),
        bones=tuple(_parents_first(bones)),
    )


def _blocks(sections: dict[str, list[list[str]]]) -> Iterator[dict[str, list[str]]]:
    block: dict[str, list[str]] = {}
    for line in sections["bonedata"]:
        if line[0] == "begin":
            block = {}
        elif line[0] == "end":
            yield block
        else:
            block[line[0]] = line[1:]


def _bone(block: dict[str, list[str]], parents: dict[str, str], scale: float, degrees: bool) -> Bone:
    name = block["name"][0]
    direction = np.array(block["direction"], float)
    if not 0.99 < np.linalg.norm(direction) < 1.01:
        raise ValueError(f"{name}: direction {' '.join(block['direction'])} is no unit vector")
    dof = tuple(word.lower() for word in block.get("dof", []))
    if other := [word for word in dof if word not in ("rx", "ry", "rz")]:
        raise ValueError(f"{name}: degrees of freedom {', '.join(other)}; bones can only turn here")
    return Bone(
        name=name,
        parent=parents[name],
        offset=scale * float(block["length"][0]) * direction / np.linalg.norm(direction),
        axis=_turn(np.array(block["axis"][:3], float), _turns(block["axis"][3]), degrees),
        dof=dof,
    )


def _turns(letters: str) -> tuple[str, ...]:
    if sorted(letters.upper()) != ["X", "Y", "Z"]:
        raise ValueError(f"axis order {letters}: expected X, Y and Z in some order")
    return tuple(f"r{letter}" for letter in letters.lower())


def _parents_first(bones: dict[str, Bone]) -> Iterator[Bone]:
    done, waiting = {ROOT}, dict(bones)
    while waiting:
        ready = [bone for bone in waiting.values() if bone.parent in done]
        if not ready:
            raise ValueError(f"bones {', '.join(sorted(waiting))} do not hang on the root")
        for bone in ready:
            done.add(bone.name)
            del waiting[bone.name]
            yield bone

"""A procedural dancer: smooth, beat-locked whole-body motion of seventeen joints, metres, world frame (Y up).

Feet are planned first (steps on the beat, still while planted) and the legs follow by inverse kinematics;
trunk, head and arms move by forward kinematics from band-limited joint angles within their limits. Body
coordinates: x to the dancer's left, y up, z forward, equal to the world's axes at heading 0 (facing c01).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from stages.pose.body.skeleton import ARMS, HIPS, JOINT, LEGS, N_JOINTS, SHOULDERS

FPS = 60.0


@dataclass(frozen=True)
class Style:
    """How a genre moves.

    Attributes:
        bpm: beats a minute.
        bounce, squat: how far the hips go down on the beat, and in a squat (share of the leg).
        step, lift: typical length and height of a step in metres.
        turn: typical change of heading a step, degrees.
        arms: amplitude of the arms' angles, 0 to 1.
        wave: delay of elbow behind shoulder and of right behind left arm, in beats (arm waves).
        lean: amplitude of the trunk's angles, degrees.
        floor: chance that a sequence holds a deep bend with the hands near the floor.
    """

    bpm: float
    bounce: float
    squat: float
    step: float
    lift: float
    turn: float
    arms: float
    wave: float
    lean: float
    floor: float


STYLES: dict[str, Style] = {
    # break, pop, lock, middle hip-hop, LA hip-hop, house, waack, krump, street jazz, ballet jazz
    "BR": Style(100, 0.09, 0.30, 0.30, 0.14, 20, 0.80, 0.05, 14, 0.8),
    "PO": Style(90, 0.03, 0.10, 0.16, 0.05, 12, 0.90, 0.30, 8, 0.0),
    "LO": Style(105, 0.06, 0.22, 0.25, 0.12, 18, 1.00, 0.05, 12, 0.1),
    "MH": Style(95, 0.09, 0.16, 0.22, 0.10, 15, 0.70, 0.12, 12, 0.1),
    "LH": Style(100, 0.07, 0.16, 0.22, 0.10, 20, 0.85, 0.15, 12, 0.1),
    "HO": Style(120, 0.06, 0.08, 0.26, 0.14, 25, 0.50, 0.10, 8, 0.0),
    "WA": Style(110, 0.03, 0.10, 0.20, 0.08, 25, 1.00, 0.25, 10, 0.0),
    "KR": Style(90, 0.10, 0.24, 0.35, 0.22, 15, 0.95, 0.04, 16, 0.2),
    "JS": Style(115, 0.04, 0.12, 0.35, 0.25, 45, 0.80, 0.10, 12, 0.1),
    "JB": Style(95, 0.03, 0.14, 0.32, 0.35, 45, 0.75, 0.15, 14, 0.1),
}


@dataclass(frozen=True)
class Body:
    """Segment lengths of one dancer in metres; `hips` and `shoulders` are widths."""

    torso: float
    hips: float
    shoulders: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    ankle: float
    neck: float
    head: float

    @property
    def leg(self) -> float:
        return self.thigh + self.shin


def random_body(rng: np.random.Generator) -> Body:
    """A body of 1.50 to 1.85 m; proportions scatter by a few percent around those of AIST++'s dancers."""
    height = np.clip(rng.normal(1.67, 0.08), 1.48, 1.88)
    shares = {
        "torso": 0.305, "hips": 0.130, "shoulders": 0.205, "upper_arm": 0.160, "forearm": 0.145,
        "thigh": 0.235, "shin": 0.225, "ankle": 0.050, "neck": 0.120, "head": 0.070,
    }  # fmt: skip
    return Body(**{name: float(height * share * rng.normal(1, 0.04)) for name, share in shares.items()})


def dance(body: Body, style: Style, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Joint positions (n_frames, 17, 3) in metres, world frame, floor at y = 0, at 60 frames a second."""
    margin = int(FPS)  # filters settle before and after the piece that is kept
    total = n_frames + 2 * margin
    beat = style.bpm / 60 * np.arange(total) / FPS + rng.uniform()
    heading, left_foot, right_foot = _steps(body, style, beat, rng)
    bend = _deep_bend(style, beat, rng)
    root = _root(body, style, beat, left_foot, right_foot, bend, rng)
    pelvis = _yaw(heading) @ _pitch(4 + 25 * bend) @ _roll(_wave(beat, 0.5, 4, rng))
    trunk = (
        pelvis
        @ _yaw(np.radians(style.lean * 1.4) * _rhythm(beat, rng))
        @ _pitch(6 + 60 * bend + (1 - bend) * style.lean * np.maximum(_rhythm(beat, rng), -0.7))
        @ _roll(style.lean * 0.8 * _rhythm(beat, rng))
    )
    pose = np.empty((total, N_JOINTS, 3))
    neck_base = root + trunk @ np.array([0, body.torso, 0])
    head = (
        trunk @ _yaw(np.radians(25) * _noise(total, 0.6, rng)) @ _pitch(12 * _rhythm(beat, rng) - 30 * bend)
    )
    for name, place in _head_joints(body).items():
        pose[:, JOINT[name]] = neck_base + head @ place
    for side, (sign, foot) in enumerate(((1, left_foot), (-1, right_foot))):
        shrug = 0.02 * _noise(total, 0.5, rng)
        pose[:, SHOULDERS[side]] = neck_base + _apply(trunk, sign * body.shoulders / 2, shrug, 0)
        pose[:, HIPS[side]] = root + pelvis @ np.array([sign * body.hips / 2, 0, 0])
        delay = side * style.wave
        upper, fore = _arm(style, beat - delay, sign, bend, rng)
        _, elbow, wrist = ARMS[side]
        shoulder = pose[:, SHOULDERS[side]]
        free_elbow = shoulder + body.upper_arm * np.einsum("tij,tj->ti", trunk, upper)
        hand = free_elbow + body.forearm * np.einsum("tij,tj->ti", trunk, fore)
        hand[:, 1] = _soft_floor(hand[:, 1], body.ankle)
        pose[:, elbow], pose[:, wrist] = _two_bones(
            body.upper_arm, body.forearm, shoulder, hand, free_elbow - shoulder
        )
        _, knee, ankle = LEGS[side]
        hip = pose[:, HIPS[side]]
        towards = _knee_direction(pelvis, sign, foot - hip)
        pose[:, knee], pose[:, ankle] = _two_bones(body.thigh, body.shin, hip, foot, towards)
    return pose[margin : margin + n_frames]


def _head_joints(body: Body) -> dict[str, np.ndarray]:
    """Places of the face in the head's frame, from the base of the neck."""
    up, size = body.neck, body.head
    places = {"nose": np.array([0, up, 1.3 * size])}
    for side, sign in (("left", 1), ("right", -1)):
        places[f"{side}_eye"] = np.array([sign * 0.28 * size, up + 0.35 * size, 1.1 * size])
        places[f"{side}_ear"] = np.array([sign * 0.62 * size, up + 0.20 * size, 0.2 * size])
    return places


def _steps(
    body: Body, style: Style, beat: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heading (T,) in radians and path (T, 3) of either ankle: one foot moves per beat, the other stands."""
    first, last = int(np.floor(beat[0])) - 1, int(np.ceil(beat[-1])) + 1
    n_beats = last - first + 1
    turns = np.radians(style.turn) * rng.standard_normal(n_beats)
    heading_at = rng.normal(0, 0.35) + np.cumsum(turns)
    spin = rng.integers(3, max(4, n_beats - 3))
    if rng.uniform() < 0.35:  # a full turn over four beats
        heading_at += 2 * np.pi * rng.choice([-1, 1]) * np.clip((np.arange(n_beats) - spin) / 4, 0, 1)
    path = gaussian_filter1d(rng.normal(0, style.step, (n_beats, 2)), 1.0, axis=0) * 1.4
    stance = body.hips * np.exp(rng.normal(0.35, 0.25, n_beats))
    stagger = rng.normal(0, 0.45 * style.step, (n_beats, 2))
    feet = np.zeros((2, n_beats, 3))
    for side, sign in enumerate((1, -1)):
        across = np.stack([np.cos(heading_at), -np.sin(heading_at)], axis=1)
        along = np.stack([np.sin(heading_at), np.cos(heading_at)], axis=1)
        ground = (
            path
            + sign * stance[:, None] / 2 * across
            + (sign * stagger[:, :1] + 0.3 * stagger[:, 1:]) * along
        )
        feet[side][:, [0, 2]] = ground
    moves = (np.arange(n_beats) + rng.integers(2)) % 2
    rests = rng.uniform(size=n_beats) < 0.15
    for k in range(1, n_beats):
        for side in range(2):
            if moves[k] != side or rests[k]:
                feet[side, k] = feet[side, k - 1]
    phase = beat - first
    whole = np.clip(phase.astype(int), 0, n_beats - 2)
    part = np.clip((phase - whole) / 0.65, 0, 1)  # the foot lands after 65 % of the beat
    ease = part**3 * (10 - 15 * part + 6 * part**2)
    lifts = style.lift * rng.uniform(0.5, 1.5, n_beats)
    tracks = []
    for side in range(2):
        start, end = feet[side, whole], feet[side, whole + 1]
        track = start + ease[:, None] * (end - start)
        moving = np.linalg.norm(end - start, axis=1) > 0
        track[:, 1] = body.ankle + moving * lifts[whole + 1] * 64 * part**3 * (1 - part) ** 3
        tracks.append(gaussian_filter1d(track, 1.5, axis=0))
    heading = gaussian_filter1d(heading_at[whole] + ease * (heading_at[whole + 1] - heading_at[whole]), 8)
    return heading, tracks[0], tracks[1]


def _root(
    body: Body,
    style: Style,
    beat: np.ndarray,
    left_foot: np.ndarray,
    right_foot: np.ndarray,
    bend: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Path (T, 3) of the middle of the hips: over the feet, as high as both legs reach, lower on the beat."""
    weight = 0.5 + 0.22 * _noise(len(beat), 0.5, rng)
    over = weight[:, None] * left_foot + (1 - weight[:, None]) * right_foot
    root = gaussian_filter1d(over, 8, axis=0)
    dips = np.logaddexp(0, 4 * _noise(len(beat), 0.45, rng) - 2) / 2  # mostly none, now and then deep
    squat = (1 - 0.7 * bend) * style.squat * dips
    down = style.bounce * 0.5 * (1 + np.cos(2 * np.pi * beat)) + squat
    height = body.ankle + body.leg * (0.975 - np.minimum(down, 0.5))
    for foot in (left_foot, right_foot):
        apart = np.hypot(*(foot - root)[:, [0, 2]].T) + body.hips / 2
        reach = np.sqrt(np.maximum((0.985 * body.leg) ** 2 - apart**2, (0.35 * body.leg) ** 2))
        height = np.minimum(height, foot[:, 1] + reach)
    root[:, 1] = gaussian_filter1d(height, 3)
    return root


def _knee_direction(pelvis: np.ndarray, sign: int, reach: np.ndarray) -> np.ndarray:
    """Where a knee points (T, 3): forwards, a little outwards, and upwards where the leg itself is ahead."""
    forward = pelvis[..., 2]
    ahead = (forward * reach).sum(1, keepdims=True) / np.linalg.norm(reach, axis=1, keepdims=True)
    return forward + 0.25 * sign * pelvis[..., 0] + 1.5 * np.maximum(ahead, 0) * pelvis[..., 1]


def _two_bones(
    upper: float, lower: float, start: np.ndarray, target: np.ndarray, towards: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end joint (T, 3) of a chain of two bones from `start` to `target`, bent `towards` a side.

    A target out of reach is approached along the straight line.
    """
    reach = target - start
    length = np.linalg.norm(reach, axis=1, keepdims=True)
    axis = reach / length
    length = np.clip(length, 1.05 * abs(upper - lower) + 0.05 * upper, 0.998 * (upper + lower))
    along = (length**2 + upper**2 - lower**2) / (2 * length)
    aside = np.sqrt(np.maximum(upper**2 - along**2, 0))
    normal = towards - (towards * axis).sum(1, keepdims=True) * axis
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return start + along * axis + aside * normal, start + length * axis


def _soft_floor(height: np.ndarray, floor: float) -> np.ndarray:
    """Heights that bend smoothly into `floor` instead of passing below it."""
    softness = 0.03
    return floor + softness * np.logaddexp(0, (height - floor) / softness)


def _arm(
    style: Style, beat: np.ndarray, sign: int, bend: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (T, 3) of upper arm and forearm in the trunk's frame.

    Worked out for a left arm: elevation from hanging, plane (0 sideways, 90 forwards), twist about the upper
    arm and flexion of the elbow, each squashed into its range; the right arm is the mirror image.
    """
    size, n = style.arms, len(beat)
    high = rng.uniform(-0.4, 0.5)
    elevation = 65 + 60 * np.tanh(high + size * (0.7 * _rhythm(beat, rng) + 0.8 * _noise(n, 0.5, rng)))
    plane = 45 + 60 * np.tanh(0.8 * size * (_noise(n, 0.6, rng) + 0.4 * _rhythm(beat, rng)))
    twist = 10 + 60 * np.tanh(0.8 * _noise(n, 0.5, rng) + rng.uniform(-0.5, 0.5))
    late = beat - style.wave
    flexion = 70 + 62 * np.tanh(
        rng.uniform(-0.4, 0.4) + size * (0.9 * _rhythm(late, rng) + 0.7 * _noise(n, 0.6, rng))
    )
    elevation, plane = (1 - bend) * elevation + bend * 95, (1 - bend) * plane + bend * 85
    flexion = (1 - bend) * flexion + bend * 12
    shoulder = _yaw(-np.radians(plane)) @ _roll(elevation) @ _yaw(np.radians(twist))
    upper = shoulder @ np.array([0.0, -1.0, 0.0])
    fore = np.einsum("tij,tj->ti", shoulder, (_pitch(-flexion) @ np.array([0.0, -1.0, 0.0])))
    side = np.array([float(sign), 1.0, 1.0])
    return upper * side, fore * side


def _deep_bend(style: Style, beat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How far (T,) the dancer is bent down to the floor, 0 to 1: one smooth bout, or none."""
    centre = beat[0] + rng.uniform(0.3, 0.7) * (beat[-1] - beat[0])
    if rng.uniform() >= style.floor:
        return np.zeros(len(beat))
    return np.exp(-(np.abs((beat - centre) / rng.uniform(1.0, 1.8)) ** 4))


def _rhythm(beat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wave (T,) of about unit size locked to the beat: quarter, half and full time, slowly modulated."""
    weights = rng.dirichlet([2.0, 1.2, 0.25])
    phases = rng.uniform(0, 2 * np.pi, 3)
    waves = np.cos(2 * np.pi * np.outer(beat, [0.25, 0.5, 1.0]) + phases)
    return 1.5 * (waves @ weights) * (1 + 0.35 * _noise(len(beat), 1.0, rng))


def _wave(beat: np.ndarray, rate: float, size: float, rng: np.random.Generator) -> np.ndarray:
    return size * np.cos(2 * np.pi * rate * beat + rng.uniform(0, 2 * np.pi))


def _noise(n: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Band-limited noise (n,) of zero mean and unit deviation that changes over about `seconds`."""
    sigma = seconds * FPS / 2
    pad = int(4 * sigma) + 1
    smooth = gaussian_filter1d(rng.standard_normal(n + 2 * pad), sigma)[pad : pad + n]
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def _apply(rotation: np.ndarray, x: float, y: np.ndarray, z: float) -> np.ndarray:
    points = np.stack([np.full_like(y, x), y, np.full_like(y, z)], axis=1)
    return np.einsum("tij,tj->ti", rotation, points)


def _axis_rotation(axis: int, radians: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) about one coordinate axis, right-handed."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.zeros((len(radians), 3, 3))
    rotation[:, axis, axis] = 1
    rotation[:, i, i] = rotation[:, j, j] = np.cos(radians)
    rotation[:, j, i] = np.sin(radians)
    rotation[:, i, j] = -rotation[:, j, i]
    return rotation


def _yaw(radians: np.ndarray) -> np.ndarray:
    """About y (up): positive turns the dancer to the left."""
    return _axis_rotation(1, radians)


def _pitch(degrees: np.ndarray) -> np.ndarray:
    """About x (left): positive bends forwards."""
    return _axis_rotation(0, np.radians(degrees))


def _roll(degrees: np.ndarray) -> np.ndarray:
    """About z (forward): positive takes a hanging arm out to the left."""
    return _axis_rotation(2, np.radians(degrees))

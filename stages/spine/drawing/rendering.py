"""From a spine to a picture: soft tissue, ribs, shoulders, pelvis and vertebrae add up to attenuation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.spine.drawing import bones, tissue
from stages.spine.drawing.anatomy import CERVICAL, Spine
from stages.spine.drawing.exposure import expose


@dataclass(frozen=True)
class Pose:
    """Where a spine lies on the canvas: pixel = offset + scale * spine units."""

    scale: float
    offset: tuple[float, float]

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) in spine units to canvas pixels."""
        return np.asarray(points) * self.scale + self.offset


def render_film(rng: np.random.Generator, spine: Spine, pose: Pose, size: tuple[int, int]) -> np.ndarray:
    """Draw a film of `size` (height, width), uint8, with the spine at `pose`."""
    body = tissue.Body.around(rng, pose.place(spine.line), pose.scale, size)
    canvas = tissue.soft_tissue(rng, body)
    _draw_ribs(rng, canvas, spine, pose, body)
    _draw_shoulders(rng, canvas, body)
    _draw_pelvis(rng, canvas, spine, pose)
    _draw_vertebrae(rng, canvas, spine, pose)
    tissue.add_gas(rng, canvas, body)
    return expose(rng, canvas)


def _draw_vertebrae(rng: np.random.Generator, canvas: np.ndarray, spine: Spine, pose: Pose) -> None:
    column = np.zeros_like(canvas)
    rim = rng.uniform(0.75, 1.25)
    count = len(spine.corners)
    for i, corners in enumerate(spine.corners):
        level = (i - CERVICAL) / (count - CERVICAL - 1)
        thoracic = 0 <= level < 0.7
        look = bones.VertebraLook(
            level=level,
            rotation=float(spine.rotation[i]),
            transverse=rng.uniform(0.28, 0.45) if thoracic else rng.uniform(0.2, 0.4),
            rim=rim * rng.uniform(0.85, 1.15),
        )
        bones.add_vertebra(column, pose.place(corners), look, 1.0)
    bones.add_band(column, pose.place(spine.corners), 0.40)
    trabeculae = 1 + 0.05 * tissue.clouds(rng, canvas.shape, 0.006 * pose.scale)
    column *= trabeculae + 0.06 * tissue.clouds(rng, canvas.shape, 0.03 * pose.scale)
    canvas += rng.uniform(0.36, 0.62) * cv2.GaussianBlur(column, (0, 0), rng.uniform(0.7, 1.3))


def _draw_ribs(
    rng: np.random.Generator, canvas: np.ndarray, spine: Spine, pose: Pose, body: tissue.Body
) -> None:
    """Twelve pairs: each leaves its vertebra, runs around the back, and most return at the front."""
    scale = pose.scale
    strength = rng.uniform(0.6, 1.15)
    front: list[np.ndarray] = []
    t = np.linspace(0, 1, 24)
    for level in range(12):
        corners = pose.place(spine.labelled[level])
        reach = scale * (0.14 + 0.18 * np.sin(np.pi / 2 * min(1, (level + 0.3) / 6.5)))
        reach *= 1 if level < 10 else (0.85, 0.55)[level - 10]
        drop = scale * (0.055 + 0.013 * level) * rng.uniform(0.9, 1.1)
        pair = []
        for side, corner in ((-1, corners[0]), (1, corners[1])):
            turn = rng.normal(1, 0.05)
            wall = body.axis_at(corner[1] + drop) + side * reach
            x = corner[0] + (wall - corner[0]) * np.sin(t * np.pi / 2)
            rise = -0.012 * scale * np.sin(np.pi * np.minimum(t * 2.4, 1)) * (1 - level / 11)
            oblique = level / 11
            fall = (1 - oblique) * (1 - np.cos(t * np.pi / 2)) + oblique * np.sin(t * np.pi / 2) ** 1.2
            pair.append(np.stack([x, corner[1] + 0.008 * scale + rise + drop * turn * fall], 1))
            if 0 < level < 9:
                inward = rng.uniform(0.55, 0.75) * reach * (1 if level < 6 else 0.6)
                deep = scale * (0.06 + 0.012 * level)
                arc = [x[-1] - side * inward * t**1.3, pair[-1][-1, 1] + deep * np.sin(t * np.pi / 2)]
                front.append(np.stack(arc, 1))
        below_lung = 0.5 if level > 9 else 1.0
        width = scale * (0.021 + 0.0005 * level) * rng.uniform(0.9, 1.15)
        bones.add_tubes(canvas, pair, width, 0.25 * strength * below_lung * rng.uniform(0.8, 1.2))
    bones.add_tubes(canvas, front, 0.026 * scale, 0.09 * strength)


def _draw_shoulders(rng: np.random.Generator, canvas: np.ndarray, body: tissue.Body) -> None:
    """Collar bones, and the inner edges of the shoulder blades where the film is wide enough."""
    s = body.scale
    raised = rng.uniform(-0.05, 0.05)
    for side in (-1, 1):
        t = np.linspace(0, 1, 16)
        x = body.centre + side * s * (0.05 + 0.36 * t)
        y = body.top + s * (0.075 + raised - 0.10 * t + 0.03 * np.sin(2 * np.pi * t))
        bones.add_tubes(canvas, [np.stack([x, y], 1)], 0.030 * s, 0.24)
        blade_x = body.centre + side * s * (0.27 + rng.uniform(0, 0.04) + 0.05 * np.sin(np.pi * t))
        bones.add_lines(canvas, [np.stack([blade_x, body.top + s * (0.06 + 0.30 * t)], 1)], 0.010 * s, 0.12)


def _draw_pelvis(rng: np.random.Generator, canvas: np.ndarray, spine: Spine, pose: Pose) -> None:
    """Sacrum below L5 and the two iliac wings beside it."""
    lowest = pose.place(spine.labelled[-1])
    left, right = lowest[2], lowest[3]
    across = (right - left) / np.linalg.norm(right - left)
    down = np.array([-across[1], across[0]])
    middle, s = (left + right) / 2, pose.scale

    def at(x: float, y: float) -> np.ndarray:
        return middle + s * (x * across + y * down)

    outline = [at(-0.05, 0.025), at(0.05, 0.025), at(0.13, 0.06), at(0.115, 0.13), at(0.05, 0.30)]
    outline += [at(-0.05, 0.30), at(-0.115, 0.13), at(-0.13, 0.06)]
    bones.add_area(canvas, np.array(outline), 0.20, 0.014 * s, 0.05, 0.008 * s)
    bones.add_lines(canvas, [np.array([at(-0.048, 0.022), at(0, 0.03), at(0.048, 0.022)])], 0.004 * s, 0.12)
    for row in range(3):
        for side in (-1, 1):
            hole = at(side * (0.045 - 0.004 * row), 0.085 + 0.055 * row)
            bones.add_blob(canvas, hole, (0.011 * s, 0.009 * s), -0.16, 0.003 * s)
    height = rng.uniform(-0.06, 0.02)
    for side in (-1, 1):
        t = np.linspace(0, np.pi, 24)
        crest = np.stack([0.215 - 0.125 * np.cos(t), height + 0.27 - 0.27 * np.sin(t) ** 0.8], 1)
        wing = np.array([at(side * x, y) for x, y in crest])
        bones.add_area(canvas, wing, 0.20, 0.008 * s, 0.13, 0.005 * s)

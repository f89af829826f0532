"""A simulated monocular pose estimator: what a single-camera network would have said about known poses.

Its errors follow those measured on MediaPipe's world landmarks against a calibrated multi-camera system:

1. the skeleton comes out too small, by one factor a sequence and camera;
2. the whole body is rotated: it leans away from the camera by a constant angle, plus slow drift;
3. each joint is off in depth by a constant bias and a deviation of its own, less so across the picture;
4. these errors hang together in time (first-order autoregression);
5. limbs on the far side are seen worse; arms or legs change sides for a few frames; single joints fly off;
6. visibility falls with the error; the 2D detections carry errors of their own.

Everything drawn depends on (seed, sequence, camera, draw) alone. Results that rest on it are simulated, and
every column, metric and sentence about them says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.pose.body.frames import Camera, azimuth_elevation, project, rodrigues, root_relative
from stages.pose.body.skeleton import ARMS, HEAD, HIPS, JOINTS, LEGS, LIMBS, N_JOINTS


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rotation(_Block):
    """Degrees. `lean` away from the camera and `other` about the two other axes are constant in a view."""

    lean_mean: float
    lean_sd: float
    other_sd: float
    drift_sd: float


class Occlusion(_Block):
    """Limbs on the far side: visibility and error are multiplied by factors from these ranges."""

    visibility: tuple[float, float]
    error: tuple[float, float]


class Swaps(_Block):
    """Share of frames in which arms or legs change sides, in bouts of this many frames at 60 a second."""

    share: float = Field(ge=0, lt=1)
    frames: tuple[int, int]


class Outliers(_Block):
    """Share of joints that fly off in depth, by up to `metres` (log-uniform from 0.3)."""

    share: float = Field(ge=0, lt=1)
    metres: float = Field(gt=0.3)


class Visibility(_Block):
    """visibility = clip(1 - slope * error in metres + noise, 0, 1)"""

    slope: float
    noise_sd: float


class Estimator(_Block):
    """Parameters of the simulation; part of params.yaml, carried on to the model's card.

    Attributes:
        seed: decides all draws, together with the names of sequence and camera.
        scale_mean, scale_sd: by what the skeleton is divided.
        bias_cm: joint part -> constant depth error, positive away from the camera; `wrist` has either sign.
        sd_cm: joint part -> deviation of the depth error in time.
        across_share: deviation across the picture as a share of that in depth.
        correlation: of the errors of two frames in a row at 60 a second.
        limb_correlation: of the errors of two neighbouring joints of a limb, or of the head.
        pixel_share: deviation of the 2D detections as a share of `sd_cm`, at the person's distance.
    """

    seed: int
    scale_mean: float = Field(gt=0)
    scale_sd: float = Field(ge=0)
    rotation: Rotation
    bias_cm: dict[str, float]
    sd_cm: dict[str, float]
    across_share: float = Field(ge=0)
    correlation: float = Field(ge=0, lt=1)
    limb_correlation: float = Field(ge=0, lt=1)
    occlusion: Occlusion
    swaps: Swaps
    outliers: Outliers
    visibility: Visibility
    pixel_share: float = Field(ge=0)


@dataclass(frozen=True)
class Estimate:
    """What the simulated estimator says about one view.

    Attributes:
        pose: (T, 17, 3) metres, camera frame, root-relative.
        visibility: (T, 17) in [0, 1].
        uv_px: (T, 17, 2) detected pixels.
    """

    pose: np.ndarray
    visibility: np.ndarray
    uv_px: np.ndarray


def estimate_view(
    settings: Estimator,
    sequence: str,
    camera: Camera,
    pose: np.ndarray,
    root: np.ndarray,
    view: np.ndarray,
    fps: float,
    draw: int = 0,
) -> Estimate:
    """Simulate the estimator on one view.

    Args:
        sequence: name; with the camera's name and the seed it decides all draws.
        pose: (T, 17, 3) true poses, metres, camera frame, root-relative; NaN where there is no label.
        root: (T, 3) middle of the hips in the camera's frame, metres.
        view: (T, 3) true view directions (see `frames`): which limbs are on the far side.
        fps: frames a second; the correlation in time follows it.
        draw: another number gives errors of the same kind, drawn anew.
    """
    rng = np.random.default_rng(
        np.random.SeedSequence([settings.seed, number(sequence), number(camera.name), draw])
    )
    n = len(pose)
    rho = settings.correlation ** (60.0 / fps)
    hidden = _far_side(view)  # (T, 17) in [0, 1]
    factor = 1 + hidden * (rng.uniform(*settings.occlusion.error, size=N_JOINTS) - 1)

    deviation = (_by_joint(settings.sd_cm) / 100 * factor)[..., None]  # (T, 17, 1) metres

    scale = max(rng.normal(settings.scale_mean, settings.scale_sd), 0.5)
    rotation = _body_rotation(settings.rotation, n, rho, rng)
    error = deviation * _joint_noise(n, rho, settings.limb_correlation, rng)
    error[..., :2] *= settings.across_share
    error[..., 2] += _biases(settings.bias_cm, rng) + _outliers(settings.outliers, n, rng)
    guess = np.einsum("tij,tkj->tki", rotation, pose / scale) + error

    off = settings.pixel_share * deviation * _joint_noise(n, rho, settings.limb_correlation, rng)
    uv = project(pose + root[:, None] + off * np.array([1.0, 1.0, 0.0]), camera)

    order = _swapped_order(settings.swaps, n, fps, rng)
    guess = root_relative(np.take_along_axis(guess, order[..., None], axis=1))
    uv = np.take_along_axis(uv, order[..., None], axis=1)

    distance = np.nan_to_num(np.linalg.norm(guess - pose, axis=-1))
    seen = (
        1 - settings.visibility.slope * distance + rng.normal(0, settings.visibility.noise_sd, (n, N_JOINTS))
    )
    seen *= 1 + hidden * (rng.uniform(*settings.occlusion.visibility, size=N_JOINTS) - 1)
    return Estimate(guess, np.clip(seen, 0, 1), uv)


def number(name: str) -> int:
    """A number that stands for a name, the same everywhere."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _by_joint(parts: dict[str, float]) -> np.ndarray:
    """(17,) values of `head` (nose, eyes, ears) and of the parts named like joints."""
    return np.array([parts["head" if j in HEAD else name.split("_")[1]] for j, name in enumerate(JOINTS)])


def _biases(bias_cm: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """(17,) constant depth errors in metres; a wrist's has either sign."""
    bias = _by_joint(bias_cm) / 100
    for arm in ARMS:
        bias[arm[-1]] *= rng.choice([-1.0, 1.0])
    return bias


def _autoregressive(noise: np.ndarray, rho: float) -> np.ndarray:
    """First-order autoregression along axis 0, stationary, of unit deviation, driven by white `noise`."""
    values = noise.copy()
    fresh = np.sqrt(1 - rho**2)
    for t in range(1, len(values)):
        values[t] = rho * values[t - 1] + fresh * noise[t]
    return values


def _joint_noise(n: int, rho: float, limb_correlation: float, rng: np.random.Generator) -> np.ndarray:
    """(T, 17, 3) of unit deviation, correlated in time and from a joint to its neighbour further out."""
    noise = _autoregressive(rng.standard_normal((n, N_JOINTS, 3)), rho)
    for parent, child in (*LIMBS, *((HEAD[0], other) for other in HEAD[1:])):
        noise[:, child] = (
            limb_correlation * noise[:, parent] + np.sqrt(1 - limb_correlation**2) * noise[:, child]
        )
    return noise


def _body_rotation(settings: Rotation, n: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    """(T, 3, 3) rotations. About x (to the right), a negative angle takes the head (y < 0) farther away."""
    lean = -rng.normal(settings.lean_mean, settings.lean_sd)
    constant = np.array([lean, *rng.normal(0, settings.other_sd, 2)])
    drift = settings.drift_sd / np.sqrt(3) * _autoregressive(rng.standard_normal((n, 3)), rho)
    return rodrigues(np.radians(constant + drift))


def _far_side(view: np.ndarray) -> np.ndarray:
    """(T, 17) how far each joint's limb is on the side away from the camera, 0 to 1; trunk and head: 0."""
    azimuth, _ = azimuth_elevation(view)
    to_right = np.nan_to_num(np.sin(np.radians(azimuth)))
    hidden = np.zeros((len(view), N_JOINTS))
    for chains in (ARMS, LEGS):
        for chain, side in zip(chains, (1.0, -1.0), strict=True):  # the camera at the right hides the left
            hidden[:, list(chain[1:])] = np.clip((side * to_right - 0.4) / 0.3, 0, 1)[:, None]
    return hidden


def _outliers(settings: Outliers, n: int, rng: np.random.Generator) -> np.ndarray:
    """(T, 17) depth errors in metres of the few joints that fly off."""
    size = np.exp(rng.uniform(np.log(0.3), np.log(settings.metres), (n, N_JOINTS)))
    sign = rng.choice([-1.0, 1.0], (n, N_JOINTS))
    chosen = rng.uniform(size=(n, N_JOINTS)) < settings.share
    chosen[:, list(HIPS)] = False  # an estimator's poses are centred on the hips, so that these never fly off
    return np.where(chosen, sign * size, 0.0)


def _swapped_order(settings: Swaps, n: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """(T, 17) which joint stands in each place: bouts in which both arms or both legs change sides."""
    order = np.tile(np.arange(N_JOINTS), (n, 1))
    shortest, longest = (max(1, round(frames * fps / 60)) for frames in settings.frames)
    bouts = rng.poisson(2 * settings.share * n / (shortest + longest))
    for _ in range(bouts):
        left, right = (ARMS, LEGS)[rng.integers(2)]
        start = rng.integers(n)
        rows = slice(start, start + rng.integers(shortest, longest + 1))
        for a, b in zip(left[1:], right[1:], strict=True):
            order[rows, a], order[rows, b] = b, a
    return order

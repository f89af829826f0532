"""Augmentation of films with landmarks: one exact affine map for a film and its points, then photometry.

A film's map is drawn in its own (raw) proportions, so that a rotation is one of the patient and not of the
stretched picture, and applied once, in `model` px, to the stored film and to the points alike:

    warps = draw_warps(rng, settings, films.sizes_raw[rows], films.model_size)
    images = photometry(warp_films(films.images[rows], warps), rng)
    points = warp_points(points_model, warps, schema)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError


class PhotometricStep(BaseModel):
    """One transform of albumentations: its class name and arguments. Only those that move no pixel.

    So an ImageOnlyTransform, or a dropout, which hides pixels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    arguments: dict[str, Any]


class Augmentation(BaseModel):
    """How training films are varied.

    Attributes:
        mirror: probability of a left-right mirror, with the points' names swapped by the schema.
        rotation: up to this many degrees either way.
        log_scale: the film is scaled by e^u with u up to this either way.
        shift: up to this share of the film's width and height either way.
        photometric: applied in this order; empty for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirror: float = Field(ge=0, le=1)
    rotation: float = Field(ge=0, le=180)
    log_scale: float = Field(ge=0)
    shift: float = Field(ge=0, lt=1)
    photometric: tuple[PhotometricStep, ...]


@dataclass(frozen=True)
class Warps:
    """One map a film: (N, 2, 3) matrices on points in model px, and (N,) bool: does it mirror?"""

    matrices: np.ndarray
    mirrored: np.ndarray


def draw_warps(
    rng: np.random.Generator, settings: Augmentation, sizes_raw: np.ndarray, model_size: geometry.Size
) -> Warps:
    """Random maps for films of `sizes_raw` (N, 2: width, height) that are stored in `model_size` (H, W)."""
    n = len(sizes_raw)
    mirrored = rng.random(n) < settings.mirror
    degrees = rng.uniform(-settings.rotation, settings.rotation, n)
    scales = np.exp(rng.uniform(-settings.log_scale, settings.log_scale, n))
    shifts = rng.uniform(-settings.shift, settings.shift, (n, 2)) * sizes_raw
    matrices = np.empty((n, 2, 3))
    for i, (width, height) in enumerate(sizes_raw):
        raw_size = (int(height), int(width))
        chain = [
            geometry.resize_matrix(model_size, raw_size),
            geometry.similarity_matrix(raw_size, degrees[i], scales[i], *shifts[i]),
            geometry.resize_matrix(raw_size, model_size),
        ]
        if mirrored[i]:
            chain.insert(0, geometry.mirror_matrix(model_size[1]))
        matrices[i] = geometry.compose(*chain)
    return Warps(matrices, mirrored)


def mirror_warps(n: int, width: int) -> Warps:
    """A plain mirror of `n` films `width` model px wide."""
    return Warps(np.broadcast_to(geometry.mirror_matrix(width), (n, 2, 3)), np.ones(n, bool))


def warp_films(images: np.ndarray, warps: Warps) -> np.ndarray:
    """Resample films (N, H, W) uint8; what comes from outside a film is black."""
    size = images.shape[1:]
    return np.stack([geometry.warp(i, m, size) for i, m in zip(images, warps.matrices, strict=True)])


def warp_points(points: np.ndarray, warps: Warps, schema: LandmarkSchema) -> np.ndarray:
    """Map points (N, K, 2) in model px with their films; NaN stays NaN. Float64.

    Where a film is mirrored, the left point of each pair takes the name of the right one.
    """
    mapped = np.stack([geometry.apply(m, p) for m, p in zip(warps.matrices, points, strict=True)])
    mapped[warps.mirrored] = mapped[warps.mirrored][:, schema.swap]
    return mapped


class Photometry:
    """An albumentations pipeline from params; does nothing, and imports nothing, for an empty list.

    Raises:
        StageError: naming every step that does not exist, has wrong arguments or would move pixels.
    """

    def __init__(self, steps: tuple[PhotometricStep, ...]) -> None:
        self._pipeline = _pipeline(steps) if steps else None

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Vary films (N, H, W) uint8 one by one; `rng` decides everything."""
        if self._pipeline is None:
            return images
        varied = np.empty_like(images)
        for i, image in enumerate(images):
            self._pipeline.set_random_seed(int(rng.integers(2**31)))
            varied[i] = self._pipeline(image=image[:, :, None])["image"].reshape(image.shape)
        return varied


def _pipeline(steps: tuple[PhotometricStep, ...]) -> Any:
    import warnings

    import albumentations
    from albumentations.augmentations.dropout.transforms import BaseDropout

    still = (albumentations.ImageOnlyTransform, BaseDropout)
    transforms, problems = [], []
    for step in steps:
        kind = getattr(albumentations, step.name, None)
        if not (isinstance(kind, type) and issubclass(kind, still)):
            problems.append(
                f"  {step.name}: not a photometric transform (an ImageOnlyTransform or a dropout)"
            )
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # albumentations only warns of an unknown argument
                transforms.append(kind(**step.arguments))
        except (ValueError, TypeError, UserWarning) as error:
            problems.append(f"  {step.name}: {' '.join(str(error).split())}")
    if problems:
        raise StageError("augment.photometric cannot be built with albumentations:\n" + "\n".join(problems))
    return albumentations.Compose(transforms)

"""Floors: what a film lane reaches without a network, fitted and chosen on the same split.

    mean_shape           the mean of the training labels, for every film
    pca_shape            a principal-component shape model, its coefficients by ridge regression on HOG
    hog_kernel_ridge     every coordinate by Gaussian kernel ridge regression on HOG

Regressions see the training films and their mirror images, those of a lane without mirror partners only the
films. Their penalty and kernel width are those with the lowest mean radial error on the val films; gate and
test films decide nothing. All three work in model px on pictures shrunk to thumbnails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.floors.hog import hog
from stages.core.floors.ridge import KernelRidge, fit_ridges, kernel, typical_distance
from stages.core.floors.shape import ShapeModel, fit_shape_model
from stages.core.model.card import InputSize
from stages.core.params import StageParams

METHODS = ("mean_shape", "pca_shape", "hog_kernel_ridge")


class FloorParams(StageParams):
    """Parameters of a lane's floors; the lane's stage names the section.

    Attributes:
        threads: native threads.
        thumbnail: size that pictures are shrunk to before HOG.
        cells: sides of HOG's cells, in thumbnail px.
        orientations: HOG's bins over 180 degrees.
        variance: share of the shapes' variance that the shape model holds.
        widths: kernel widths to choose from, in typical distances between two films' descriptors.
        penalties: ridge penalties to choose from, relative to the kernel's mean diagonal.
    """

    threads: int
    thumbnail: InputSize
    cells: tuple[int, ...] = Field(min_length=1)
    orientations: int = Field(ge=2)
    variance: float = Field(gt=0, le=1)
    widths: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    # Less would drown in the kernel's single-precision rounding.
    penalties: tuple[Annotated[float, Field(ge=1e-5)], ...] = Field(min_length=1)


@dataclass(frozen=True)
class Descriptor:
    """How a picture of any size becomes a row of features."""

    height: int
    width: int
    cells: tuple[int, ...]
    orientations: int

    @classmethod
    def of(cls, params: FloorParams) -> Descriptor:
        return cls(params.thumbnail.height, params.thumbnail.width, params.cells, params.orientations)

    def thumbnails(self, pictures: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 -> (N, height, width) uint8."""
        small = np.empty((len(pictures), self.height, self.width), np.uint8)
        for i, picture in enumerate(pictures):
            small[i] = geometry.resize(np.asarray(picture), (self.height, self.width))
        return small

    def features(self, thumbnails: np.ndarray) -> np.ndarray:
        """(N, height, width) uint8 -> (N, D) float16."""
        return hog(thumbnails, self.cells, self.orientations)


@dataclass(frozen=True)
class Floors:
    """The three fitted floors of a film set; shapes in the model px of films of `size` (height, width)."""

    size: geometry.Size
    descriptor: Descriptor
    mean_shape: np.ndarray
    shape_model: ShapeModel
    coefficient_ridge: KernelRidge
    landmark_ridge: KernelRidge
    choices: dict[str, float]
    """what val chose, and the val error in raw px of each choice"""

    def predict(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Pictures (N, H, W) uint8 -> method -> (N, K, 2) points in model px of films of `size`."""
        return self.predict_features(self.descriptor.features(self.descriptor.thumbnails(pictures)))

    def predict_features(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """`predict` from descriptors (N, D) of the pictures."""
        n, shape = len(features), self.mean_shape.shape
        return {
            "mean_shape": np.broadcast_to(self.mean_shape, (n, *shape)).copy(),
            "pca_shape": self.shape_model.shapes(self.coefficient_ridge.predict(features)),
            "hog_kernel_ridge": self.landmark_ridge.predict(features).reshape(n, *shape),
        }

    def save(self, folder: Path) -> None:
        """Write floors.npz (arrays) and floors.json (what val chose)."""
        folder.mkdir(parents=True, exist_ok=True)
        assert self.landmark_ridge.width is not None
        np.savez(
            folder / "floors.npz",
            size=np.array(self.size),
            thumbnail=np.array([self.descriptor.height, self.descriptor.width]),
            cells=np.array(self.descriptor.cells),
            orientations=np.array(self.descriptor.orientations),
            mean_shape=self.mean_shape,
            shape_mean=self.shape_model.mean,
            shape_components=self.shape_model.components,
            features=self.landmark_ridge.features,
            coefficient_weights=self.coefficient_ridge.weights,
            coefficient_offset=self.coefficient_ridge.offset,
            landmark_weights=self.landmark_ridge.weights,
            landmark_offset=self.landmark_ridge.offset,
            landmark_width=np.array(self.landmark_ridge.width),
        )
        text = json.dumps({k: float(f"{v:.6g}") for k, v in self.choices.items()}, indent=2, sort_keys=True)
        (folder / "floors.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Floors:
        """Read the folder of `save`."""
        path = folder / "floors.npz"
        if not path.is_file():
            raise StageError(f"{path} does not exist: run `dvc repro` for the lane's floors")
        with np.load(path, allow_pickle=False) as held:
            a = dict(held)
        height, width = a["thumbnail"].tolist()
        return cls(
            size=(int(a["size"][0]), int(a["size"][1])),
            descriptor=Descriptor(height, width, tuple(a["cells"].tolist()), int(a["orientations"])),
            mean_shape=a["mean_shape"],
            shape_model=ShapeModel(a["shape_mean"], a["shape_components"]),
            coefficient_ridge=KernelRidge(
                a["features"], a["coefficient_weights"], a["coefficient_offset"], None
            ),
            landmark_ridge=KernelRidge(
                a["features"], a["landmark_weights"], a["landmark_offset"], float(a["landmark_width"])
            ),
            choices=json.loads((folder / "floors.json").read_text(encoding="utf-8")),
        )


def fit_floors(
    labelled: LabelledFilms,
    features: np.ndarray,
    mirrored: np.ndarray,
    schema: LandmarkSchema,
    params: FloorParams,
) -> Floors:
    """Fit all floors on the train films that may be trained on, and choose on val.

    Args:
        features: (N, D) descriptors of all films, in the store's order.
        mirrored: (n, D) descriptors of the mirrored trainable films, in the order of `labelled.trainable()`;
            (0, D) of a lane that mirrors none.
        schema: gives the points that change places on a mirror.
    """
    train, val = labelled.trainable("train"), labelled.trainable("val")
    if len(train) < 2 or len(val) == 0:
        raise StageError(
            f"floors need 2 whole labelled train films and 1 val film, found {len(train)} and {len(val)}: "
            "see the quarantine of the conversion and the shares of the split"
        )
    size = labelled.films.model_size
    shapes = labelled.landmarks_model[train]
    flipped = geometry.apply(geometry.mirror_matrix(size[1]), shapes)[:, schema.swap]
    doubled = np.concatenate([shapes, flipped[: len(mirrored)]])
    seen = np.concatenate([features[train], mirrored])
    shape_model = fit_shape_model(doubled, params.variance)

    def val_error(predicted_model: np.ndarray) -> float:
        raw = labelled.films.to_raw(predicted_model, val)
        return float(film_errors(radial_errors(raw, labelled.landmarks_raw[val])).mean())

    tried_linear = []
    for penalty, ridge, on_val in _candidates(
        seen, shape_model.coefficients(doubled), None, params.penalties, features[val]
    ):
        tried_linear.append((val_error(shape_model.shapes(on_val)), penalty, ridge))
    unit = typical_distance(seen)
    tried = []
    for width in params.widths:
        for penalty, ridge, on_val in _candidates(
            seen, doubled.reshape(len(doubled), -1), width * unit, params.penalties, features[val]
        ):
            tried.append((val_error(on_val.reshape(len(val), *shapes.shape[1:])), width, penalty, ridge))
    linear_error, linear_penalty, coefficient_ridge = min(tried_linear, key=lambda row: row[:2])
    kernel_error, kernel_width, kernel_penalty, landmark_ridge = min(tried, key=lambda row: row[:3])
    return Floors(
        size=size,
        descriptor=Descriptor.of(params),
        mean_shape=shapes.mean(0),
        shape_model=shape_model,
        coefficient_ridge=coefficient_ridge,
        landmark_ridge=landmark_ridge,
        choices={
            "pca_shape_components": len(shape_model.components),
            "pca_shape_penalty": linear_penalty,
            "pca_shape_val_raw_px": linear_error,
            "hog_kernel_ridge_width": kernel_width,
            "hog_kernel_ridge_penalty": kernel_penalty,
            "hog_kernel_ridge_val_raw_px": kernel_error,
        },
    )


def _candidates(
    features: np.ndarray,
    targets: np.ndarray,
    width: float | None,
    penalties: tuple[float, ...],
    val: np.ndarray,
) -> Iterator[tuple[float, KernelRidge, np.ndarray]]:
    """(penalty, regression, its prediction on the features `val`) for each penalty; one kernel for all."""
    across = kernel(val, features, width)
    for penalty, ridge in zip(penalties, fit_ridges(features, targets, width, penalties), strict=True):
        yield penalty, ridge, ridge.from_kernel(across)

"""One phantom film: whose spine, how bent, on a film of what size, and its picture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.data import geometry
from stages.core.data.decode import PHANTOM_MARK
from stages.spine.drawing.anatomy import Spine, build_spine, draw_curves
from stages.spine.drawing.rendering import Pose, render_film

_MARGIN = 3
"""canvas pixels that a label keeps from the film's edge"""


@dataclass(frozen=True)
class Range:
    """A skewed range: half of what it draws lies below the median, little near the ends."""

    least: float
    median: float
    greatest: float

    def draw(self, rng: np.random.Generator) -> float:
        z = float(np.clip(rng.normal(), -2.4, 2.4)) / 2.4
        end = self.greatest if z > 0 else self.least
        return float(self.median * (end / self.median) ** abs(z))


@dataclass(frozen=True)
class FilmPlan:
    """Everything that decides one film, small enough to send to a worker.

    Attributes:
        path: where the film goes.
        seed, patient, number: films of one patient show the same spine, bent a little more or less.
        rows, rows_per_column: size of the film.
        canvas_rows: height of the drawing that is enlarged to the film.
        cobb_mean, cobb_sd: of the largest Cobb angle, degrees.
        label_noise: standard deviation of labels about the true corners, in mean heights of a vertebra.
        jpeg_quality: of the film file.
    """

    path: Path
    seed: int
    patient: int
    number: int
    rows: Range
    rows_per_column: Range
    canvas_rows: int
    cobb_mean: float
    cobb_sd: float
    label_noise: float
    jpeg_quality: int

    def __str__(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class DrawnFilm:
    """A film that was drawn: (height, width), and its labels (17, 4, 2) in raw px."""

    size: geometry.Size
    points: np.ndarray


def draw_film(plan: FilmPlan) -> DrawnFilm:
    """Draw a film, write it as JPEG and return its labels. Depends on nothing but the plan."""
    from PIL import Image

    rng = np.random.default_rng([plan.seed, 3, plan.number])
    spine = _patients_spine(plan, rng)
    size = _film_size(plan, rng, spine)
    shrink = min(1.0, plan.canvas_rows / size[0])
    canvas_size = (round(size[0] * shrink), round(size[1] * shrink))
    pose = _pose(rng, spine, canvas_size)
    film = geometry.resize(render_film(rng, spine, pose, canvas_size), size)
    picture = Image.fromarray(film)
    picture.save(plan.path, "JPEG", quality=plan.jpeg_quality, comment=PHANTOM_MARK.encode())

    corners = geometry.apply(geometry.resize_matrix(canvas_size, size), pose.place(spine.labelled))
    height = np.linalg.norm(corners[:, 2:].mean(1) - corners[:, :2].mean(1), axis=-1).mean()
    labels = corners + rng.normal(0, plan.label_noise * height, corners.shape)
    return DrawnFilm(size, np.rint(labels).clip(0, [size[1] - 1, size[0] - 1]))


def _patients_spine(plan: FilmPlan, rng: np.random.Generator) -> Spine:
    """The patient's own curve pattern and build; this film's bend, lean and small differences."""
    own = np.random.default_rng([plan.seed, 2, plan.patient])
    shape = (plan.cobb_mean / plan.cobb_sd) ** 2  # of a gamma distribution
    cobb = own.gamma(shape, plan.cobb_mean / shape)
    curves = draw_curves(own, cobb)
    sturdiness = float(own.normal(1, 0.06))
    here = tuple(
        dataclasses.replace(
            curve, tilt=curve.tilt * rng.normal(1, 0.08), apex=curve.apex + rng.normal(0, 0.01)
        )
        for curve in curves
    )
    bend = float(np.clip(cobb * rng.uniform(0.85, 1.1), 5, 110))
    return build_spine(rng, here, bend, float(rng.normal(0, 1.8)), sturdiness)


def _film_size(plan: FilmPlan, rng: np.random.Generator, spine: Spine) -> geometry.Size:
    """(height, width): drawn from the ranges, but wide enough for the curve."""
    rows = plan.rows.draw(rng)
    extent = np.ptp(spine.labelled[..., 0]) / np.ptp(spine.labelled[..., 1])
    slender = min(plan.rows_per_column.draw(rng), 0.85 / extent)
    return round(rows), round(rows / max(slender, plan.rows_per_column.least))


def _pose(rng: np.random.Generator, spine: Spine, size: geometry.Size) -> Pose:
    """T1 near the upper edge, L5 above the lower one, the spine about the middle; all corners on the film."""
    height, width = size
    first, last = rng.normal(0.046, 0.010), rng.normal(0.903, 0.018)
    points = spine.labelled
    centres = points.mean(1)
    scale = (last - first) * height / (centres[-1, 1] - centres[0, 1])
    low, high = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    room = (np.array([width, height]) - 1 - 2 * _MARGIN) / (high - low)
    scale = float(min(scale, room.min()))
    wanted = np.array([
        width * rng.normal(0.5, 0.05) - scale * (low[0] + high[0]) / 2,
        first * height - scale * centres[0, 1],
    ])  # fmt: skip
    offset = np.clip(wanted, _MARGIN - scale * low, np.array([width, height]) - 1 - _MARGIN - scale * high)
    return Pose(scale, (float(offset[0]), float(offset[1])))

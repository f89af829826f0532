"""The two-step system as one ONNX file: whole film, aligned crop, both mirrored, all folds, points and radii."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.chest import phantom
from stages.chest.alignment import Canonical
from stages.chest.locating.inference import TrainedLocator, variance
from stages.chest.phantom_film import draw_film
from stages.chest.phantom_shape import sample_chest
from stages.chest.predict import radii_on
from stages.chest.radius import _LEAST
from stages.chest.schema import (
    AXIS_QUARTERS,
    BOTTOM,
    CHEST,
    LABEL_SIZE,
    LEFT,
    LEVELS,
    REPORT_FRAME,
    REPORT_SIZE,
    RIGHT,
    TOP,
)
from stages.chest.system_model import Rule, TrainedSystem
from stages.core.data import geometry
from stages.core.export import film as on_film
from stages.core.export.onnx_file import (
    FILM,
    FILM_SAYS,
    LANDMARKS,
    LANDMARKS_SAY,
    Exported,
    FilmModel,
    Inputs,
    Outputs,
    check_films,
    write_film_model,
)
from stages.core.model.inputs import as_input
from stages.core.params import load_params

RADIUS = "radius_px"
_TINY = float(np.finfo(np.float64).tiny)


def export(model: Path, file: Path) -> Exported:
    """Write the model of a folder of chest-system as ONNX; see `write_film_model`."""
    trained = TrainedSystem.open(model)
    return write_film_model(file, film_model(trained), [{FILM: film} for film in check_films(phantoms())])


def film_model(trained: TrainedSystem) -> FilmModel:
    """What the writer of ONNX files needs to know of an opened system."""

    def answer(inputs: Inputs) -> Outputs:
        found = trained.predict_film(inputs[FILM])
        return {LANDMARKS: found.points[0], RADIUS: radii_on(inputs[FILM], found.radius[0])}

    coverage = trained.card.params["coverage"]
    outputs = {
        LANDMARKS: LANDMARKS_SAY,
        RADIUS: f"(K,) float64, px of the film: holds the point with the probability {coverage:g}",
    }
    return FilmModel(trained.card, Graph(trained), {FILM: FILM_SAYS}, outputs, answer)


def phantoms() -> list[np.ndarray]:
    """A film of each class that the lane's phantom draws."""
    drawn, rng = load_params(phantom.Params), np.random.default_rng(0)
    chests = {kind: sample_chest(spread, drawn.widths, rng) for kind, spread in drawn.axis.items()}
    return [draw_film(chest, kind, LABEL_SIZE, rng) for kind, chest in chests.items()]


class Graph(nn.Module):
    """`TrainedSystem.predict_film` and the radii on the film, for one film."""

    def __init__(self, trained: TrainedSystem) -> None:
        super().__init__()
        self.stored = trained.stored_size
        self.rule, self.canonical, self.risk = trained.rule, trained.canonical, trained.radius
        self.coarse, self.fine = OneFrame(trained.coarse), OneFrame(trained.fine)

    def forward(self, film: Tensor) -> tuple[Tensor, Tensor]:
        stored = on_film.resize(film, self.stored)
        whole = on_film.fixed(geometry.resize_matrix(self.stored, self.coarse.size))
        first, first_spread = self.coarse(stored, whole)
        second, second_spread = self.fine(stored, aligning(self.canonical, first))
        apart = torch.linalg.vector_norm(first - second, dim=-1)
        told = torch.stack((first_spread, second_spread, apart), -1) * (REPORT_SIZE / self.stored[0])
        sizes = on_film.sizes(film)
        per_px = (sizes / on_film.fixed(REPORT_FRAME[::-1])).max()
        radius = radii(self.risk.coefficients, self.risk.quantiles, told) * per_px
        return on_film.resize_points(join(self.rule, first, second), self.stored, sizes), radius


class OneFrame(nn.Module):
    """`TrainedLocator.locate` of one film: all members, upright and mirrored."""

    def __init__(self, locator: TrainedLocator) -> None:
        super().__init__()
        self.members = nn.ModuleList(locator.members)
        self.codec, self.size = locator.codec, locator.settings.size
        self.cell = locator.settings.network.cell

    def forward(self, stored: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Film (h, w) and the map (2, 3) to the input -> points (K, 2) and spread (K,), px of the film."""
        swap = torch.from_numpy(CHEST.swap)
        mirror = on_film.fixed(geometry.mirror_matrix(self.size[1]))
        points, variances = [], []
        for mirrored in (False, True):
            view = on_film.compose(matrix, mirror) if mirrored else matrix
            back = on_film.invert(view)
            seen = as_input(on_film.warp(stored, view, self.size)[None])
            for network in self.members:
                maps = self.codec.activate(network(seen).float())
                found, about = self.codec.locate(maps)[0].double(), variance(maps, self.cell)[0].double()
                if mirrored:
                    found, about = found[swap], about[swap]
                points.append(on_film.apply(back, found))
                variances.append(about * on_film.area(back))
        return torch.stack(points).mean(0), torch.stack(variances).mean(0).sqrt()


def aligning(canonical: Canonical, guess: Tensor) -> Tensor:
    """`Canonical.maps` of one guess (K, 2): (2, 3)."""
    axes = right_and_down(guess[TOP], guess[BOTTOM])
    turned = guess @ axes.T
    centre = turned.mean(0)
    shape = on_film.fixed(canonical.shape)
    goal = shape.mean(0)
    spread = ((turned - centre) ** 2).sum(0).clamp_min(_TINY)
    scale = ((turned - centre) * (shape - goal)).sum(0) / spread
    return torch.cat((scale[:, None] * axes, (goal - scale * centre)[:, None]), 1)


def right_and_down(top: Tensor, bottom: Tensor) -> Tensor:
    """The unit vectors (2, 2) of `axis_frame` for one axis."""
    axis = bottom - top
    down = axis / torch.linalg.vector_norm(axis).clamp_min(_TINY)
    return torch.stack((torch.stack((down[1], -down[0])), down))


def join(rule: Rule, first: Tensor, second: Tensor) -> Tensor:
    """`Rule.join` of one film's points (K, 2)."""
    points = {"coarse": first, "fine": second, "mean": (first + second) / 2}[rule.answer]
    return projected(points) if rule.project else points


def projected(points: Tensor) -> Tensor:
    """`projection.project` of one shape (K, 2)."""
    levels = on_film.fixed(LEVELS)
    design = on_film.fixed(np.linalg.pinv(np.stack([1 - np.array(LEVELS), np.array(LEVELS)], axis=1)))
    top, bottom = design @ points[[TOP, *AXIS_QUARTERS, BOTTOM]]
    right, _ = right_and_down(top, bottom)
    feet = top + levels[:, None] * (bottom - top)
    places = {TOP: top, BOTTOM: bottom}
    places |= dict(zip(AXIS_QUARTERS, feet[1:4], strict=True))
    for side in (LEFT, RIGHT):
        off = (points[list(side)] - feet) @ right
        places |= dict(zip(side, feet + off[:, None] * right, strict=True))
    return torch.stack([places[i] for i in range(len(points))])


def radii(coefficients: np.ndarray, quantiles: np.ndarray, told: Tensor) -> Tensor:
    """`RadiusModel.radii` of spreads and distance (K, 3) in px at 224: (K,) in the same px."""
    design = (told + _LEAST).log()
    weights = on_film.fixed(coefficients)
    return (weights[0] + design @ weights[1:]).exp() * on_film.fixed(quantiles)

"""A ceph network as one ONNX file: its views of a film, its maps read as in prediction, and the expected errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.ceph import phantom
from stages.ceph.expected import FLOOR_PX
from stages.ceph.locating import warping
from stages.ceph.locating.inference import STILL
from stages.ceph.locating.model import TrainedCeph
from stages.ceph.phantom_film import draw_film, place_head
from stages.ceph.phantom_shape import sample_head
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

EXPECTED = "expected_error_px"


def export(model: Path, file: Path) -> Exported:
    """Write the model of a folder of ceph-base or ceph-tuned as ONNX; see `write_film_model`."""
    trained = TrainedCeph.open(model)
    return write_film_model(file, film_model(trained), [{FILM: film} for film in check_films(phantoms())])


def film_model(trained: TrainedCeph) -> FilmModel:
    """What the writer of ONNX files needs to know of an opened model."""

    def answer(inputs: Inputs) -> Outputs:
        found = trained.predict_film(inputs[FILM])
        return {LANDMARKS: found.points[0], EXPECTED: found.expected_error[0]}

    outputs = {
        LANDMARKS: LANDMARKS_SAY,
        EXPECTED: "(K,) float64, px of the film: calibrated mean distance to the truth",
    }
    return FilmModel(trained.card, Graph(trained), {FILM: FILM_SAYS}, outputs, answer)


def phantoms(n: int = 3) -> list[np.ndarray]:
    """Films of heads that the lane's phantom draws."""
    drawn, rng = load_params(phantom.Params), np.random.default_rng(0)
    heads = [sample_head(drawn.measures, rng) for _ in range(n)]
    return [draw_film(head, place_head(head, drawn.look, rng), drawn.look, rng) for head in heads]


class Graph(nn.Module):
    """`TrainedCeph.predict_film` for one film."""

    def __init__(self, trained: TrainedCeph) -> None:
        super().__init__()
        self.stored, self.size = trained.stored_size, trained.settings.input.size
        self.network, self.reader = trained.locator.network, trained.locator.reader
        self.views = warping.fixed_views(trained.settings.views, self.size)
        self.expected = trained.expected

    def forward(self, film: Tensor) -> tuple[Tensor, Tensor]:
        stored = on_film.resize(film, self.stored)
        read = stored if self.stored == self.size else on_film.resize(stored, self.size)
        seen = [self._seen(read, view) for view in self.views]
        points, peak, spread = (torch.stack(parts) for parts in zip(*seen, strict=True))
        mean = points.mean(0)
        between = ((points - mean) ** 2).sum(-1).mean(0) / 2
        expected = self._expected((spread.square().mean(0) + between).sqrt(), peak.mean(0))
        sizes = on_film.sizes(film)
        enlarged = (sizes.prod() / (self.stored[0] * self.stored[1])).sqrt()
        return on_film.resize_points(mean, self.stored, sizes), enlarged * expected

    def _seen(self, read: Tensor, view: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Points (K, 2), peaks and spreads (K,) of the film (h, w) moved by a view; in px of the stored film."""
        still = np.array_equal(view, STILL)
        moved = read if still else on_film.warp(read, on_film.fixed(view), self.size)
        seen = self.reader.read(self.network(as_input(moved[None])).float())
        to_input = geometry.compose(geometry.resize_matrix(self.stored, self.size), view)
        back = on_film.fixed(geometry.invert(to_input))
        spread = on_film.area(back).sqrt() * seen.spread[0].double()
        return on_film.apply(back, seen.points[0].double()), seen.peak[0].double(), spread

    def _expected(self, spread: Tensor, peak: Tensor) -> Tensor:
        """`ExpectedError.of` of one film's spreads and peaks (K,)."""
        told = self.expected
        log = (
            told.on_spread * spread.clamp_min(FLOOR_PX).log() + told.on_peak * peak.clamp_min(FLOOR_PX).log()
        )
        log = told.intercept + log + on_film.fixed(told.by_landmark)
        return log.exp().clamp_max(told.greatest)

"""The whole system as one ONNX file: a film and a user's hints in, checked and corrected points out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.data.decode import decode_film
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
from stages.core.model.card import load_weights
from stages.core.model.prediction import LIMITS
from stages.core.params import load_params
from stages.spine import phantom
from stages.spine.checking import inference as checking
from stages.spine.correcting import inference as correcting
from stages.spine.drawing.film import FilmPlan, draw_film
from stages.spine.looping.system import System
from stages.spine.onnx_graph import (
    Correcting,
    Detecting,
    Hinted,
    OneRound,
    Refining,
    Rounds,
    as_told,
    believable,
    interpolated,
    is_given,
    spread,
    vertebra_height,
)
from stages.spine.schema import SCHEMA

HINTS, EXPECTED, WRONG, DOUBTED = "hints", "expected_error_px", "probability_wrong", "hint_doubted"


def export(model: Path, file: Path) -> Exported:
    """Write the model of a folder of spine-system as ONNX; see `write_film_model`."""
    described = film_model(model)
    return write_film_model(file, described, checks(described))


def film_model(model: Path) -> FilmModel:
    """What the writer of ONNX files needs to know of a folder of spine-system.

    Raises:
        StageError: the folder holds another model, or its weights do not fit its card.
    """
    system = System.open(model, SCHEMA)

    def answer(inputs: Inputs) -> Outputs:
        found = system.predict(inputs[FILM][None], inputs[HINTS][None].astype(np.float64))
        return {
            LANDMARKS: found.points[0],
            EXPECTED: found.expected_error[0],
            WRONG: found.wrong[0],
            DOUBTED: found.doubted[0],
        }

    inputs = {
        FILM: FILM_SAYS,
        HINTS: "(K, 2) float32, x and y in px of the film of points that a user is sure of; NaN where there is none",
    }
    outputs = {
        LANDMARKS: LANDMARKS_SAY,
        EXPECTED: "(K,) float64, px of the film: calibrated distance to the truth; 0 where a user gave the point",
        WRONG: "(K,) float64, the Detector's probability that the point is wrong; 0 where a user gave it",
        DOUBTED: "(K,) bool: the hint lies so far from where the film shows the point that no other point followed it",
    }
    return FilmModel(system.card, Graph(system, model), inputs, outputs, answer)


def checks(model: FilmModel) -> list[Inputs]:
    """Phantoms without hints; then again with some points moved, and with a hint that nobody would believe."""
    none = np.full((SCHEMA.n_points, 2), np.nan, np.float32)
    asked: list[Inputs] = [{FILM: film, HINTS: none} for film in check_films(phantoms())]
    for number, film in enumerate(given[FILM] for given in list(asked)):
        hints = none.copy()
        found = model.answer({FILM: film, HINTS: none})[LANDMARKS]
        told = [5 + number, 30, 61 - number]
        hints[told] = found[told] + [0.01 * film.shape[1], 0.02 * film.shape[0]]
        if number == 0:
            hints[told[0]] = 0.0
        asked.append({FILM: film, HINTS: hints})
    return asked


def phantoms(n: int = 3) -> list[np.ndarray]:
    """Films of spines that the lane's phantom draws."""
    drawn = load_params(phantom.Params)
    shared = drawn.model_dump(include=set(FilmPlan.__dataclass_fields__) - {"rows", "rows_per_column"})
    films = []
    with TemporaryDirectory(prefix="plumbline-") as scratch:
        for number in range(n):
            plan = FilmPlan(
                path=Path(scratch) / f"{number}.jpg", patient=number, number=number,
                rows=drawn.rows, rows_per_column=drawn.rows_per_column, **shared,
            )  # fmt: skip
            draw_film(plan)
            films.append(decode_film(plan.path, LIMITS).pixels)
    return films


class Graph(nn.Module):
    """`System.predict` for one film."""

    def __init__(self, system: System, model: Path) -> None:
        super().__init__()
        weights, params = load_weights(model), system.card.params
        detector = checking.build(params["detector"], SCHEMA, _under(weights, "detector"))
        corrector = correcting.build(params["corrector"], SCHEMA, _under(weights, "corrector"))
        self.stored, self.expected = system.model_size, system.expected
        self.propagation, rule = system.loop.propagation, system.loop.rule
        self.refine = Refining(system.loop.refiner, self.propagation, self.stored)
        self.detect = Detecting(detector, self.stored)
        one = OneRound(
            self.refine,
            self.detect,
            Correcting(corrector, self.stored),
            rule.update,
            rule.threshold,
            rule.accept,
        )
        film, points = torch.zeros(self.stored), torch.zeros(SCHEMA.n_points, 2, dtype=torch.float64)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are fixed on purpose
            _, maps = self.refine(film, points)
            again = torch.jit.trace(self.refine, (film, points))
            state = (film, points, points, points, maps, points[:, 0])
            self.hinted = torch.jit.script(Hinted(again))
            self.rounds = torch.jit.script(Rounds(torch.jit.trace(one, state), rule.rounds, rule.threshold))

    def forward(self, film: Tensor, hints: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sizes = on_film.sizes(film)
        stored = on_film.resize(film, self.stored)
        told = on_film.resize_points(hints.double(), sizes, self.stored)
        points, maps = self.refine(stored, torch.full_like(told, torch.nan))
        believed = believable(points, told, self.propagation)
        points, maps = self.hinted(stored, believed, points, maps)
        points, maps = self.rounds(stored, believed, points, maps, self.detect(stored, points, believed))
        final = as_told(points, told)
        wrong = self.detect(stored, final, told)
        score = wrong if self.expected.score == "detector" else self._spread(maps, final)
        landmarks = as_told(on_film.resize_points(final, self.stored, sizes), hints.double())
        expected = interpolated(score, self.expected.at, self.expected.heights) * vertebra_height(landmarks)
        given = is_given(told)
        return landmarks, expected * ~given, wrong, given & ~is_given(believed)

    def _spread(self, maps: Tensor, points: Tensor) -> Tensor:
        cell = self.stored[0] / maps.shape[-2]
        return spread(maps) * cell / vertebra_height(points).clamp_min(1.0)


def _under(weights: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}

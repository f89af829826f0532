"""The ONNX file goes through passes, hints and rounds as the system does, and gives its points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.export.onnx_file import FILM, LANDMARKS, Exported, Inputs, ask, session, write_film_model
from stages.spine import onnx_graph
from stages.spine.looping.propagation import Propagation
from stages.spine.looping.system import System
from stages.spine.onnx_export import DOUBTED, EXPECTED, HINTS, WRONG, film_model
from stages.spine.schema import SCHEMA
from tests.spine.drawn import draw_spines
from tests.spine.untrained import write_untrained

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

HINT = {"update": "hint", "rounds": 2, "threshold": 0.5, "accept": None}
CAREFUL = {"update": "hint", "rounds": 3, "threshold": 0.5, "accept": 0.0}
REPLACE = {"update": "replace", "rounds": 2, "threshold": 0.5, "accept": None}
OFF = {"update": "hint", "rounds": 0, "threshold": 1.0, "accept": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "hint": {"rule": HINT},
    "careful": {"rule": CAREFUL, "members": 1},
    "replace": {"rule": REPLACE, "windows": True, "score": "detector"},
    "off": {"rule": OFF, "propagates": False},
}


def asked(size: geometry.Size, told: dict[int, tuple[float, float]] | None = None) -> Inputs:
    """A drawn spine at a size, with hints as shares of its sides."""
    (film,), _ = draw_spines(np.random.default_rng(1), 1, 17)
    hints = np.full((SCHEMA.n_points, 2), np.nan, np.float32)
    for point, place in (told or {}).items():
        hints[point] = np.array(place) * [size[1], size[0]]
    return {FILM: geometry.resize(film, size), HINTS: hints}


def near(model: Path, size: geometry.Size) -> dict[int, tuple[float, float]]:
    """Hints two hundredths of the film beside what the system says of three points."""
    found = System.open(model, SCHEMA).predict(asked(size)[FILM][None]).points[0] / [size[1], size[0]]
    return {point: (found[point][0] + 0.02, found[point][1] + 0.02) for point in (3, 30, 66)}


def exported(model: Path, file: Path) -> Exported:
    return write_film_model(
        file, film_model(model), [asked((300, 151)), asked((97, 61), near(model, (97, 61)))]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_answers_as_the_system_does(kind: str, tmp_path: Path) -> None:
    model, file = write_untrained(tmp_path / "model", **KINDS[kind]), tmp_path / "m.onnx"
    told = film_model(model)
    write_film_model(file, told, [asked((300, 151)), asked((97, 61), near(model, (97, 61)))])
    opened, answer = session(file), told.answer
    size = (411, 202)
    for inputs in (
        asked((128, 64)),
        asked(size),
        asked(size, near(model, size)),
        asked(size, {0: (0.01, 0.99)}),
    ):
        found, wanted = ask(opened, inputs), answer(inputs)
        np.testing.assert_allclose(found[LANDMARKS], wanted[LANDMARKS], atol=0.02)
        np.testing.assert_allclose(found[EXPECTED], wanted[EXPECTED], atol=0.02)
        np.testing.assert_allclose(found[WRONG], wanted[WRONG], atol=1e-3)
        np.testing.assert_array_equal(found[DOUBTED], wanted[DOUBTED])
    assert found[DOUBTED][0] == (kind != "off"), "a hint at the other end of the film is doubted"
    np.testing.assert_allclose(found[LANDMARKS][0], inputs[HINTS][0], atol=1e-4)


def test_a_network_that_torch_cannot_export_is_refused_in_words(tmp_path: Path) -> None:
    """KeyBot's Refiner is one: its decoding joins conditions whose types the exporter loses."""
    with pytest.raises(StageError, match="torch cannot write this network as ONNX: ONNX export does NOT"):
        exported(write_untrained(tmp_path / "model", HINT, keybot=True, members=1), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_rounds_are_run_and_change_the_answer(tmp_path: Path) -> None:
    """Otherwise the comparison above would say nothing of them."""
    inputs = asked((411, 202))
    with_rounds = write_untrained(tmp_path / "loop", HINT)
    without = write_untrained(tmp_path / "off", {**HINT, "rounds": 0})
    one, other = (System.open(m, SCHEMA).predict(inputs[FILM][None]) for m in (with_rounds, without))
    assert np.abs(one.points - other.points).max() > 1
    assert (len(one.rounds), len(other.rounds)) == (2, 0)


def test_a_loop_that_forgets_its_hints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.spine.onnx_export.as_told", lambda points, hints: points)
    with pytest.raises(StageError, match="do not place the points alike"):
        exported(write_untrained(tmp_path / "model", CAREFUL, members=1), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_hints_carry_on_as_with_a_solved_system() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(0, 1, (2 * SCHEMA.n_points, 20))
    carried = Propagation(mixed @ mixed.T, noise=0.7, reach=3.0)
    points = rng.uniform(0, 100, (1, SCHEMA.n_points, 2))
    hints = np.full_like(points, np.nan)
    hints[0, [2, 40, 41]] = points[0, [2, 40, 41]] + rng.normal(0, 3, (3, 2))
    mine = onnx_graph.propagated(
        torch.from_numpy(points[0]), torch.from_numpy(hints[0]), torch.from_numpy(carried.covariance), 0.7**2
    )
    np.testing.assert_allclose(mine, carried.apply(points, hints)[0])
    assert np.abs(mine.numpy() - points[0]).max() > 0.1


def test_knots_are_joined_as_numpy_does_it() -> None:
    x, at, values = np.linspace(-1, 5, 50), (0.0, 0.5, 3.0), (1.0, 1.0, 4.0)
    mine = onnx_graph.interpolated(torch.from_numpy(x), at, values)
    np.testing.assert_allclose(mine, np.interp(x, at, values))

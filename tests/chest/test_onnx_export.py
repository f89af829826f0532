"""The ONNX file holds both steps, the aligned crop between them, all members, and gives points and radii."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.chest import onnx_export
from stages.chest.alignment import Canonical
from stages.chest.onnx_export import RADIUS, film_model
from stages.chest.predict import radii_on
from stages.chest.projection import project
from stages.chest.schema import CHEST
from stages.chest.system_model import TrainedSystem
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.export.onnx_file import FILM, LANDMARKS, ask, session, write_film_model

from .shapes import random_shapes
from .untrained import write_untrained

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def films(*sizes: geometry.Size) -> list[np.ndarray]:
    grains = np.random.default_rng(4).integers(16, 240, (9, 7)).astype(np.uint8)
    return [geometry.resize(grains, size) for size in sizes]


def exported(model: Path, file: Path) -> TrainedSystem:
    trained = TrainedSystem.open(model)
    write_film_model(file, film_model(trained), [{FILM: film} for film in films((299, 299), (97, 131))])
    return trained


@pytest.mark.parametrize(
    ("answer", "project", "head"), [("mean", True, "map"), ("fine", False, "axes"), ("coarse", True, "axes")]
)
def test_the_file_answers_as_torch_does(answer: Any, project: bool, head: str, tmp_path: Path) -> None:
    trained = exported(write_untrained(tmp_path / "model", answer, project, head), tmp_path / "m.onnx")
    opened = session(tmp_path / "m.onnx")
    for film in films((299, 299), (224, 224), (331, 257), (60, 400)):
        found, wanted = ask(opened, {FILM: film}), trained.predict_film(film)
        assert found[LANDMARKS].shape == (CHEST.n_points, 2)
        np.testing.assert_allclose(found[LANDMARKS], wanted.points[0], atol=0.05)
        np.testing.assert_allclose(found[RADIUS], radii_on(film, wanted.radius[0]), rtol=0.01)


def test_mirrored_members_under_their_own_sides_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that forgets to exchange left and right on the mirrored film."""
    same = torch.arange(CHEST.n_points).numpy()
    model = write_untrained(tmp_path / "model")
    right = onnx_export.OneFrame.forward

    def forgetful(self: Any, *told: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(type(CHEST), "swap", property(lambda _: same))
            return right(self, *told)

    monkeypatch.setattr(onnx_export.OneFrame, "forward", forgetful)
    with pytest.raises(StageError, match="do not place the points alike"):
        exported(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_alignment_and_projection_are_those_of_prediction() -> None:
    shapes = random_shapes(1, 4).numpy()
    canonical = Canonical.of(shapes, 96, 0.1)
    noisy = shapes + np.random.default_rng(0).normal(0, 3, shapes.shape)
    for one, matrix, straight in zip(noisy, canonical.maps(noisy), project(noisy), strict=True):
        np.testing.assert_allclose(onnx_export.aligning(canonical, torch.from_numpy(one)), matrix)
        np.testing.assert_allclose(onnx_export.projected(torch.from_numpy(one)), straight)
